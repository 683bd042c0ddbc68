"""Figures of the Fourier heat maps.

Source: "A Fourier Perspective on Model Robustness in Computer Vision", Figures 3 and 4. Frequencies
are in cycles per image; rows run downwards, as in an image.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from bandlimit.plots.style import (
    BLUE,
    DARK_GREY,
    DPI,
    GREEN,
    ORANGE,
    PAGE,
    PINK,
    SKY,
    VERMILLION,
    Floats,
    Look,
    add_legend,
    check_columns,
    finish,
    label_left,
    make_panels,
    points_of,
    span,
    style,
    wrapped,
)
from bandlimit.studies.frequency_principle.settings import (
    ADVERSARIAL,
    AUTOAUGMENT,
    GAUSSIAN,
    NATURAL,
)

MAP = "viridis"
"""Colour map of error rates: even to the eye, and safe for colour-blind."""

COLUMNS = 3

PANEL = 2.3
"""Height of a heat map with its title, in inches."""

LOOKS: Mapping[str, Look] = {
    NATURAL: Look("natural", BLUE, "o", "-"),
    GAUSSIAN: Look("Gaussian noise", GREEN, "s", (0, (5, 1.5))),
    ADVERSARIAL: Look("adversarial", VERMILLION, "^", (0, (6, 1.5, 1, 1.5))),
    AUTOAUGMENT: Look("AutoAugment", SKY, "*", (0, (2, 1, 1, 1))),
}
"""Looks of networks by their training."""

OTHERS = (
    Look("", ORANGE, "D", (0, (4, 2))),
    Look("", PINK, "P", (0, (2, 1))),
    Look("", DARK_GREY, "X", "-"),
    Look("", SKY, "v", (0, (3, 1, 1, 1, 1, 1))),
)
"""Looks of networks that go by their names, in turn."""


CLEAN: Mapping[str, Any] = {"linestyle": (0, (1, 1.5)), "linewidth": 0.9}
"""Look of the error on clean images."""


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


def _looks(names: Sequence[str]) -> dict[str, Look]:
    """Return the look of each network by what it is called."""
    known = {look.label: look for look in LOOKS.values()}
    others = zip([name for name in names if name not in known], itertools.cycle(OTHERS))
    return known | {name: replace(look, label=name) for name, look in others}


def draw_maps(table: pd.DataFrame, experiments: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the heat map of each network, side by side, with one colour bar.

    Args:
        table: `heat_map_frequencies`, of which the main norm is drawn.
        experiments: what the catalogue tells of them.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        table, ("dataset", "network", "main", "seeds", "images", "down", "right", "error")
    )
    table = table[table["main"]]
    panels = [
        (e, label, table[(table["dataset"] == e["dataset"]) & (table["network"] == name)])
        for e in experiments
        for name, label in labels(e).items()
    ]
    # One scale for all, from a round number to a round number.
    least = float(np.floor(10 * table["error"].min() + 1e-9) / 10)
    greatest = max(float(np.ceil(10 * table["error"].max() - 1e-9) / 10), least + 0.1)
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
                vmin=least,
                vmax=greatest,
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


def draw_radii(
    table: pd.DataFrame, comparisons: pd.DataFrame, experiments: Sequence[Mapping[str, Any]]
) -> Figure:
    """Draw the error of networks by radius, and the error of natural ones less that of others.

    Networks with and without BatchNorm have panels of their own, as has each dataset.

    Args:
        table: `heat_maps`, of which the main norm is drawn.
        comparisons: `heat_map_comparisons`, the same.
        experiments: what the catalogue tells of them.

    Raises:
        ValueError: a column is missing.
    """
    names = ("dataset", "network", "main", "region", "radius", "seeds", "images")
    check_columns(table, (*names, "clean", "error", "error_low", "error_high"))
    check_columns(comparisons, (*names, "difference", "difference_low", "difference_high"))
    of_errors, of_differences = (
        t[t["main"] & (t["region"] == "ring")] for t in (table, comparisons)
    )
    headings, panels = [], []
    for e in experiments:
        for batchnorm in (False, True):
            own = [n for n in e["networks"] if n["batchnorm"] == batchnorm]
            for rings, what in ((of_errors, "error"), (of_differences, "difference")):
                among = rings["network"].isin([n["name"] for n in own])
                rows = rings[among & (rings["dataset"] == e["dataset"])]
                if len(rows):
                    headings.append((e["dataset"], _normalised(batchnorm), _facts(rows)))
                    panels.append((e, own, rows, what))
    with style():
        figure, grid = make_panels(headings, 2.5)
        entries: dict[str, Any] = {}
        for axes, (e, own, rows, what) in zip(grid, panels, strict=True):
            named = labels(e)
            lines = {
                n["name"]: LOOKS[n["training"]].label
                if named[n["name"]] != n["name"]
                else n["name"]
                for n in own
            }
            looks = _looks(list(dict.fromkeys(lines.values())))
            for network, label in lines.items():
                columns = (what, f"{what}_low", f"{what}_high")
                found = rows[rows["network"] == network]
                radius, value, low, high = points_of(found, "radius", columns)
                if not len(radius):
                    continue
                look = looks[label]
                axes.fill_between(radius, low, high, color=look.color, alpha=0.15, linewidth=0)
                every = max(1, len(radius) // 8)
                entries[label] = axes.plot(radius, value, **look.line(), markevery=every)[0]
                if what == "error":
                    axes.axhline(found["clean"].iloc[0], color=look.color, **CLEAN)
            axes.set_xlabel("radius, cycles per image")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if what == "error":
                axes.set_ylabel("error rate")
                axes.set_ylim(0, None)
            else:
                axes.set_ylabel("error rate, natural less other")
                axes.axhline(0, color=DARK_GREY, linewidth=0.8)
        entries["on clean images"] = Line2D([], [], color=DARK_GREY, **CLEAN)
        add_legend(figure, entries)
        return finish(figure)
