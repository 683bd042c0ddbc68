"""Figures of a kernel's eigenvectors, and of when a network learns them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bandlimit.plots.style import (
    BLUE,
    COLUMN,
    DARK_GREY,
    DPI,
    PAGE,
    check_columns,
    finish,
    style,
)

COLORS = "cividis"


def draw_learning(bins: pd.DataFrame, curves: pd.DataFrame, validation: pd.DataFrame) -> Figure:
    """Draw outputs by eigenvector along training, beside labels, and the validation loss below.

    A column per kind of noise. Bands reach from the least to the greatest of the networks.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(bins, ("case", "frequency", "labels", "target"))
    check_columns(curves, ("case", "frequency", "step", "outputs"))
    check_columns(validation, ("case", "step", "loss", "loss_low", "loss_high"))
    with style():
        cases = list(dict.fromkeys(bins["case"]))
        figure = Figure(figsize=(PAGE, 4.0), dpi=DPI, layout="constrained")
        grid = figure.subplots(
            2,
            2 * len(cases),
            squeeze=False,
            gridspec_kw={"width_ratios": [6, 1] * len(cases), "height_ratios": [1.6, 1]},
        )
        values = np.concatenate([bins[["labels", "target"]].to_numpy().ravel(), curves["outputs"]])
        high = values.max()
        norm = LogNorm(high / 100, high)
        drawn: Any = None
        highest = float(validation["loss_high"].max())
        for column, case in enumerate(cases):
            whole, side = grid[0, 2 * column], grid[0, 2 * column + 1]
            drawn = _draw_map(whole, curves[curves["case"] == case], norm)
            whole.set_title(case)
            if column == 0:
                whole.set_ylabel("bin of eigenvectors\n(eigenvalue falls)")
            _draw_targets(side, bins[bins["case"] == case], norm)
            below = grid[1, 2 * column]
            line = validation[validation["case"] == case]
            below.fill_between(
                line["step"],
                line["loss_low"],
                line["loss_high"],
                color=BLUE,
                alpha=0.2,
                linewidth=0,
            )
            below.plot(line["step"], line["loss"], color=BLUE)
            least = line.loc[line["loss"].idxmin()]
            below.axvline(least["step"], color=DARK_GREY, linestyle=(0, (1, 1)))
            whole.axvline(least["step"], color="white", linestyle=(0, (1, 1)))
            below.set_ylim(0, 1.05 * highest)
            below.set_xlim(whole.get_xlim())
            below.set_xlabel("step of training")
            if column == 0:
                below.set_ylabel("mean squared error,\nclean validation")
            grid[1, 2 * column + 1].remove()
        bar = figure.colorbar(drawn, ax=list(grid[0]), extend="min", pad=0.01)
        bar.set_label("root mean square\ncoefficient")
        return finish(figure)


def _draw_map(axes: Axes, rows: pd.DataFrame, norm: LogNorm) -> Any:
    outputs = rows.pivot(index="frequency", columns="step", values="outputs")
    drawn = axes.pcolormesh(
        outputs.columns.to_numpy(dtype=float),
        outputs.index.to_numpy(dtype=float),
        np.clip(outputs.to_numpy(), 1e-9, None),
        norm=norm,
        cmap=COLORS,
        shading="nearest",
        rasterized=True,
    )
    axes.grid(visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return drawn


def _draw_targets(axes: Axes, rows: pd.DataFrame, norm: LogNorm) -> None:
    """Draw the coefficients of labels without and with noise beside the map."""
    axes.pcolormesh(
        [0.0, 1.0],
        rows["frequency"].to_numpy(dtype=float),
        rows[["labels", "target"]].to_numpy(),
        norm=norm,
        cmap=COLORS,
        shading="nearest",
        rasterized=True,
    )
    axes.set_xticks([0, 1], ["clean", "noisy"], rotation=90)
    axes.set_yticks([])
    axes.grid(visible=False)


def draw_eigenvectors(spectrum: pd.DataFrame) -> Figure:
    """Draw the spectra of the eigenvectors of a kernel on an interval.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(spectrum, ("eigenvector", "frequency", "magnitude"))
    with style():
        values = spectrum.pivot(index="eigenvector", columns="frequency", values="magnitude")
        figure = Figure(figsize=(COLUMN, 2.8), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        drawn = axes.pcolormesh(
            values.columns.to_numpy(dtype=float),
            values.index.to_numpy(dtype=float),
            values.to_numpy(),
            cmap=COLORS,
            vmin=0,
            vmax=1,
            shading="nearest",
            rasterized=True,
        )
        axes.grid(visible=False)
        axes.set_xlabel("frequency (periods over the points)")
        axes.set_ylabel("eigenvector n (eigenvalue falls)")
        figure.colorbar(drawn, label="magnitude")
        return finish(figure)
