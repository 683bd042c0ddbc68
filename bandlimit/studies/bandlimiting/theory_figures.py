"""Figures of theory: linear regions of a network, and what averaging does to frequencies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from bandlimit.plots.style import (
    BLUE,
    DARK_GREY,
    DPI,
    GREEN,
    GREY,
    PAGE,
    SKY,
    VERMILLION,
    YELLOW,
    Floats,
    add_legend,
    check_columns,
    finish,
    points_of,
    style,
)

LAYER_STYLE = (
    ("black", 1.0),
    (BLUE, 0.7),
    (VERMILLION, 0.45),
)
"""Colour and width of the kinks of layers 1, 2, 3; deeper layers look like the last."""


def linear_regions(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the linear regions of a small network and the minimal adversarial step across them.

    The left panel shows all, the right one the step from A to B from near, with the points where it
    crosses a kink.

    Source: Bandlimiting, Figure 1 (a sketch there, with black, blue and red lines).

    Args:
        tables: 'polygons', 'segments', 'decision', 'crossings', 'points' and 'step', as
            `regions.figure_1` returns them.

    Raises:
        ValueError: a table is missing.
    """
    needed = ("polygons", "segments", "decision", "crossings", "points", "step")
    missing = [name for name in needed if name not in tables]
    if missing:
        raise ValueError(f"tables {missing} are missing, got {list(tables)}")
    with style():
        polygons = tables["polygons"]
        left, right = polygons["x"].min(), polygons["x"].max()
        bottom, top = polygons["y"].min(), polygons["y"].max()
        shape = (right - left) / (top - bottom)
        # The panels are about 2.95 inches wide; title and labels take the rest of the height.
        height = 0.65 + 2.95 / shape
        figure = Figure(figsize=(PAGE, height), dpi=DPI, layout="constrained")
        whole, near = figure.subplots(1, 2)
        entries: dict[str, Any] = {}
        for axes, zoom in ((whole, 1.0), (near, 1.6)):
            entries |= _draw_regions(axes, tables, zoom)
            axes.set_aspect("equal")
            axes.grid(False)
            axes.set_xlabel("input 1")
        whole.set_ylabel("input 2")
        whole.set_xlim(left, right)
        whole.set_ylim(bottom, top)
        step = tables["step"].set_index("name")
        (ax, ay), (bx, by) = step.loc["A", ["x", "y"]], step.loc["B", ["x", "y"]]
        # The same shape as the whole, wide enough for the step and its surroundings.
        half = 0.75 * max(abs(bx - ax) / shape, abs(by - ay), 1e-9)
        x, y = (ax + bx) / 2, (ay + by) / 2
        near.set_xlim(x - half * shape, x + half * shape)
        near.set_ylim(y - half, y + half)
        window = (x - half * shape, y - half)
        look: dict[str, Any] = {"linewidth": 0.9, "linestyle": (0, (2, 1)), "edgecolor": "black"}
        whole.add_patch(Rectangle(window, 2 * half * shape, 2 * half, fill=False, zorder=3, **look))
        regions = polygons["region"].nunique()
        whole.set_title(f"{regions} linear regions")
        count = len(tables["crossings"])
        near.set_title(f"from A to B: {count} kink{'' if count == 1 else 's'} crossed")
        # Beside the ends, away from the step.
        length = max(math.hypot(bx - ax, by - ay), 1e-9)
        for name, place, sign in (("A", (ax, ay), -1), ("B", (bx, by), 1)):
            near.annotate(
                name,
                place,
                (sign * 10 * (bx - ax) / length, sign * 10 * (by - ay) / length),
                textcoords="offset points",
                ha="center",
                va="center",
                weight="bold",
                path_effects=[withStroke(linewidth=2, foreground="white")],
            )
        add_legend(figure, entries)
        return finish(figure)


