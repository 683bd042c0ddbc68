"""Figures, drawn from tables alone, and the certificate that each picture carries.

Each drawing function takes a pandas frame and returns a matplotlib Figure: what is to be shown has
been computed before, so a new colour re-runs no evaluation. No function uses pyplot or leaves
a setting of matplotlib changed.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    FixedFormatter,
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
)
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray
from PIL import Image

from bandlimit import lineage, store
from bandlimit.errors import UserError

Floats = NDArray[np.float64]

COLUMN = 3.4
"""Width of a figure with one panel, in inches: a column of a paper."""

PAGE = 7.0
"""Width of a figure with several panels, in inches: a page of a paper."""

DPI = 300
POINTS = 8
PNG_KEY = "bandlimit.certificate"
"""Name of the text chunk of a PNG that holds the certificate."""

PALETTE = tuple(seaborn.color_palette("colorblind").as_hex())
BLUE, ORANGE, GREEN, VERMILLION, PINK, BROWN, _, GREY, YELLOW, SKY = PALETTE
DARK_GREY = "#5a5a5a"


@dataclass(frozen=True)
class Look:
    """How one line is drawn: told apart by colour, by marker, and by dashes."""

    label: str
    color: str
    marker: str
    dashes: Any

    def line(self) -> dict[str, Any]:
        """Return it as arguments of `Axes.plot`."""
        return {
            "label": self.label,
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dashes,
        }


ATTACK_STYLE: Mapping[str, Look] = {
    "fgsm_minimal": Look("FGSM (minimal)", BLUE, "o", "-"),
    "pgd_minimal": Look("PGD (minimal)", ORANGE, "s", (0, (5, 1.5))),
    "deepfool_l2": Look("DeepFool L2", GREEN, "^", (0, (6, 1.5, 1, 1.5))),
    "carlini_wagner_l2": Look("C&W L2", PINK, "D", (0, (1, 1))),
    "deepfool_linf": Look("DeepFool L∞", BROWN, "v", (0, (3, 1, 1, 1, 1, 1))),
    "fgsm": Look("FGSM (fixed)", SKY, "P", "-"),
    "pgd": Look("PGD (fixed)", VERMILLION, "X", (0, (5, 1.5))),
}
"""Look of each attack, the same in all figures."""

KIND_STYLE: Mapping[str, Look] = {
    "adversarial": Look("adversarial", VERMILLION, "o", "-"),
    "gaussian": Look("random, Gaussian", BLUE, "s", (0, (5, 1.5))),
    "signs": Look("random, signs", GREEN, "^", (0, (1, 1))),
}
"""Look of each kind of perturbation whose crossings are counted."""

OTHER_STYLE = (
    Look("", DARK_GREY, "h", (0, (2, 1))),
    Look("", "black", "p", (0, (2, 2))),
    Look("", VERMILLION, "<", (0, (2, 1, 1, 1))),
    Look("", BLUE, ">", (0, (4, 2))),
)
"""Looks of names that have none of their own, in turn."""

LAYER_STYLE = (
    ("black", 1.0),
    (BLUE, 0.7),
    (VERMILLION, 0.45),
)
"""Colour and width of the kinks of layers 1, 2, 3; deeper layers look like the last."""


@contextmanager
def style() -> Iterator[None]:
    """Set the look of all figures within the block; afterwards the settings are as before.

    A user's own matplotlib settings don't show, and the font is the one matplotlib brings along, so
    figures are the same everywhere. PDF embeds TrueType text, SVG keeps text as text.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                **seaborn.axes_style("ticks"),
                **seaborn.plotting_context("paper"),
                "font.family": "sans-serif",
                "font.sans-serif": ["DejaVu Sans"],
                "font.size": POINTS,
                "axes.titlesize": POINTS,
                "axes.labelsize": POINTS,
                "xtick.labelsize": POINTS,
                "ytick.labelsize": POINTS,
                "legend.fontsize": POINTS,
                "axes.linewidth": 0.6,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": "0.9",
                "grid.linewidth": 0.5,
                "xtick.major.width": 0.6,
                "ytick.major.width": 0.6,
                "xtick.major.size": 3,
                "ytick.major.size": 3,
                "xtick.minor.width": 0.6,
                "xtick.minor.size": 2,
                "ytick.minor.size": 0,
                "lines.linewidth": 1.2,
                "lines.markersize": 3.6,
                "lines.markeredgewidth": 0.9,
                "legend.frameon": False,
                "legend.handlelength": 2.6,
                "legend.columnspacing": 1.2,
                "pdf.fonttype": 42,
                "svg.fonttype": "none",
                "svg.hashsalt": "bandlimit",
            }
        )
        yield


