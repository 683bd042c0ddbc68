"""Which response frequencies are learnt when, under which theory: all works on the same axes."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bandlimit.plots.style import (
    BLUE,
    DARK_GREY,
    DPI,
    GREEN,
    ORANGE,
    PAGE,
    PINK,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    finish,
    looks_of,
    style,
    values_of,
)

COLORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Xu et al., one dimension": (BLUE, ("o",)),
    "Xu et al., images": (GREEN, ("s", "D")),
    "Rahaman et al., sinusoids": (ORANGE, ("^", "v")),
    "Rahaman et al., manifolds": (PINK, ("<", ">", "h")),
    "Zhang et al., model": (DARK_GREY, ("P", "X")),
    "E, Ma and Wu": (VERMILLION, ("*", "p", "d")),
}
"""Colour of each work, and markers of its cases in turn."""

DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)))

HIGHEST = 1e4
"""Greatest ratio of times that is drawn."""


def draw_learning_times(times: pd.DataFrame) -> Figure:
    """Draw the time at which each frequency is learnt against the frequency, both as ratios.

    Args:
        times: as `learning_times.learning_times` gives it.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(times, ("work", "case", "relative_frequency", "relative_time", "at_least"))
    with style():
        figure = Figure(figsize=(PAGE, 3.6), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color="black", linewidth=0.9, linestyle=(0, (1, 1)))
        entries = {}
        for (work, case), rows in times.groupby(["work", "case"], sort=False):
            look = _look(times, str(work), str(case))
            x, y, least = (
                values_of(rows[name])
                for name in ("relative_frequency", "relative_time", "at_least")
            )
            drawn = (y <= HIGHEST) & (y >= 1 / HIGHEST)
            entries[look.label] = axes.plot(x[drawn], y[drawn], **look.line())[0]
            never = least <= HIGHEST
            axes.plot(
                x[never],
                least[never],
                color=look.color,
                marker=r"$\uparrow$",
                linestyle="none",
                markersize=6,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("response frequency over the lowest of its target")
        axes.set_ylabel("time until it is learnt, over that\nof the lowest frequency")
        axes.text(
            0.01,
            0.02,
            "below the dotted line: learnt\nbefore the lowest frequency",
            va="bottom",
            transform=axes.transAxes,
            color=DARK_GREY,
        )
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        add_legend(figure, entries)
        return finish(figure)


def _look(times: pd.DataFrame, work: str, case: str) -> Look:
    """Return the look of a case: the colour is that of its work."""
    label = f"{work}: {case}"
    if work not in COLORS:
        return looks_of([label], {})[label]
    color, markers = COLORS[work]
    number = list(times.loc[times["work"] == work, "case"].unique()).index(case)
    return Look(label, color, markers[number % len(markers)], DASHES[number % len(DASHES)])
