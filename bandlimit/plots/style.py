"""What all figures share: sizes, colours, looks of names, and the parts of a figure.

No function uses pyplot or leaves a setting of matplotlib changed.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

# isort: off
from bandlimit.plots import backend  # noqa: F401 (before matplotlib)

# isort: on

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLUMN = 3.4
"""Width of a figure with one panel, in inches: a column of a paper."""

PAGE = 7.0
"""Width of a figure with several panels, in inches: a page of a paper."""

DPI = 300
POINTS = 8

CHARACTERS = 14
"""Characters of a title per inch."""

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


FEW = 10
"""Rates over fewer images are drawn apart: one image more or less moves them by a tenth."""

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

OTHER_STYLE = (
    Look("", DARK_GREY, "h", (0, (2, 1))),
    Look("", "black", "p", (0, (2, 2))),
    Look("", VERMILLION, "<", (0, (2, 1, 1, 1))),
    Look("", BLUE, ">", (0, (4, 2))),
    Look("", GREEN, "d", (0, (1, 1.5))),
    Look("", BROWN, "*", (0, (6, 1, 1, 1, 1, 1))),
    Look("", PINK, "H", (0, (3, 1))),
    Look("", ORANGE, "8", (0, (8, 2))),
)
"""Looks of names that have none of their own, in turn."""


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


def check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise a ValueError that names the columns that a frame does not have."""
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise ValueError(f"columns {missing} are missing, got {list(frame.columns)}")


def values_of(column: pd.Series) -> Floats:
    """Return a column as float64, with NaN for any kind of null."""
    return pd.to_numeric(column).to_numpy(dtype=np.float64, na_value=np.nan)


def looks_of(names: Iterable[str], known: Mapping[str, Look]) -> dict[str, Look]:
    """Return the look of each name: known ones first, in their fixed order, then the others."""
    present = set(names)
    looks = {name: look for name, look in known.items() if name in present}
    others = zip(sorted(present - set(known)), itertools.cycle(OTHER_STYLE))
    return looks | {name: replace(look, label=name) for name, look in others}


def make_panels(
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
    room = CHARACTERS * width / columns
    names = ", " if all(len(f"{d}, {m}") <= room for d, m, _ in headings) else ",\n"
    for axes, (dataset, model, facts) in zip(grid, headings, strict=False):
        axes.set_title(f"{dataset}{names}{model}\n{facts}")
    return figure, list(grid[:count])


def add_legend(figure: Figure, entries: Mapping[str, Any]) -> None:
    """Put a legend of all panels below them; the figure grows, the panels keep their size."""
    if not entries:
        return
    width, height = figure.get_size_inches()
    # Long names take fewer columns.
    for most in range(2 if width < PAGE else 4, 0, -1):
        rows = math.ceil(len(entries) / most)
        columns = math.ceil(len(entries) / rows)
        legend = figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", ncols=columns
        )
        if most == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    figure.set_size_inches(width, height + 0.08 + 0.17 * rows)


def finish(figure: Figure) -> Figure:
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
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    # A layout engine, even one that does nothing, has each file drawn twice.
    figure.set_layout_engine(None)
    return figure


def span(column: pd.Series) -> str:
    """Return a number, or the range of several, as text; nulls don't count."""
    values = values_of(column)
    values = values[np.isfinite(values)]
    if not len(values):
        return "none"
    low, high = f"{values.min():.10g}", f"{values.max():.10g}"
    return low if low == high else f"{low} to {high}"


def points_of(rows: pd.DataFrame, x: str, names: Sequence[str]) -> tuple[Floats, ...]:
    """Return columns x and names where neither x nor the first name is null, ordered by x.

    Raises:
        ValueError: two rows have the same x, so they belong to different lines.
    """
    columns = [values_of(rows[name]) for name in (x, *names)]
    kept = np.isfinite(columns[0]) & np.isfinite(columns[1])
    columns = [column[kept] for column in columns]
    order = np.argsort(columns[0], kind="stable")
    if len(np.unique(columns[0])) < len(order):
        raise ValueError(f"a line has several rows with the same {x}")
    return tuple(column[order] for column in columns)


