"""Figure of noise of low and of high response frequency on labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

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
    style,
)

LOOKS = (
    Look("", BLUE, "", "-"),
    Look("", ORANGE, "", (0, (5, 1.5))),
    Look("", VERMILLION, "", (0, (6, 1.5, 1, 1.5))),
    Look("", GREEN, "", (0, (1, 1))),
    Look("", PINK, "", (0, (3, 1, 1, 1, 1, 1))),
)
"""Looks of frequencies, in rising order; more than these repeat."""

PANELS = {
    "noisy training": "noisy labels, trained on",
    "clean validation": "clean labels, validation",
}


def draw_label_noise(curves: pd.DataFrame) -> Figure:
    """Draw both losses along training, a line per frequency of the noise; a row per amplitude.

    Bands reach from the least to the greatest of the networks.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        curves,
        ("case", "frequency", "amplitude", "labels", "step", "loss", "loss_low", "loss_high"),
    )
    with style():
        amplitudes = sorted(set(curves["amplitude"]) - {0})
        cases = curves[curves["frequency"] > 0].sort_values("frequency")
        names = list(dict.fromkeys(cases["case"]))
        looks = {name: replace(LOOKS[i % len(LOOKS)], label=name) for i, name in enumerate(names)}
        looks["no noise"] = Look("no noise", DARK_GREY, "", (0, (2, 1)))
        figure = Figure(figsize=(PAGE, 2.3 * len(amplitudes)), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(amplitudes), 2, squeeze=False, sharex=True)
        entries: dict[str, Any] = {}
        for row, amplitude in zip(grid, amplitudes, strict=True):
            for axes, (labels, title) in zip(row, PANELS.items(), strict=True):
                own = curves[
                    (curves["labels"] == labels) & curves["amplitude"].isin([0, amplitude])
                ]
                for name, look in looks.items():
                    line = own[own["case"] == name].sort_values("step")
                    axes.fill_between(
                        line["step"],
                        line["loss_low"],
                        line["loss_high"],
                        color=look.color,
                        alpha=0.2,
                        linewidth=0,
                    )
                    entries[look.label] = axes.plot(line["step"], line["loss"], **look.line())[0]
                beta = f", $\\beta$ = {amplitude:g}" if len(amplitudes) > 1 else ""
                axes.set_title(title + beta)
                axes.set_ylim(bottom=0)
                axes.set_ylabel("mean squared error")
                if row is grid[-1]:
                    axes.set_xlabel("step of training")
        add_legend(figure, entries)
        return finish(figure)