# Parts of a figure -------------------------------------------------------------------------------


def _check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ValueError(f"columns {missing} are missing, got {list(frame.columns)}")


def _values(column: pd.Series) -> Floats:
    """Return a column as float64, with NaN for any kind of null."""
    return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)


def _looks(names: Iterable[str], known: Mapping[str, Look]) -> dict[str, Look]:
    """Return the look of each name: known ones first, in their fixed order, then the others."""
    present = set(names)
    looks = {name: look for name, look in known.items() if name in present}
    others = zip(sorted(present - set(known)), itertools.cycle(OTHER_STYLE))
    return looks | {name: replace(look, label=name) for name, look in others}


def _panels(
    headings: Sequence[tuple[str, str, str]], height: float, **kwargs: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel per heading, and its axes; one panel if there is none.

    A heading is a dataset, a model, and a line of facts. `height` is that of a panel with its
    labels, in inches.
    """
    count = max(1, len(headings))
    columns = 2 if count == 4 else min(count, 3)
    rows = math.ceil(count / columns)
    width = COLUMN if count == 1 else PAGE
    figure = Figure(figsize=(width, rows * height), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **kwargs).ravel()
    for axes in grid[count:]:
        axes.remove()
    # All panels break the line if one has to, so that their titles are alike.
    room = 14 * width / columns
    names = ", " if all(len(f"{d}, {m}") <= room for d, m, _ in headings) else ",\n"
    for axes, (dataset, model, facts) in zip(grid, headings, strict=False):
        axes.set_title(f"{dataset}{names}{model}\n{facts}")
    return figure, list(grid[:count])


def _legend(figure: Figure, entries: Mapping[str, Any]) -> None:
    """Put a legend of all panels below them; the figure grows, the panels keep their size."""
    if not entries:
        return
    width, height = figure.get_size_inches()
    rows = math.ceil(len(entries) / (2 if width < PAGE else 4))
    columns = math.ceil(len(entries) / rows)
    figure.set_size_inches(width, height + 0.08 + 0.17 * rows)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)


def _done(figure: Figure) -> Figure:
    """Name panels without data; lay the figure out for good, so that all its files agree."""
    for axes in figure.axes:
        # The second axes of a twin have no ground of their own.
        if not axes.has_data() and not axes.texts and axes.patch.get_visible():
            axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes)
    figure.draw_without_rendering()
    # Ticks depend on settings, and those are others when someone draws the figure later.
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(list(axis.get_majorticklocs())))
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _span(column: pd.Series) -> str:
    """Return a number, or the range of several, as text; nulls don't count."""
    values = _values(column)
    values = values[np.isfinite(values)]
    if not len(values):
        return "none"
    low, high = f"{values.min():.10g}", f"{values.max():.10g}"
    return low if low == high else f"{low} to {high}"


def _points(rows: pd.DataFrame, x: str, names: Sequence[str]) -> tuple[Floats, ...]:
    """Return columns x and names where neither x nor the first name is null, ordered by x.

    Raises:
        ValueError: two rows have the same x, so they belong to different lines.
    """
    columns = [_values(rows[name]) for name in (x, *names)]
    kept = np.isfinite(columns[0]) & np.isfinite(columns[1])
    columns = [column[kept] for column in columns]
    order = np.argsort(columns[0], kind="stable")
    if len(np.unique(columns[0])) < len(order):
        raise ValueError(f"a line has several rows with the same {x}")
    return tuple(column[order] for column in columns)


def _rates(axes: Axes, rows: pd.DataFrame, x: str, look: Look, shift: float = 0.0) -> Any:
    """Draw one line of rates with their intervals; return it, or None if no point exists.

    It is shifted sideways by so many typographic points, so that intervals don't hide each other.
    """
    place, rate, low, high = _points(rows, x, ("defense_rate", "low", "high"))
    if not len(place):
        return None
    bars = axes.vlines(place, low, high, color=look.color, linewidth=0.8, alpha=0.7)
    line = axes.plot(place, rate, **look.line())[0]
    # Set afterwards, since the limits of the axes come from the data alone.
    shifted = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    for artist in (bars, line):
        artist.set_transform(shifted)
    return line


def _rate_panel(axes: Axes, rows: pd.DataFrame, x: str, entries: dict[str, Any]) -> None:
    """Draw the defence rates of all attacks of a panel, adding to the entries of the legend."""
    absent = []
    attacked = rows[rows["attack"] != "clean"]
    looks = _looks(attacked["attack"], ATTACK_STYLE)
    for number, (name, look) in enumerate(looks.items()):
        shift = 1.2 * (number - (len(looks) - 1) / 2)
        line = _rates(axes, attacked[attacked["attack"] == name], x, look, shift)
        if line is None:
            absent.append(look.label)
        else:
            entries.setdefault(look.label, line)
    if absent:
        axes.text(
            0.5,
            0.45,
            "\n".join(["no adversarial image:", *absent]),
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=DARK_GREY,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0},
        )
    # Room for whole markers at 0 and 1.
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(np.linspace(0, 1, 6))


