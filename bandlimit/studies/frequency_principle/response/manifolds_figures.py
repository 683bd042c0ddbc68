"""Figures of sinusoids on a curve: what is learnt along it, and how the plane is classified."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, MaxNLocator

from bandlimit.plots.style import BLUE, DPI, PAGE, Floats, check_columns, finish, style
from bandlimit.studies.frequency_principle.response.flower import REACH, points
from bandlimit.studies.frequency_principle.response.sinusoids_figures import (
    CURVE,
    draw_heat,
    heat_bar,
)

DENSE = 4000
"""Points of a curve that is drawn."""


def draw_manifolds(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw when frequencies along curves are learnt, by the turns of the curve.

    A heat map for each curve, which is drawn above it: amplitude over that of the target by
    frequency and step, mean over networks, with first passages as in `draw_heat`. Beside them, the
    mean of the highest frequencies at the end, and its range over networks.

    Source: "On the spectral bias of neural networks", section 4.

    Args:
        tables: 'manifolds', 'manifold_curves' and 'manifold_levels', as `manifolds.manifolds` has
            their rows.

    Raises:
        ValueError: a column is missing.
    """
    passages, curves, levels = (
        tables[name] for name in ("manifolds", "manifold_curves", "manifold_levels")
    )
    check_columns(passages, ("turns", "frequency", "censored", "learnt", "seeds"))
    check_columns(curves, ("turns", *CURVE, "amplitude"))
    check_columns(levels, ("turns", "amplitude", "low", "high", "from_frequency"))
    turns = sorted(levels["turns"])
    with style():
        figure = Figure(figsize=(PAGE, 3.5), dpi=DPI, layout="constrained")
        grid = figure.subplots(
            2,
            len(turns) + 1,
            squeeze=False,
            height_ratios=(1, 1.8),
            sharey="row",
            width_ratios=[1] * len(turns) + [0.9],
        )
        for column, level in enumerate(turns):
            above, below = grid[:, column]
            draw_curve(above, level)
            above.set_title(f"L = {level}")
            picture = draw_heat(
                below, curves[curves["turns"] == level], passages[passages["turns"] == level]
            )
            below.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            below.set_xlabel("frequency k,\nperiods per round")
        grid[1, 0].set_ylabel("training step")
        heat_bar(figure, picture, grid[1, :-1])
        for axes in grid[:, -1]:
            axes.remove()
        last = figure.add_subplot(grid[0, -1].get_subplotspec().get_gridspec()[:, -1])
        _draw_levels(last, levels.sort_values("turns"))
        return finish(figure)


def draw_curve(axes: Axes, turns: int) -> None:
    """Draw the curve of so many turns in its square, without axes."""
    axes.plot(*points(np.arange(DENSE + 1) / DENSE, turns).T, color=BLUE, linewidth=0.9)
    axes.set_xlim(-REACH, REACH)
    axes.set_ylim(-REACH, REACH)
    axes.set_aspect("equal")
    axes.axis("off")


def _draw_levels(axes: Axes, levels: pd.DataFrame) -> None:
    """Draw the amplitudes of the highest frequencies by turns."""
    places = np.arange(len(levels))
    middle = levels["amplitude"].to_numpy(float)
    reach = [middle - levels["low"].to_numpy(float), levels["high"].to_numpy(float) - middle]
    axes.errorbar(places, middle, yerr=reach, color=BLUE, marker="o", linestyle="-", capsize=2)
    axes.xaxis.set_major_locator(FixedLocator(places.tolist()))
    axes.set_xticks(places, [str(level) for level in levels["turns"]])
    axes.set_xlim(-0.4, len(levels) - 0.6)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("turns L")
    axes.set_ylabel("mean amplitude / target's")
    axes.set_title(f"k ≥ {levels['from_frequency'].iloc[0]}, at the end")


def draw_classification(
    pictures: pd.DataFrame, table: pd.DataFrame, turns: int, frequency: int
) -> Figure:
    """Draw what two networks say of the square around a curve, and where they differ.

    Shares are means over all pairs of networks.

    Source: "On the spectral bias of neural networks", Figure 7.

    Args:
        pictures: 'manifold_pictures' of `manifolds.classify`.
        table: 'manifold_classification' of it.
        turns: L of the curve.
        frequency: of the sine whose sign is the class.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(pictures, ("network", "row", "column", "probability"))
    check_columns(table, ("measure", "value", "low", "high"))
    images = [
        rows.pivot(index="row", columns="column", values="probability").to_numpy(float)
        for _, rows in pictures.groupby("network")
    ]
    measures = table.set_index("measure")["value"]
    with style():
        figure = Figure(figsize=(PAGE, 2.8), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, 3, sharey=True)
        for number, (axes, image) in enumerate(zip(grid, images, strict=False), 1):
            chances = _draw_square(axes, image, "RdBu_r")
            axes.set_title(f"initialisation {number}")
        figure.colorbar(
            chances, ax=list(grid[:2]), shrink=0.75, pad=0.02, label="probability of class 1"
        )
        difference = _draw_square(grid[2], np.abs(images[0] - images[1]), "Greys")
        grid[2].set_title(
            "difference; classes differ on\n"
            f"{measures['disagreement on samples']:.1%} of samples,\n"
            f"{measures['disagreement in the square']:.1%} of the square"
        )
        figure.colorbar(difference, ax=grid[2], shrink=0.75, pad=0.03)
        grid[2].plot(*points(np.arange(DENSE + 1) / DENSE, turns).T, color=BLUE, linewidth=0.4)
        grid[0].set_ylabel(f"second input\n(L = {turns}, sine of k = {frequency})")
        return finish(figure)


def _draw_square(axes: Axes, image: Floats, colors: str) -> AxesImage:
    """Draw values of the pixels of the square, the first row on top."""
    axes.grid(False)
    axes.set_xlabel("first input")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator([-1.5, 0, 1.5]))
    return axes.imshow(
        image,
        cmap=colors,
        vmin=0,
        vmax=1,
        extent=(-REACH, REACH, -REACH, REACH),
        interpolation="nearest",
    )
