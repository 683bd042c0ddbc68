"""Figures of the study of "Bandlimiting": defence rates, and hyperplanes crossed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bandlimit.plots.style import (
    ATTACK_STYLE,
    BLUE,
    DARK_GREY,
    GREEN,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    draw_rates,
    epsilon_axis,
    few_entry,
    finish,
    label_left,
    looks_of,
    make_panels,
    points_of,
    single_place,
    sort_entries,
    span,
    style,
    values_of,
)

KIND_STYLE: Mapping[str, Look] = {
    "adversarial": Look("adversarial", VERMILLION, "o", "-"),
    "gaussian": Look("random, Gaussian", BLUE, "s", (0, (5, 1.5))),
    "signs": Look("random, signs", GREEN, "^", (0, (1, 1))),
}
"""Look of each kind of perturbation whose crossings are counted."""


def _rate_panel(axes: Axes, rows: pd.DataFrame, x: str, entries: dict[str, Any]) -> None:
    """Draw the defence rates of all attacks of a panel, adding to the entries of the legend."""
    absent = []
    attacked = rows[rows["attack"] != "clean"]
    looks = looks_of(attacked["attack"], ATTACK_STYLE)
    # Lines are told apart by their course, points of one place by their distance.
    apart = 1.2 if attacked[x].nunique() > 1 else 12.0
    for number, (name, look) in enumerate(looks.items()):
        shift = apart * (number - (len(looks) - 1) / 2)
        own = attacked[attacked["attack"] == name]
        line = draw_rates(axes, own, x, look, shift, count="adversarial")
        if line is None:
            absent.append(look.label)
        else:
            entries.setdefault(look.label, line)
    entries |= few_entry(attacked, "adversarial")
    if absent:
        axes.text(
            0.5,
            0.45,
            "\n".join(["no adversarial image:", *absent]),
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=DARK_GREY,
            bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0},
        )
    # Room for whole markers at 0 and 1.
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(np.linspace(0, 1, 6))


def defense_rate_by_radius(frame: pd.DataFrame) -> Figure:
    """Draw the defence rate of each attack over the radius of averaging, a panel per model.

    Source: Bandlimiting, Figure 2.

    Args:
        frame: columns dataset, model, attack, radius (L2, standardised input space), directions
            (K), adversarial (number of images), defense_rate, low, high (interval, in [0, 1]).
            Rows of attack 'clean' hold the defended accuracy on clean images. Rows without a rate
            are skipped, and an attack without any is named in its panel.

    Raises:
        ValueError: a column is missing, or a line has two rows of one radius.
    """
    check_columns(
        frame,
        ["dataset", "model", "attack", "radius", "directions", "adversarial"]
        + ["defense_rate", "low", "high"],
    )
    with style():
        groups = list(frame.groupby(["dataset", "model"], sort=True))
        headings = []
        for (dataset, model), rows in groups:
            count = span(rows.loc[rows["attack"] != "clean", "adversarial"])
            facts = f"N = {count} adversarial, K = {span(rows['directions'])}"
            headings.append((dataset, model, facts))
        figure, grid = make_panels(headings, 2.4, sharey=True)
        entries: dict[str, Any] = {}
        look = Look("clean accuracy, defended", DARK_GREY, "", "--")
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _rate_panel(axes, rows, "radius", entries)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            clean = rows[rows["attack"] == "clean"]
            if single_place(axes, values_of(rows["radius"])):
                # A line of one point is none.
                for rate, low, high in clean[["defense_rate", "low", "high"]].to_numpy(float):
                    axes.axhspan(low, high, color=look.color, alpha=0.12, linewidth=0)
                    line = axes.axhline(rate, color=look.color, linestyle=look.dashes)
                    entries[look.label] = line
            elif (line := draw_rates(axes, clean, "radius", look)) is not None:
                entries[look.label] = line
        for axes in grid:
            axes.set_xlabel("radius r (L2, standardised)")
        label_left(grid, "defence rate")
        add_legend(figure, sort_entries(entries, ATTACK_STYLE))
        return finish(figure)


def defense_rate_by_epsilon(frame: pd.DataFrame) -> Figure:
    """Draw the defence rate of each attack over the l_inf bound, a panel per model.

    Source: Bandlimiting, Figure 3. The axis is logarithmic, with ticks in units of 1/255.

    Args:
        frame: columns dataset, model, attack, epsilon (l_inf, [0, 1] pixels), adversarial (number
            of images), defense_rate, low, high (interval, in [0, 1]; null, as the rate is, where no
            image is adversarial: such points are skipped, and an attack without any point is named
            in its panel).

    Raises:
        ValueError: a column is missing, or a line has two rows of one epsilon.
    """
    check_columns(
        frame,
        ["dataset", "model", "attack", "epsilon", "adversarial", "defense_rate", "low", "high"],
    )
    with style():
        groups = list(frame.groupby(["dataset", "model"], sort=True))
        headings = [
            (*names, f"N = {span(rows['adversarial'])} adversarial") for names, rows in groups
        ]
        figure, grid = make_panels(headings, 2.4, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _rate_panel(axes, rows, "epsilon", entries)
            seen = np.unique(values_of(rows["epsilon"]))
            epsilon_axis(axes, seen[np.isfinite(seen)])
        for axes in grid:
            axes.set_xlabel("L∞ bound ε, in units of 1/255")
        label_left(grid, "defence rate")
        add_legend(figure, sort_entries(entries, ATTACK_STYLE))
        return finish(figure)


def crossings(frame: pd.DataFrame) -> Figure:
    """Draw the share of units whose side flips, by layer, a panel per model and attack.

    Source: Bandlimiting, section 2.2, with random controls of equal length.

    Args:
        frame: columns dataset, model, attack, layer (number), kind ('adversarial', 'gaussian',
            'signs'), share (mean over images, in [0, 1]), low, high (interval). Rows without a
            share are skipped.

    Raises:
        ValueError: a column is missing, or a line has two rows of one layer.
    """
    check_columns(frame, ["dataset", "model", "attack", "layer", "kind", "share", "low", "high"])
    with style():
        groups = list(frame.groupby(["dataset", "model", "attack"], sort=True))
        labels = {
            name: look.label for name, look in looks_of(frame["attack"], ATTACK_STYLE).items()
        }
        headings = [(dataset, model, labels[attack]) for (dataset, model, attack), _ in groups]
        figure, grid = make_panels(headings, 2.3)
        entries: dict[str, Any] = {}
        tops: dict[Any, float] = {}
        for axes, ((dataset, model, _), rows) in zip(grid, groups, strict=False):
            for name, look in looks_of(rows["kind"], KIND_STYLE).items():
                layer, share, low, high = points_of(
                    rows[rows["kind"] == name], "layer", ("share", "low", "high")
                )
                if len(layer):
                    axes.fill_between(layer, low, high, color=look.color, alpha=0.2, linewidth=0)
                    entries[look.label] = axes.plot(layer, share, **look.line())[0]
            tops[dataset, model] = max(tops.get((dataset, model), 0), axes.get_ylim()[1])
        # One scale for all attacks on a model.
        for axes, ((dataset, model, _), _rows) in zip(grid, groups, strict=False):
            axes.set_ylim(0, tops[dataset, model])
        for axes in grid:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.4g}"))
            axes.set_xlabel("ReLU layer")
        label_left(grid, "hyperplanes crossed (%)")
        add_legend(figure, sort_entries(entries, KIND_STYLE))
        return finish(figure)