def _sorted_entries(entries: Mapping[str, Any], known: Mapping[str, Look]) -> dict[str, Any]:
    """Return the legend's entries in the fixed order of looks, others behind."""
    order = [look.label for look in known.values()]
    names = sorted(entries, key=lambda name: order.index(name) if name in order else len(order))
    return {name: entries[name] for name in names}


# Figures -----------------------------------------------------------------------------------------


def defense_rate_by_radius(frame: pd.DataFrame) -> Figure:
    """Draw the defence rate of each attack over the radius of averaging, a panel per model.

    Source: Bandlimiting, Figure 2.

    Args:
        frame: columns dataset, model, attack, radius (L2, standardised input space), directions
            (K), adversarial (number of images), defense_rate, low, high (interval, in [0, 1]).
            Rows of attack 'clean' hold the defended accuracy on clean images. Rows without a rate
            are skipped, and an attack without any is named in its panel.

    Raises:
        ValueError: a column is missing, or a line has two rows of one radius.
    """
    _check_columns(
        frame,
        ["dataset", "model", "attack", "radius", "directions", "adversarial"]
        + ["defense_rate", "low", "high"],
    )
    with style():
        groups = list(frame.groupby(["dataset", "model"], sort=True))
        headings = []
        for (dataset, model), rows in groups:
            count = _span(rows.loc[rows["attack"] != "clean", "adversarial"])
            facts = f"N = {count} adversarial, K = {_span(rows['directions'])}"
            headings.append((dataset, model, facts))
        figure, grid = _panels(headings, 2.4, sharey=True)
        entries: dict[str, Any] = {}
        look = Look("clean accuracy, defended", DARK_GREY, "", "--")
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _rate_panel(axes, rows, "radius", entries)
            line = _rates(axes, rows[rows["attack"] == "clean"], "radius", look)
            if line is not None:
                entries[look.label] = line
        for axes in grid:
            axes.set_xlabel("radius r (L2, standardised)")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        _label_left(grid, "defence rate")
        _legend(figure, _sorted_entries(entries, ATTACK_STYLE))
        return _done(figure)


def _label_left(grid: Sequence[Axes], label: str) -> None:
    """Label the y axis of the panels of the first column."""
    for axes in grid:
        spec = axes.get_subplotspec()
        if spec is None or spec.is_first_col():
            axes.set_ylabel(label)


def _apart(values: Floats, share: float) -> list[int]:
    """Return which of some sorted values, from the last back, are a share of the span apart."""
    kept: list[int] = []
    for i in reversed(range(len(values))):
        if not kept or values[kept[-1]] - values[i] >= share * (values[-1] - values[0]):
            kept.append(i)
    return kept[::-1]


