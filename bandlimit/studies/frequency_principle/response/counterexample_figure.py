"""Figure of the kernel of E, Ma and Wu: its eigenvalues, and two targets that it learns."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from bandlimit.plots.style import (
    BLUE,
    DPI,
    GREEN,
    PAGE,
    VERMILLION,
    check_columns,
    finish,
    points_of,
    style,
)

MARKS = (("o", BLUE), ("s", VERMILLION), ("^", GREEN))
"""Marker and colour of the widths, in turn."""

TITLES = {"figure_5": "Figure 5", "figure_6": "Figure 6"}


def draw_counterexample(
    eigenvalues: pd.DataFrame, snapshots: pd.DataFrame, times: pd.DataFrame
) -> Figure:
    """Draw the eigenvalues of the kernel by response frequency, and two targets along training.

    Above, an eigenvalue for each width and frequency, a dotted line at the bound 2 / h and a filled
    mark at the greatest. Below, for each target, the function at each time beside the target.

    Source: E, Ma and Wu (arXiv 1912.12777), eq. 156, Figures 5 and 6.

    Args:
        eigenvalues: 'counterexample', as `counterexample.simulate` returns it.
        snapshots: 'counterexample_snapshots'.
        times: 'counterexample_times'.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(eigenvalues, ("width", "frequency", "by_formula", "stated", "peak", "bound"))
    check_columns(snapshots, ("case", "width", "time", "x", "learnt", "target"))
    check_columns(times, ("case", "frequency"))
    moments = sorted(snapshots["time"].unique())
    cases = list(dict.fromkeys(snapshots["case"]))
    with style():
        figure = Figure(figsize=(PAGE, 2.3 + 1.5 * len(cases)), dpi=DPI, layout="constrained")
        rows = figure.add_gridspec(2, 1, height_ratios=[2.1, 1.6 * len(cases)])
        above, below = (figure.add_subfigure(rows[i]) for i in range(2))
        _draw_eigenvalues(above.subplots(), eigenvalues)
        grid = below.subplots(len(cases), len(moments), sharex=True, sharey="row", squeeze=False)
        for row, case in zip(grid, cases, strict=True):
            own = snapshots[snapshots["case"] == case]
            waves = ", ".join(f"{k:g}" for k in times.loc[times["case"] == case, "frequency"])
            for axes, moment in zip(row, moments, strict=True):
                _draw_snapshot(axes, own[own["time"] == moment])
                axes.set_title(f"t = {moment:g}")
            row[0].set_ylabel(f"{TITLES[case]}\nk = {waves}")
        for axes in grid[-1]:
            axes.set_xlabel("x")
        grid[0][0].legend(loc="upper right", handlelength=1.2)
        return finish(figure)


def _draw_eigenvalues(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_xlabel("response frequency k (waves around the circle)")
    axes.set_ylabel("eigenvalue")
    for (marker, color), (width, part) in zip(itertools.cycle(MARKS), rows.groupby("width")):
        k, value = points_of(part, "frequency", ("by_formula",))
        axes.plot(
            k,
            value,
            color=color,
            marker=marker,
            markerfacecolor="white",
            label=f"h = {width:g}",
        )
        peak = int(part["peak"].iloc[0])
        axes.plot(peak, value[k == peak], color=color, marker=marker, linestyle="none")
        axes.axvline(float(part["bound"].iloc[0]), color=color, linestyle=(0, (1, 1)))
    axes.plot([], [], color="black", linestyle=(0, (1, 1)), label="2 / h")
    axes.plot([], [], color="black", marker="o", linestyle="none", label="greatest")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", ncols=2)


def _draw_snapshot(axes: Axes, rows: pd.DataFrame) -> None:
    x, learnt, target = points_of(rows, "x", ("learnt", "target"))
    axes.plot(x, target, color="black", linestyle=(0, (1, 1)), linewidth=0.9, label="target")
    axes.plot(x, learnt, color=VERMILLION, label="f$_t$")
    axes.xaxis.set_major_locator(FixedLocator([0, np.pi, 2 * np.pi]))
    axes.xaxis.set_major_formatter(FixedFormatter(["0", "π", "2π"]))
