"""Figure of the theorems of Xu et al.: which response frequency has the greater gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from bandlimit.plots.style import (
    BLUE,
    DPI,
    GREEN,
    PAGE,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    finish,
    points_of,
    style,
    values_of,
)

MARKS = (("o", BLUE), ("s", VERMILLION), ("^", GREEN))
"""Marker and colour of the pairs of frequencies, in turn."""

DASHES = {1: "-", 2: (0, (4, 1.5))}
"""Dashes of the theorems."""


def draw_gradients(rows: pd.DataFrame) -> Figure:
    """Draw how often the lower of two response frequencies leads, by the radius of the weights.

    On the left its share of draws, on the right that of the draws in which it does not lead, with
    the fit of C exp(-c / delta). Bars are 95% Wilson intervals.

    Source: Xu et al. (arXiv 1901.06523), Theorems 1 and 2, which it proves and does not draw.

    Args:
        rows: as `gradients.simulate` returns them.

    Raises:
        ValueError: a column is missing.
    """
    needed = ("theorem", "frequencies", "delta", "share", "share_low", "share_high", "failures")
    check_columns(rows, (*needed, "draws", "rate", "log_constant"))
    with style():
        figure = Figure(figsize=(PAGE, 2.7), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        entries: dict[str, Any] = {}
        pairs = list(dict.fromkeys(rows["frequencies"]))
        for (theorem, pair), part in rows.groupby(["theorem", "frequencies"], sort=False):
            marker, color = MARKS[pairs.index(pair) % len(MARKS)]
            look = Look(f"Theorem {theorem}, k = {pair}", color, marker, DASHES[theorem])
            entries[look.label] = _draw_shares(left, part, look)
            _draw_failures(right, part, look)
        left.set_xscale("log")
        left.set_xlabel("radius δ of the ball of weights")
        left.set_ylabel("draws in which the lower\nfrequency leads (share)")
        left.set_ylim(0, 1.03)
        ticks = [0.25, 0.5, 1, 2, 4]
        left.xaxis.set_major_locator(FixedLocator(ticks))
        left.xaxis.set_major_formatter("{x:g}")
        left.xaxis.set_minor_formatter(NullFormatter())
        right.set_yscale("log")
        right.set_xlabel("1 / δ")
        right.set_ylabel("draws in which it does not\n(share), and C exp(−c/δ)")
        add_legend(figure, entries)
        return finish(figure)


def _draw_shares(axes: Axes, rows: pd.DataFrame, look: Look) -> Any:
    delta, share, low, high = points_of(rows, "delta", ("share", "share_low", "share_high"))
    axes.vlines(delta, low, high, color=look.color, linewidth=0.8)
    return axes.plot(delta, share, **look.line(), markerfacecolor=_face(look))[0]


def _face(look: Look) -> str:
    """Return the colour within markers: white for those of dashed lines."""
    return look.color if look.dashes == "-" else "white"


def _draw_failures(axes: Axes, rows: pd.DataFrame, look: Look) -> None:
    failed = rows[rows["failures"] > 0]
    place = 1 / values_of(failed["delta"])
    axes.vlines(
        place,
        1 - values_of(failed["share_high"]),
        1 - values_of(failed["share_low"]),
        color=look.color,
        linewidth=0.8,
    )
    axes.plot(
        place,
        1 - values_of(failed["share"]),
        color=look.color,
        marker=look.marker,
        linestyle="none",
        markerfacecolor=_face(look),
    )
    rate, constant = (float(values_of(rows[name])[0]) for name in ("rate", "log_constant"))
    if math.isfinite(rate) and len(place):
        line = np.linspace(1, place.max(), 50)
        axes.plot(
            line,
            np.exp(constant - rate * line),
            color=look.color,
            linestyle=look.dashes,
            linewidth=0.8,
        )