def defense_rate_by_epsilon(frame: pd.DataFrame) -> Figure:
    """Draw the defence rate of each attack over the l_inf bound, a panel per model.

    Source: Bandlimiting, Figure 3. The axis is logarithmic, with ticks in units of 1/255.

    Args:
        frame: columns dataset, model, attack, epsilon (l_inf, [0, 1] pixels), adversarial (number
            of images), defense_rate, low, high (interval, in [0, 1]; null, as the rate is, where no
            image is adversarial: such points are skipped, and an attack without any point is named
            in its panel).

    Raises:
        ValueError: a column is missing, or a line has two rows of one epsilon.
    """
    _check_columns(
        frame,
        ["dataset", "model", "attack", "epsilon", "adversarial", "defense_rate", "low", "high"],
    )
    with style():
        groups = list(frame.groupby(["dataset", "model"], sort=True))
        headings = [
            (*names, f"N = {_span(rows['adversarial'])} adversarial") for names, rows in groups
        ]
        figure, grid = _panels(headings, 2.4, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _rate_panel(axes, rows, "epsilon", entries)
            seen = np.unique(_values(rows["epsilon"]))
            _epsilon_axis(axes, seen[np.isfinite(seen)])
        for axes in grid:
            axes.set_xlabel("L∞ bound ε, in units of 1/255")
        _label_left(grid, "defence rate")
        _legend(figure, _sorted_entries(entries, ATTACK_STYLE))
        return _done(figure)


def _epsilon_axis(axes: Axes, epsilons: Floats) -> None:
    """Make the x axis logarithmic (linear if a bound is 0), with a tick per bound.

    Those that have room are labelled, in units of 1/255.
    """
    if len(epsilons) == 0:
        return
    places = epsilons
    if epsilons[0] > 0:
        axes.set_xscale("log")
        places = np.log(epsilons)
    labelled = epsilons[_apart(places, 0.09)]
    axes.xaxis.set_major_locator(FixedLocator(labelled.tolist()))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{255 * value:.3g}" for value in labelled]))
    axes.xaxis.set_minor_locator(FixedLocator(epsilons.tolist()))
    axes.xaxis.set_minor_formatter(NullFormatter())


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
        _legend(figure, entries)
        return _done(figure)


def _draw_regions(axes: Axes, tables: Mapping[str, pd.DataFrame], zoom: float) -> dict[str, Any]:
    """Draw regions, kinks, boundary, data and step in one panel; return the legend's entries."""
    polygons = tables["polygons"].sort_values(["region", "vertex"], kind="stable")
    corners, shades = [], []
    for number, rows in polygons.groupby("region", sort=True):
        corners.append(rows[["x", "y"]].to_numpy())
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
    _check_columns(frame, ["dimension", "radius", "directions", "t_over_sqrt_n", *curves])
    with style():
        groups = list(frame.groupby(["dimension", "radius", "directions"], sort=True))
        figure = Figure(figsize=(PAGE, 2.4 * max(1, len(groups))), dpi=DPI, layout="constrained")
        grid = figure.subplots(max(1, len(groups)), 2, squeeze=False)
        entries: dict[str, Any] = {}
        for (linear, logarithmic), ((n, radius, directions), rows) in zip(
            grid, groups, strict=False
        ):
            x, ball, measured, mean, deviation, floor = _points(rows, "t_over_sqrt_n", curves)
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
        _legend(figure, entries)
        return _done(figure)


def _positive(values: Floats) -> Floats:
    """Return absolute values, and NaN for 0, as a logarithmic axis shows them."""
    return np.where(values == 0, np.nan, np.abs(values))


def crossings(frame: pd.DataFrame) -> Figure:
    """Draw the share of units whose side flips, by layer, a panel per model and attack.

    Source: Bandlimiting, section 2.2, with random controls of equal length.

    Args:
        frame: columns dataset, model, attack, layer (number), kind ('adversarial', 'gaussian',
            'signs'), share (mean over images, in [0, 1]), low, high (interval). Rows without a
            share are skipped.

    Raises:
        ValueError: a column is missing, or a line has two rows of one layer.
    """
    _check_columns(frame, ["dataset", "model", "attack", "layer", "kind", "share", "low", "high"])
    with style():
        groups = list(frame.groupby(["dataset", "model", "attack"], sort=True))
        labels = {name: look.label for name, look in _looks(frame["attack"], ATTACK_STYLE).items()}
        headings = [(dataset, model, labels[attack]) for (dataset, model, attack), _ in groups]
        figure, grid = _panels(headings, 2.3)
        entries: dict[str, Any] = {}
        tops: dict[Any, float] = {}
        for axes, ((dataset, model, _), rows) in zip(grid, groups, strict=False):
            for name, look in _looks(rows["kind"], KIND_STYLE).items():
                layer, share, low, high = _points(
                    rows[rows["kind"] == name], "layer", ("share", "low", "high")
                )
                if len(layer):
                    axes.fill_between(layer, low, high, color=look.color, alpha=0.2, linewidth=0)
                    entries[look.label] = axes.plot(layer, share, **look.line())[0]
            tops[dataset, model] = max(tops.get((dataset, model), 0), axes.get_ylim()[1])
        # One scale for all attacks on a model.
        for axes, ((dataset, model, _), _rows) in zip(grid, groups, strict=False):
            axes.set_ylim(0, tops[dataset, model])
        for axes in grid:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}"))
            axes.set_xlabel("ReLU layer")
        _label_left(grid, "hyperplanes crossed (%)")
        _legend(figure, _sorted_entries(entries, KIND_STYLE))
        return _done(figure)


