"""Figures of the sums of sinusoids: which response frequency is learnt when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, ScalarFormatter

from bandlimit.plots.style import (
    BLUE,
    DARK_GREY,
    DPI,
    GREEN,
    ORANGE,
    PAGE,
    PALETTE,
    PINK,
    SKY,
    VERMILLION,
    Floats,
    add_legend,
    check_columns,
    finish,
    style,
)

COLORS = (BLUE, ORANGE, GREEN, VERMILLION, PINK, SKY, DARK_GREY, *PALETTE)
"""Of frequencies and layers, in turn."""

DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
"""Of frequencies and layers, in turn."""

HEAT = "viridis"
"""Colours of amplitudes; they rise in lightness."""

TITLES: Mapping[str, str] = {"equal": "equal amplitudes", "growing": "growing amplitudes"}

PASSED: Mapping[str, Any] = {
    "color": "white",
    "marker": "o",
    "linestyle": "none",
    "markeredgecolor": "black",
}
"""Look of first passages on a heat map."""

CENSORED: Mapping[str, Any] = {**PASSED, "color": "none", "markeredgecolor": "white"}
"""Look of those that some network never reaches."""

CURVE = ("frequency", "step", "low", "high")


def draw_one_dimension(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw how a network learns a sum of sines: its function, and the error by frequency.

    Left: the target, and what the first network computes once it has learnt each frequency. Right:
    Delta_F of each frequency along training, means over networks with bands from the least to the
    greatest.

    Source: "Training behavior of deep neural network in frequency domain", in one dimension.

    Args:
        tables: 'one_dimension', 'one_dimension_curves' and 'one_dimension_functions', as
            `sinusoids.one_dimension` has their rows.

    Raises:
        ValueError: a column is missing.
    """
    passages, curves = tables["one_dimension"], tables["one_dimension_curves"]
    functions = tables["one_dimension_functions"]
    check_columns(passages, ("frequency", "threshold", "seeds"))
    check_columns(curves, (*CURVE, "difference"))
    check_columns(functions, ("step", "x", "output", "target"))
    with style():
        figure = Figure(figsize=(PAGE, 2.9), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_functions(left, functions)
        for i, (frequency, rows) in enumerate(curves.groupby("frequency")):
            look = {"color": COLORS[i], "linestyle": DASHES[i % len(DASHES)]}
            draw_band(right, rows, "difference", f"k = {frequency}", look)
        threshold = float(passages["threshold"].iloc[0])
        right.axhline(threshold, color="black", linestyle=(0, (1, 1)), linewidth=0.9)
        right.set_yscale("log")
        steps_axis(right, int(curves["step"].max()))
        right.set_ylabel("relative error Δ$_F$")
        right.set_title(f"{passages['seeds'].iloc[0]} networks; learnt below {threshold:g}")
        right.legend(loc="lower left")
        return finish(figure)


def _draw_functions(axes: Axes, functions: pd.DataFrame) -> None:
    """Draw the target, and a network's outputs at some steps, one above the other."""
    steps = sorted(functions["step"].unique())
    # Few, so that they can be told apart.
    shown = steps if len(steps) <= 4 else [*steps[:4], steps[-1]]
    apart = 1.25 * float(np.ptp(functions["target"]))
    for i, step in enumerate(shown):
        rows = functions[functions["step"] == step].sort_values("x")
        lift = -i * apart
        target = axes.plot(rows["x"], rows["target"] + lift, color="0.7", linewidth=2.2)[0]
        network = axes.plot(rows["x"], rows["output"] + lift, color=BLUE, linewidth=1.0)[0]
        axes.text(3.3, lift, f"step {step}", va="center", ha="left")
    axes.set_yticks([])
    axes.grid(False)
    axes.set_xlim(-np.pi, np.pi)
    axes.xaxis.set_major_locator(FixedLocator([-3, -2, -1, 0, 1, 2, 3]))
    axes.set_xlabel("input x")
    axes.set_ylabel("output (shifted)")
    axes.set_title("one network along training")
    axes.set_ylim(bottom=lift - 1.15 * apart)
    axes.legend([target, network], ["target", "network"], loc="lower center", ncols=2)


def draw_band(
    axes: Axes, rows: pd.DataFrame, name: str, label: str, look: Mapping[str, Any]
) -> Line2D:
    """Draw a value by step with its band from low to high; return the line."""
    rows = rows.sort_values("step")
    axes.fill_between(
        rows["step"], rows["low"], rows["high"], color=look["color"], alpha=0.2, linewidth=0
    )
    return axes.plot(rows["step"], rows[name], label=label, **look)[0]


def steps_axis(axes: Axes, last: int) -> None:
    """Make the x axis one of training steps, logarithmic from the first on, with room for 0."""
    axes.set_xscale("symlog", linthresh=10, linscale=0.3)
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(FixedLocator([0, *(10**i for i in range(1, 9) if 10**i <= last)]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("training step")


def draw_sinusoids(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw when sinusoids of equal and of growing amplitudes are learnt, and the layers' norms.

    Above: amplitude of each frequency over that of the target, by step, from 0 to 1, mean over
    networks; points mark the mean step at which half of it is reached, hollow ones the earliest
    that it may be, where some networks never do. Below: spectral norms of the layers, means with
    bands from the least to the greatest network.

    Source: "On the spectral bias of neural networks", Figure 1.

    Args:
        tables: 'sinusoids', 'sinusoid_curves' and 'sinusoid_norms', as `sinusoids.sinusoids` has
            their rows.

    Raises:
        ValueError: a column is missing.
    """
    passages, curves, norms = (
        tables[name] for name in ("sinusoids", "sinusoid_curves", "sinusoid_norms")
    )
    check_columns(passages, ("case", "frequency", "censored", "learnt", "seeds"))
    check_columns(curves, ("case", *CURVE, "amplitude"))
    check_columns(norms, ("case", "layer", "step", "norm", "low", "high"))
    cases = [case for case in TITLES if case in set(curves["case"])]
    with style():
        figure = Figure(figsize=(PAGE, 4.9), dpi=DPI, layout="constrained")
        grid = figure.subplots(2, len(cases), squeeze=False, height_ratios=(1.2, 1), sharey="row")
        entries: dict[str, Any] = {}
        for column, case in enumerate(cases):
            above, below = grid[:, column]
            picture = draw_heat(
                above, curves[curves["case"] == case], passages[passages["case"] == case]
            )
            above.set_title(TITLES[case])
            own = norms[norms["case"] == case]
            for i, (layer, rows) in enumerate(own.groupby("layer")):
                look = {"color": COLORS[i], "linestyle": DASHES[i % len(DASHES)]}
                label = f"layer {layer}"
                entries[label] = draw_band(below, rows, "norm", label, look)
            below.set_xlim(0, own["step"].max())
            below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            below.set_xlabel("training step")
        grid[0, 0].set_ylabel("training step")
        grid[1, 0].set_ylabel("spectral norm")
        heat_bar(figure, picture, grid[0])
        add_legend(figure, entries)
        return finish(figure)


def draw_heat(axes: Axes, curves: pd.DataFrame, passages: pd.DataFrame) -> Any:
    """Draw amplitudes, frequency by step, with mean first passages; return the picture.

    Where some networks never learn a frequency, the point is hollow, and these count with the whole
    training; where none does, there is no point.
    """
    values = curves.pivot(index="step", columns="frequency", values="amplitude")
    steps, frequencies = values.index.to_numpy(float), values.columns.to_numpy(float)
    picture = axes.pcolormesh(
        edges(frequencies),
        edges(steps),
        values.to_numpy(),
        vmin=0,
        vmax=1,
        cmap=HEAT,
        rasterized=True,
    )
    axes.set_ylim(0, steps[-1])
    axes.grid(False)
    axes.xaxis.set_major_locator(FixedLocator(frequencies.tolist()))
    axes.set_xlabel("frequency k, periods per interval")
    whole = passages["learnt"] == passages["seeds"]
    for rows, look in (
        (passages[whole], PASSED),
        (passages[~whole & (passages["learnt"] > 0)], CENSORED),
    ):
        # A line without points that may leave the panel would break the layout.
        if len(rows):
            axes.plot(rows["frequency"], rows["censored"], clip_on=False, **look)
    return picture


def heat_bar(figure: Figure, picture: Any, panels: Any) -> None:
    """Put the colour bar of amplitudes beside panels."""
    bar = figure.colorbar(picture, ax=list(panels), extend="max", pad=0.02)
    bar.set_label("amplitude / target's")
    bar.ax.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    bar.ax.grid(False)


def edges(centres: Floats) -> Floats:
    """Return the borders of cells around rising centres; the first and last are as their next."""
    middles = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
    return np.concatenate([[first], middles, [last]])


def draw_parameter_noise(table: pd.DataFrame) -> Figure:
    """Draw what noise on the parameters leaves of each frequency of trained networks.

    Left: amplitude over that without noise, by frequency and norm, mean over directions and
    networks. Right: the same as lines, with bands from the least to the greatest network.

    Source: "On the spectral bias of neural networks", Figure 3.

    Args:
        table: rows as `sinusoids.noise_records` has them.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(table, ("frequency", "norm", "amplitude", "low", "high", "seeds", "directions"))
    with style():
        figure = Figure(figsize=(PAGE, 2.9), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        values = table.pivot(index="norm", columns="frequency", values="amplitude")
        frequencies = values.columns.to_numpy(float)
        picture = left.pcolormesh(
            edges(frequencies),
            edges(values.index.to_numpy(float)),
            values.to_numpy(),
            vmin=0,
            vmax=1,
            cmap=HEAT,
            rasterized=True,
        )
        left.set_ylim(0, values.index.max())
        left.grid(False)
        left.xaxis.set_major_locator(FixedLocator(frequencies.tolist()))
        left.set_xlabel("frequency k, periods per interval")
        left.set_ylabel("norm of the noise")
        bar = figure.colorbar(picture, ax=left, extend="max")
        bar.set_label("amplitude / without noise")
        bar.ax.grid(False)
        for i, (frequency, rows) in enumerate(table.groupby("frequency")):
            look = {"color": COLORS[i % len(COLORS)], "linestyle": DASHES[i % len(DASHES)]}
            draw_band(
                right, rows.rename(columns={"norm": "step"}), "amplitude", f"k = {frequency}", look
            )
        right.set_xlim(0, table["norm"].max())
        right.set_yscale("log")
        right.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10]))
        right.yaxis.set_major_formatter("{x:g}")
        right.yaxis.set_minor_formatter(NullFormatter())
        right.set_ylim(top=30)
        right.set_xlabel("norm of the noise")
        right.set_ylabel("amplitude / without noise")
        seeds, directions = table["seeds"].iloc[0], table["directions"].iloc[0]
        right.set_title(f"{seeds} networks, {directions} directions each")
        right.legend(loc="upper center", ncols=3)
        return finish(figure)