def draw_rates(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    look: Look,
    shift: float = 0.0,
    y: str = "defense_rate",
    count: str | None = None,
) -> Any:
    """Draw one line of rates with their intervals; return it, or None if no point exists.

    It is shifted sideways by so many typographic points, so that intervals don't hide each other.
    Where a column `count` is named, points of fewer than FEW images are hollow and off the line.
    """
    columns = (y, "low", "high") if count is None else (y, "low", "high", count)
    place, rate, low, high, *counts = points_of(rows, x, columns)
    if not len(place):
        return None
    few = counts[0] < FEW if counts else np.zeros(len(place), dtype=bool)
    bars = axes.vlines(place, low, high, color=look.color, linewidth=0.8, alpha=0.7)
    line = axes.plot(place, np.where(few, np.nan, rate), **look.line())[0]
    hollow = axes.plot(place[few], rate[few], **look.line(), markerfacecolor="white")[0]
    hollow.set_linestyle("none")
    # Set afterwards, since the limits of the axes come from the data alone.
    shifted = axes.transData + ScaledTranslation(shift / 72, 0, axes.figure.dpi_scale_trans)
    for artist in (bars, line, hollow):
        artist.set_transform(shifted)
    return line


def few_entry(rows: pd.DataFrame, count: str) -> dict[str, Any]:
    """Return the legend's entry of hollow points, if a row with images has fewer than FEW."""
    counts = values_of(rows[count])
    if not ((counts > 0) & (counts < FEW)).any():
        return {}
    mark = Line2D([], [], color=DARK_GREY, marker="o", markerfacecolor="white", linestyle="none")
    return {f"fewer than {FEW} images": mark}


def sort_entries(entries: Mapping[str, Any], known: Mapping[str, Look]) -> dict[str, Any]:
    """Return the legend's entries in the fixed order of looks, others behind."""
    order = [look.label for look in known.values()]
    names = sorted(entries, key=lambda name: order.index(name) if name in order else len(order))
    return {name: entries[name] for name in names}


def label_left(grid: Sequence[Axes], label: str) -> None:
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


def single_place(axes: Axes, places: Floats) -> bool:
    """Put the only place of an x axis into its middle, with a tick there.

    Else its limits would hug one number. Returns whether there is but one.
    """
    known = np.unique(places[np.isfinite(places)])
    if len(known) != 1:
        return False
    reach = abs(known[0]) / 2 or 0.5
    axes.set_xlim(known[0] - reach, known[0] + reach)
    axes.xaxis.set_major_locator(FixedLocator(known.tolist()))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{known[0]:.4g}"]))
    return True


def epsilon_axis(axes: Axes, epsilons: Floats) -> None:
    """Make the x axis logarithmic (linear if a bound is 0), with a tick per bound.

    Those that have room are labelled, in units of 1/255.
    """
    if len(epsilons) == 0:
        return
    if single_place(axes, epsilons):
        axes.xaxis.set_major_formatter(FixedFormatter([f"{255 * epsilons[0]:.3g}"]))
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


def wrapped(text: str, width: float) -> str:
    """Return a title with its lines broken so that each fits into so many inches.

    A line does not break within 'N = 100' or 'FGM, L2'.
    """
    kept = "\N{NO-BREAK SPACE}"
    most = int(CHARACTERS * width)
    lines: list[str] = []
    for line in text.splitlines():
        whole = line.replace(" = ", f"{kept}={kept}").replace(", L", f",{kept}L")
        lines += textwrap.wrap(whole, most, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(kept, " ")


def show_image(axes: Axes, image: Floats, *, reach: float | None = None) -> None:
    """Show an image, C x H x W, without axes.

    Args:
        axes: the panel.
        image: in [0, 1], other values are clipped; of three channels in colours, else their mean.
        reach: of values that lie around 0, drawn from -reach to reach with 0 as grey.
    """
    if reach is not None:
        image = 0.5 + 0.5 * image / max(reach, 1e-12)
    shown = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    if shown.shape[2] == 3:
        axes.imshow(shown, interpolation="nearest")
    else:
        # Channels that are no colours are shown as their mean.
        shown = shown.mean(axis=2)
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
