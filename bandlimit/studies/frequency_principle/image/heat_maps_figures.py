"""Figures of the Fourier heat maps.

Source: "A Fourier Perspective on Model Robustness in Computer Vision", Figures 3 and 4. Frequencies
are in cycles per image; rows run downwards, as in an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from bandlimit.plots.style import (
    BLUE,
    DARK_GREY,
    DPI,
    GREEN,
    PAGE,
    VERMILLION,
    Floats,
    Look,
    add_legend,
    check_columns,
    finish,
    label_left,
    looks_of,
    make_panels,
    points_of,
    span,
    style,
    wrapped,
)
from bandlimit.studies.frequency_principle.settings import ADVERSARIAL, GAUSSIAN, NATURAL

MAP = "viridis"
"""Colour map of error rates: even to the eye, and safe for colour-blind."""

COLUMNS = 3

PANEL = 2.3
"""Height of a heat map with its title, in inches."""

LOOKS: Mapping[str, Look] = {
    NATURAL: Look("natural", BLUE, "o", "-"),
    GAUSSIAN: Look("Gaussian noise", GREEN, "s", (0, (5, 1.5))),
    ADVERSARIAL: Look("adversarial", VERMILLION, "^", (0, (6, 1.5, 1, 1.5))),
}
"""Looks of networks by their training."""


def plane(rows: pd.DataFrame, e: Mapping[str, Any]) -> tuple[Floats, Floats, Floats]:
    """Return error rates on the whole plane, the half that was not shown by symmetry.

    Args:
        rows: of the table `heat_map_frequencies`, of one network.
        e: its experiment: sides, stride, and bandwidth.

    Returns:
        Rows and columns of the plane in cycles per image, and the rates, NaN where there are none.
    """
    height, width = e["sides"]
    known = {
        (int(i), int(j)): float(error)
        for i, j, error in zip(rows["down"], rows["right"], rows["error"], strict=True)
    }
    down, right = (
        np.array(
            [
                i
                for i in range(-(side // 2), (side + 1) // 2)
                if i % e["stride"] == 0 and (e["bandwidth"] is None or 2 * abs(i) < e["bandwidth"])
            ]
        )
        for side in (height, width)
    )

    def rate(i: int, j: int) -> float:
        # The highest frequency of an even side is its own opposite there.
        opposite = (i if 2 * i == -height else -i, j if 2 * j == -width else -j)
        return known.get((i, j), known.get(opposite, np.nan))

    return down, right, np.array([[rate(int(i), int(j)) for j in right] for i in down])


def labels(e: Mapping[str, Any]) -> dict[str, str]:
    """Return what the networks of an experiment are called, by name: how they were trained.

    The name itself, where that is not known here or is not theirs alone.
    """
    own = {
        n["name"]: f"{LOOKS[n['training']].label}, {_normalised(n['batchnorm'])}"
        if n["trained"]
        else n["name"]
        for n in e["networks"]
    }
    told = list(own.values())
    return {name: text if told.count(text) == 1 else name for name, text in own.items()}


def _normalised(batchnorm: bool) -> str:
    return "BatchNorm" if batchnorm else "no BatchNorm"


def _facts(rows: pd.DataFrame) -> str:
    seeds = span(rows["seeds"])
    return f"N = {span(rows['images'])}" + (f", {seeds} seeds" if seeds != "1" else "")


def draw_maps(table: pd.DataFrame, experiments: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the heat map of each network, side by side, with one colour bar.

    Args:
        table: `heat_map_frequencies`.
        experiments: what the catalogue tells of them.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(table, ("dataset", "network", "seeds", "images", "down", "right", "error"))
    panels = [
        (e, label, table[(table["dataset"] == e["dataset"]) & (table["network"] == name)])
        for e in experiments
        for name, label in labels(e).items()
    ]
    # One scale for all, up to a round number.
    top = float(np.ceil(10 * table["error"].max() - 1e-9) / 10) or 0.1
    columns = min(COLUMNS, len(panels))
    lines = -(-len(panels) // columns)
    width = PAGE * (columns + 0.4) / (COLUMNS + 0.4)
    with style():
        figure = Figure(figsize=(width, PANEL * lines), dpi=DPI, layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.ravel()[len(panels) :]:
            axes.remove()
        used = list(grid.ravel()[: len(panels)])
        for place, (axes, (e, label, rows)) in enumerate(zip(used, panels, strict=True)):
            down, right, rates = plane(rows, e)
            half = e["stride"] / 2
            shown = axes.imshow(
                rates,
                cmap=MAP,
                vmin=0,
                vmax=top,
                interpolation="nearest",
                extent=(right[0] - half, right[-1] + half, down[-1] + half, down[0] - half),
            )
            heading = f"{e['dataset']}\n" if len(experiments) > 1 else ""
            axes.set_title(wrapped(f"{heading}{label}\n{_facts(rows)}", width / (columns + 0.4)))
            axes.grid(visible=False)
            for axis, offsets in ((axes.xaxis, right), (axes.yaxis, down)):
                reach = int(offsets.max())
                step = max(1, reach // 2)
                axis.set_major_locator(FixedLocator([-2 * step, -step, 0, step, 2 * step]))
            # The last one of its column.
            if place + columns >= len(panels):
                axes.set_xlabel("right, cycles per image")
        label_left(used, "down, cycles per image")
        bar = figure.colorbar(shown, ax=used, aspect=30, pad=0.02)
        bar.set_label("error rate")
        bar.outline.set_linewidth(0.6)
        return finish(figure)


def draw_radii(table: pd.DataFrame, experiments: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the error of networks by radius, a panel for each dataset with and without BatchNorm.

    Args:
        table: `heat_maps`.
        experiments: what the catalogue tells of them.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        table,
        ("dataset", "network", "batchnorm", "region", "radius", "clean", "error", "error_low"),
    )
    rings = table[table["region"] == "ring"]
    panels = [
        (e, batchnorm, [n for n in e["networks"] if n["batchnorm"] == batchnorm])
        for e in experiments
        for batchnorm in (False, True)
        if any(n["batchnorm"] == batchnorm for n in e["networks"])
    ]
    with style():
        headings = [
            (e["dataset"], _normalised(batchnorm), _facts(rings[_among(rings, e, own)]))
            for e, batchnorm, own in panels
        ]
        figure, grid = make_panels(headings, 2.6, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (e, _, own) in zip(grid, panels, strict=True):
            named = labels(e)
            lines = {
                n["name"]: LOOKS[n["training"]].label
                if named[n["name"]] != n["name"]
                else n["name"]
                for n in own
            }
            looks = looks_of(lines.values(), {look.label: look for look in LOOKS.values()})
            for network, label in lines.items():
                rows = rings[(rings["dataset"] == e["dataset"]) & (rings["network"] == network)]
                columns = ("error", "error_low", "error_high", "clean")
                radius, error, low, high, clean = points_of(rows, "radius", columns)
                look = looks[label]
                axes.fill_between(radius, low, high, color=look.color, alpha=0.2, linewidth=0)
                every = max(1, len(radius) // 8)
                entries[label] = axes.plot(radius, error, **look.line(), markevery=every)[0]
                axes.axhline(clean[0], color=look.color, linestyle=(0, (1, 1.5)), linewidth=0.9)
            axes.set_xlabel("radius of the frequency, cycles per image")
            axes.set_ylim(0, None)
        entries["on clean images"] = Line2D([], [], color=DARK_GREY, linestyle=(0, (1, 1.5)))
        label_left(grid, "error rate")
        add_legend(figure, entries)
        return finish(figure)


def _among(
    rings: pd.DataFrame, e: Mapping[str, Any], networks: Sequence[Mapping[str, Any]]
) -> pd.Series:
    """Return which rows are of some networks of an experiment."""
    names = [network["name"] for network in networks]
    return (rings["dataset"] == e["dataset"]) & rings["network"].isin(names)