def training_history(frame: pd.DataFrame) -> Figure:
    """Draw loss, accuracy and learning rate over the epochs of each trained model.

    Args:
        frame: columns model, epoch, loss, accuracy (in [0, 1], as seen while training),
            learning_rate; null values are skipped.

    Raises:
        ValueError: a column is missing, or a model has two rows of one epoch.
    """
    _check_columns(frame, ["model", "epoch", "loss", "accuracy", "learning_rate"])
    with style():
        figure = Figure(figsize=(PAGE, 2.0), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        rates = left.twinx()
        entries: dict[str, Any] = {}
        looks = [
            replace(look, label=name)
            for name, look in zip(
                sorted(frame["model"].unique()), itertools.cycle(ATTACK_STYLE.values())
            )
        ]
        for look in looks:
            rows = frame[frame["model"] == look.label]
            for axes, column in ((left, "loss"), (right, "accuracy")):
                epoch, value = _points(rows, "epoch", (column,))
                if len(epoch):
                    entries[look.label] = axes.plot(epoch, value, **look.line())[0]
            epoch, rate = _points(rows, "epoch", ("learning_rate",))
            rates.plot(epoch, rate, color=GREY, linewidth=0.9, linestyle=look.dashes)
        if entries:
            entries["learning rate"] = Line2D([], [], color=GREY, linewidth=0.9)
        for axes, column in ((left, "training loss"), (right, "training accuracy")):
            axes.set_xlabel("epoch")
            axes.set_ylabel(column)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.set_ylim(bottom=0)
        rates.set_ylim(bottom=0)
        rates.set_ylabel("learning rate", color=DARK_GREY)
        rates.tick_params(axis="y", labelcolor=DARK_GREY)
        rates.spines["right"].set_visible(True)
        rates.grid(False)
        _legend(figure, entries)
        return _done(figure)


# Files -------------------------------------------------------------------------------------------


def save(
    figure: Figure,
    png: str | os.PathLike[str],
    pdf: str | os.PathLike[str],
    svg: str | os.PathLike[str],
    certificate: Mapping[str, Any],
) -> None:
    """Write a figure as PNG (300 dpi), PDF and SVG, all or none of them, with its certificate.

    Equal figures and certificates give equal bytes: the files hold no date and no random name.

    Raises:
        UserError: a folder can't be written.
    """
    text = lineage.as_text(certificate)
    marked = f"{lineage.MARK} {text}"
    with style(), ExitStack() as stack:
        # All three are drawn before any takes its place.
        paths = [stack.enter_context(store.atomic(path)) for path in (png, pdf, svg)]
        figure.savefig(paths[0], format="png", dpi=DPI, metadata={PNG_KEY: text})
        figure.savefig(paths[1], format="pdf", metadata={"CreationDate": None, "Keywords": marked})
        figure.savefig(paths[2], format="svg", metadata={"Date": None, "Description": marked})


def read_certificate(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the certificate of a picture that `save` wrote; what it is shows by its content.

    Raises:
        UserError: the file is missing, is no PNG, PDF or SVG, or has no certificate.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"The picture {str(path)!r} can't be read: {error.strerror}.") from error
    try:
        if data.startswith(b"\x89PNG"):
            text = _png_text(data)
        elif data.startswith(b"%PDF"):
            text = _pdf_text(data)
        else:
            text = _svg_text(data)
        if text is not None:
            return json.loads(text)
    # Damaged files: OSError and SyntaxError by Pillow (ParseError of XML is one), ValueError by
    # JSON and decoding.
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"The file {str(path)!r} can't be read as a PNG, PDF or SVG picture with a certificate "
            f"({error})."
        ) from error
    raise UserError(f"The picture {str(path)!r} carries no certificate of this workflow.")


def _png_text(data: bytes) -> str | None:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return image.info.get(PNG_KEY)


def _pdf_text(data: bytes) -> str | None:
    """Return the certificate in a PDF's document information, the newest where it was updated.

    matplotlib writes that dictionary uncompressed, and ASCII text as a string in parentheses, with
    a backslash before each parenthesis and backslash of its own.
    """
    pattern = rb"/Keywords\s*\(" + re.escape(lineage.MARK.encode()) + rb"((?:\\.|[^\\()])*)\)"
    found = re.findall(pattern, data, re.DOTALL)
    return re.sub(rb"\\(.)", rb"\1", found[-1], flags=re.DOTALL).decode("ascii") if found else None


def _svg_text(data: bytes) -> str | None:
    for element in ElementTree.fromstring(data).iter(
        "{http://purl.org/dc/elements/1.1/}description"
    ):
        _, mark, text = (element.text or "").partition(lineage.MARK)
        if mark:
            return text
    return None