def _draw_regions(axes: Axes, tables: Mapping[str, pd.DataFrame], zoom: float) -> dict[str, Any]:
    """Draw regions, kinks, boundary, data and step in one panel; return the legend's entries."""
    polygons = tables["polygons"].sort_values(["region", "vertex"], kind="stable")
    corners, shades = [], []
    places, regions = polygons[["x", "y"]].to_numpy(), polygons["region"].to_numpy()
    starts = np.flatnonzero(np.diff(regions, prepend=np.nan))
    for number, own in zip(regions[starts], np.split(places, starts[1:]), strict=True):
        corners.append(own)
        # Neighbours have far numbers or near ones; the golden ratio gives both unlike shades.
        shades.append(str(0.88 + 0.12 * ((int(number) * 0.6180339887) % 1)))
    axes.add_collection(
        PolyCollection(corners, facecolors=shades, edgecolors="face", linewidths=0.2)
    )
    entries: dict[str, Any] = {}
    segments = tables["segments"]
    # Deep layers below, so that the bold lines of the first stay whole.
    for layer in sorted(segments["layer"].unique(), reverse=True):
        color, width = LAYER_STYLE[min(int(layer), len(LAYER_STYLE)) - 1]
        rows = segments[segments["layer"] == layer]
        axes.add_collection(
            LineCollection(_ends(rows), colors=color, linewidths=zoom * width, capstyle="round")
        )
        entries[f"kink, layer {layer}"] = Line2D([], [], color=color, linewidth=1.6 * width)
    entries = dict(reversed(entries.items()))
    boundary = _ends(tables["decision"])
    for color, width in (("black", 3.2), (YELLOW, 1.8)):
        axes.add_collection(
            LineCollection(boundary, colors=color, linewidths=width, capstyle="round")
        )
    entries["decision boundary"] = Line2D(
        [],
        [],
        color=YELLOW,
        linewidth=1.8,
        path_effects=[withStroke(linewidth=3.2, foreground="black")],
    )
    points = tables["points"]
    for label in sorted(points["label"].unique()):
        rows = points[points["label"] == label]
        entries[f"data, class {label}"] = axes.plot(
            rows["x"],
            rows["y"],
            linestyle="",
            marker="o^"[int(label) % 2],
            markersize=2.4 * zoom,
            markerfacecolor=("white", GREY)[int(label) % 2],
            markeredgecolor="black",
            markeredgewidth=0.4,
        )[0]
    step = tables["step"].set_index("name").loc[["A", "B"], ["x", "y"]].to_numpy(float)
    if zoom > 1:
        entries |= _draw_crossings(axes, tables["crossings"])
    axes.annotate(
        "",
        step[1],
        step[0],
        arrowprops={
            "arrowstyle": "-|>",
            "color": GREEN,
            "linewidth": zoom,
            "shrinkA": 2.4 * zoom,
            "shrinkB": 0,
            "mutation_scale": 7 * zoom,
            "path_effects": [withStroke(linewidth=2.2 * zoom, foreground="white")],
        },
        zorder=6,
    )
    ring: dict[str, Any] = {"marker": "o", "markersize": 4.8 * zoom, "markerfacecolor": "none"}
    axes.plot(*step[0], **ring, markeredgecolor=GREEN, markeredgewidth=0.8 * zoom)
    entries["adversarial step"] = Line2D([], [], color=GREEN, linewidth=zoom, marker=">")
    return entries


def _ends(rows: pd.DataFrame) -> list[Floats]:
    """Return segments, each as 2 ends x 2 coordinates."""
    return list(rows[["x0", "y0", "x1", "y1"]].to_numpy(np.float64).reshape(-1, 2, 2))


