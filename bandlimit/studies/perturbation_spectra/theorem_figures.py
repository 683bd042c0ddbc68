"""Figures of the theorems: what was simulated, and the LFC ratio along training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from bandlimit.plots.style import (
    BLUE,
    DARK_GREY,
    DPI,
    GREEN,
    GREY,
    ORANGE,
    PAGE,
    PINK,
    VERMILLION,
    Floats,
    Look,
    add_legend,
    check_columns,
    finish,
    points_of,
    style,
    values_of,
)
from bandlimit.studies.perturbation_spectra.theorems import UNIFORM

NETWORK_STYLE: Mapping[str, Look] = {
    "frozen_relu": Look("ReLU, frozen", BLUE, "o", "-"),
    "relu": Look("ReLU", ORANGE, "x", (0, (5, 1.5))),
    "softplus": Look("Softplus", GREEN, "^", (0, (6, 1.5, 1, 1.5))),
}
"""Look of the networks of Theorem 1."""

PGD_STYLE: Mapping[tuple[str, str], Look] = {
    ("initialised", "relu"): Look("ReLU, initialised", BLUE, "", (0, (4, 1.5))),
    ("trained", "relu"): Look("ReLU, trained", BLUE, "", "-"),
    ("initialised", "softplus"): Look("Softplus, initialised", GREEN, "", (0, (4, 1.5))),
    ("trained", "softplus"): Look("Softplus, trained", GREEN, "", "-"),
}
"""Look of the networks of Theorem 4, by state and activation."""

CASE_STYLE: Mapping[str, Look] = {
    "single_relu": Look("one sample, ReLU", BLUE, "", "-"),
    "single_softplus": Look("one sample, Softplus", GREEN, "", (0, (6, 1.5, 1, 1.5))),
    "constant": Look("constant labels", BLUE, "", (0, (1, 1))),
    "low_teacher": Look("low-frequency teacher", GREEN, "", (0, (5, 1.5))),
    "white_teacher": Look("white teacher", ORANGE, "", "-"),
    "high_teacher": Look("high-frequency teacher", VERMILLION, "", (0, (6, 1.5, 1, 1.5))),
    "random": Look("random labels", PINK, "", (0, (3, 1, 1, 1, 1, 1))),
}
"""Look of the cases of training."""


GUIDE: Mapping[str, Any] = {"color": "black", "linestyle": (0, (1, 1)), "linewidth": 0.9}
"""Look of lines that others are compared with."""


def _check(tables: Mapping[str, pd.DataFrame], columns: Mapping[str, Sequence[str]]) -> None:
    """Raise a ValueError if a table, or a column of one, is missing."""
    missing = [name for name in columns if name not in tables]
    if missing:
        raise ValueError(f"tables {missing} are missing, got {list(tables)}")
    for name, needed in columns.items():
        check_columns(tables[name], needed)


def draw_theorems(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw what was simulated of the four theorems, a panel each.

    Theorem 1: what eq. (9) misses, by learning rate, beside lines of first and second order.
    Theorem 2: relative magnitude at the higher over that at the lower frequency; it should pass 1
    where the order is predicted to change, or never. Theorem 3: how often the perturbation stays
    below its input, with and without condition (12). Theorem 4: how far the LFC ratio of a PGD
    perturbation is from that of the gradient.

    Source: "A frequency domain analysis of gradient-based adversarial examples", Theorems 1 to 4,
    which it proves and does not draw.

    Args:
        tables: 'theorem_1' to 'theorem_4', as the functions of `theorem_tables` return them.

    Raises:
        ValueError: a table or a column is missing.
    """
    _check(
        tables,
        {
            "theorem_1": ("network", "eta", "residual", "residual_low", "residual_high", "slope"),
            "theorem_2": ("kind", "relative_step", "ratio", "ratio_low", "ratio_high"),
            "theorem_3": (
                *("sign", "condition", "violation_rate", "below", "draws"),
                *("probability", "probability_low", "probability_high"),
            ),
            "theorem_4": ("state", "activation", "step", "gap", "gap_low", "gap_high"),
        },
    )
    with style():
        figure = Figure(figsize=(PAGE, 5.6), dpi=DPI, layout="constrained")
        grid = figure.subplots(2, 2).ravel()
        _draw_residuals(grid[0], tables["theorem_1"])
        _draw_order(grid[1], tables["theorem_2"])
        _draw_conditions(grid[2], tables["theorem_3"])
        _draw_gaps(grid[3], tables["theorem_4"])
        return finish(figure)


def _draw_residuals(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_title("Theorem 1: error of eq. 9 after one step")
    axes.set_xlabel("learning rate η")
    axes.set_ylabel("|change of τ − eq. 9|")
    axes.set_xscale("log")
    axes.set_yscale("log")
    guide: tuple[Floats, Floats] | None = None
    for name, look in NETWORK_STYLE.items():
        part = rows[rows["network"] == name]
        if part.empty:
            continue
        eta, middle, low, high = points_of(
            part, "eta", ("residual", "residual_low", "residual_high")
        )
        line = axes.plot(eta, middle, **look.line())[0]
        line.set_label(f"{look.label}: order {part['slope'].iloc[0]:.2f}")
        axes.fill_between(eta, low, high, color=look.color, alpha=0.2, linewidth=0)
        if name == "frozen_relu":
            guide = eta, 3 * middle[-1] * (eta / eta[-1]) ** 2
    if guide is not None:
        axes.plot(*guide, **GUIDE, label="order 2")
    if axes.has_data():
        axes.legend(loc="upper left", handlelength=2.2)


def _draw_order(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_title("Theorem 2: order of two frequencies k > k′")
    axes.set_xlabel("S / |S*|")
    axes.set_ylabel("R$_k$ / R$_{k′}$")
    axes.set_yscale("log")
    for kind, label, color, dashes in (
        ("crossing", "order should change at S*", VERMILLION, "-"),
        ("lasting", "order should last", BLUE, (0, (5, 1.5))),
    ):
        part = rows[rows["kind"] == kind]
        if part.empty:
            continue
        step, middle, low, high = points_of(
            part, "relative_step", ("ratio", "ratio_low", "ratio_high")
        )
        axes.plot(step, middle, color=color, linestyle=dashes, label=label)
        axes.fill_between(step, low, high, color=color, alpha=0.2, linewidth=0)
    if not axes.has_data():
        return
    axes.axhline(1, **GUIDE)
    # The legend is above it.
    axes.axvline(1, ymax=0.75, **GUIDE)
    axes.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10]))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(top=30)
    axes.legend(loc="upper right", handlelength=2.2)


