"""The figure of training: what each epoch brought."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bandlimit.plots.style import (
    ATTACK_STYLE,
    DARK_GREY,
    DPI,
    GREY,
    PAGE,
    add_legend,
    check_columns,
    finish,
    points_of,
    style,
)


def training_history(frame: pd.DataFrame) -> Figure:
    """Draw loss, accuracy and learning rate over the epochs of each trained model.

    Args:
        frame: columns model, epoch, loss, accuracy (in [0, 1], as seen while training),
            learning_rate; null values are skipped.

    Raises:
        ValueError: a column is missing, or a model has two rows of one epoch.
    """
    check_columns(frame, ["model", "epoch", "loss", "accuracy", "learning_rate"])
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
                epoch, value = points_of(rows, "epoch", (column,))
                if len(epoch):
                    entries[look.label] = axes.plot(epoch, value, **look.line())[0]
            epoch, rate = points_of(rows, "epoch", ("learning_rate",))
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
        add_legend(figure, entries)
        return finish(figure)