def _draw_crossings(axes: Axes, crossings: pd.DataFrame) -> dict[str, Any]:
    """Mark where the step crosses kinks, in the colours of their layers."""
    entries = {}
    for layer in sorted(crossings["layer"].unique()):
        color, _ = LAYER_STYLE[min(int(layer), len(LAYER_STYLE)) - 1]
        rows = crossings[crossings["layer"] == layer]
        entries[f"crossed, layer {layer}"] = axes.plot(
            rows["x0"],
            rows["x1"],
            linestyle="",
            marker="osD"[min(int(layer), 3) - 1],
            markersize=4.4,
            color=color,
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=7,
        )[0]
    return entries


def response(frame: pd.DataFrame) -> Figure:
    """Draw how the sampler that is used damps frequencies, beside the ball average it stands for.

    A linear panel shows the spread of single draws, a logarithmic one the floor. The Gaussian
    exp(-t^2 / (2 (n + 2))), which the ball's response approaches, is the one curve that isn't in
    the table.

    Source: Bandlimiting, eqs. 6-8; the comparison is ours.

    Args:
        frame: columns dimension (n), radius, directions (K), t_over_sqrt_n (t = r |omega|), ball,
            measured, closed_form, closed_form_deviation and floor, as
            `theory.sampler_response_records` gives them; a row of panels per (n, r, K).

    Raises:
        ValueError: a column is missing, or a line has two rows of one frequency.
    """
    curves = ("ball", "measured", "closed_form", "closed_form_deviation", "floor")
    check_columns(frame, ["dimension", "radius", "directions", "t_over_sqrt_n", *curves])
    with style():
        groups = list(frame.groupby(["dimension", "radius", "directions"], sort=True))
        figure = Figure(figsize=(PAGE, 2.4 * max(1, len(groups))), dpi=DPI, layout="constrained")
        grid = figure.subplots(max(1, len(groups)), 2, squeeze=False)
        entries: dict[str, Any] = {}
        for (linear, logarithmic), ((n, radius, directions), rows) in zip(
            grid, groups, strict=False
        ):
            x, ball, measured, mean, deviation, floor = points_of(rows, "t_over_sqrt_n", curves)
            if not len(x):
                continue
            dense = np.linspace(x.min(), x.max(), 400)
            gaussian = np.exp(-(dense**2) * n / (2 * (n + 2)))
            entries["one draw, mean ± 1 sd"] = linear.fill_between(
                x, mean - deviation, mean + deviation, color=SKY, alpha=0.35, linewidth=0
            )
            for axes, seen in ((linear, np.asarray), (logarithmic, _positive)):
                entries["sampler, expected"] = axes.plot(x, seen(mean), color=BLUE)[0]
                entries["sampler, measured mean"] = axes.plot(
                    x, seen(measured), color=BLUE, linestyle="", marker="o", markerfacecolor="white"
                )[0]
                entries["ball average (ideal)"] = axes.plot(
                    x, seen(ball), color=VERMILLION, marker="s", markersize=3
                )[0]
                entries["Gaussian approximation"] = axes.plot(
                    dense, gaussian, color="black", linestyle=(0, (1, 1.2)), linewidth=1.4
                )[0]
                entries["floor 1/(6K+1)"] = axes.axhline(
                    floor[0], color=DARK_GREY, linestyle="--", linewidth=0.9
                )
                axes.set_xlabel("r |ω| / √n")
            entries["sd of one draw"] = logarithmic.plot(
                x, _positive(deviation), color=GREEN, linestyle=(0, (6, 1.5, 1, 1.5))
            )[0]
            linear.set_ylabel("response")
            linear.set_title(f"n = {n:g}, r = {radius:g}, K = {directions:g}")
            logarithmic.set_yscale("log")
            logarithmic.set_ylim(1e-3, 1.5)
            logarithmic.set_ylabel("size of response")
            logarithmic.set_title("the same, logarithmic")
        add_legend(figure, entries)
        return finish(figure)


def _positive(values: Floats) -> Floats:
    """Return absolute values, and NaN for 0, as a logarithmic axis shows them."""
    return np.where(values == 0, np.nan, np.abs(values))