def _draw_conditions(axes: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    rate, low, high = (
        float(values_of(rows[name])[0])
        for name in ("probability", "probability_low", "probability_high")
    )
    axes.set_title(
        f"Theorem 3: condition 12 holds at the start\nin {rate:.3f} [{low:.3f}, {high:.3f}] of "
        "networks"
    )
    axes.set_ylabel("share with τ(δ) < τ(x)")
    places = np.arange(len(rows))
    for shift, values, color, hatch, label in (
        (-0.2, 1 - values_of(rows["violation_rate"]), BLUE, "", "at every S"),
        (0.2, values_of(rows["below"]), GREY, "///", "until the sample is learnt"),
    ):
        bars = axes.bar(
            places + shift,
            values,
            0.36,
            color=color,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.5,
            label=label,
        )
        # A bar of 0 can't be seen.
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=1)
    signs = {"positive": "dl/df > 0", "negative": "dl/df < 0"}
    axes.set_xticks(
        places,
        [
            f"(12) {condition}\n{signs.get(sign, sign)}"
            for sign, condition in zip(rows["sign"], rows["condition"], strict=True)
        ],
    )
    axes.grid(False, axis="x")
    axes.set_ylim(0, 1.45)
    axes.yaxis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
    axes.legend(loc="upper left", handlelength=1.6)


def _draw_gaps(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_title("Theorem 4: PGD perturbation and gradient")
    axes.set_xlabel("PGD step")
    axes.set_ylabel("|τ(δ) − τ(∇f)|")
    axes.set_yscale("log")
    for (state, activation), look in PGD_STYLE.items():
        part = rows[(rows["state"] == state) & (rows["activation"] == activation)]
        if part.empty:
            continue
        step, middle, low, high = points_of(part, "step", ("gap", "gap_low", "gap_high"))
        axes.plot(step, middle, **look.line())
        axes.fill_between(step, low, high, color=look.color, alpha=0.15, linewidth=0)
    if axes.has_data():
        axes.set_ylim(top=20)
        axes.yaxis.set_major_locator(FixedLocator([1e-4, 1e-3, 1e-2, 1e-1, 1]))
        axes.legend(loc="upper right", ncols=2, handlelength=2.2)


def draw_training(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the LFC ratio of the input gradient along training, on one sample and on many.

    Lines are means over replicates, bands reach from the least to the greatest of them.

    Source: "A frequency domain analysis of gradient-based adversarial examples", Theorem 1, and
    Figure 11 for a data set.

    Args:
        tables: 'training' and 'training_curves', as the functions of `theorem_tables` return them.

    Raises:
        ValueError: a table or a column is missing.
    """
    _check(
        tables,
        {
            "training": ("case", "samples", "input_ratio"),
            "training_curves": ("case", "seed", "step", "tau"),
        },
    )
    runs, curves = tables["training"], tables["training_curves"]
    with style():
        figure = Figure(figsize=(PAGE, 2.7), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        entries: dict[str, Any] = {}
        for axes, of in zip(panels, (runs["samples"] == 1, runs["samples"] > 1), strict=True):
            entries |= _draw_curves(axes, runs[of], curves)
        panels[0].set_ylabel("LFC ratio τ of the input gradient")
        panels[0].set_title("one sample, the setting of Theorem 1")
        many = runs.loc[runs["samples"] > 1, "samples"]
        panels[1].set_title(f"{many.iloc[0]} samples, by kind of labels" if len(many) else "")
        # The lines that all cases are compared with come last.
        last = {name: entries.pop(name) for name in (INPUT, FLAT) if name in entries}
        add_legend(figure, entries | last)
        return finish(figure)


INPUT, FLAT = "τ of the inputs", "τ of a flat spectrum"


def _draw_curves(axes: Axes, runs: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Any]:
    """Draw the cases of some runs; return the legend's entries."""
    axes.set_xlabel("training step")
    entries: dict[str, Any] = {}
    for case, look in CASE_STYLE.items():
        rows = curves[curves["case"] == case]
        if rows.empty or case not in set(runs["case"]):
            continue
        values = rows.pivot(index="step", columns="seed", values="tau")
        step = values.index.to_numpy(float)
        axes.fill_between(
            step, values.min(axis=1), values.max(axis=1), color=look.color, alpha=0.15, linewidth=0
        )
        entries[look.label] = axes.plot(step, values.mean(axis=1), **look.line())[0]
    if not entries:
        return entries
    # Step 0 has a place, and early steps have room.
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(FixedLocator([0, 1, 10, 100, 1000]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(0, 1)
    for label, level, guide in (
        (INPUT, float(values_of(runs["input_ratio"]).mean()), GUIDE),
        (FLAT, UNIFORM, {**GUIDE, "color": DARK_GREY, "linestyle": "--"}),
    ):
        entries[label] = axes.axhline(level, **guide)
    return entries
