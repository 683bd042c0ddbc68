"""Figures of the study `robustness`: what adaptive attacks and controls leave of a defence."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bandlimit.plots.style import (
    ATTACK_STYLE,
    BLUE,
    DARK_GREY,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    draw_rates,
    epsilon_axis,
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

ATTACK_NAMES: Mapping[str, str] = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "eot_pgd": "EOT-PGD",
    "exact_pgd": "PGD, exact gradient",
    "transfer_pgd": "PGD",
    "eot_one_step": "EOT, one step",
    "bpda_pgd": "BPDA-PGD",
    "band_pgd": "PGD in the band",
    "autoattack": "AutoAttack",
    "square": "Square",
    "noise": "random noise",
}
"""How names of attacks with a bound read."""

LINE_STYLE: Mapping[str, Look] = {
    "clean": Look("clean, defended", DARK_GREY, "", "--"),
    "undefended": Look("undefended, strongest attack", VERMILLION, "X", (0, (5, 1.5))),
    "noise": Look("random noise", GREY, "D", (0, (1, 1.5))),
    "transfer": Look("attack on the undefended", BLUE, "s", (0, (6, 1.5, 1, 1.5))),
    "black_box": Look("black box", ORANGE, "v", (0, (3, 1))),
    "adaptive": Look("attack that knows the defence", GREEN, "^", "-"),
    "strongest": Look("strongest of all, by image", "black", "o", "-"),
}
"""Look of each line of robust accuracy."""

MARKS = (
    ("s", "-"),
    ("^", (0, (5, 1.5))),
    ("D", (0, (1, 1))),
    ("v", (0, (6, 1.5, 1, 1.5))),
    ("P", (0, (3, 1))),
    ("<", (0, (2, 2))),
    (">", (0, (3, 1, 1, 1, 1, 1))),
    ("h", (0, (8, 2))),
)
"""Marker and dashes of the attacks of one kind of line, in turn."""

DEFENSE_STYLE: Mapping[str, Look] = {
    "post_averaging": Look("post-averaging", VERMILLION, "o", "-"),
    "post_averaging_fixed": Look("post-averaging, fixed", ORANGE, "s", (0, (5, 1.5))),
    "low_pass": Look("low-pass filter", BLUE, "^", (0, (6, 1.5, 1, 1.5))),
    "flip": Look("horizontal flip", GREEN, "D", (0, (1, 1))),
    "smoothed_kernels": Look("smoothed kernels", SKY, "P", (0, (4, 1))),
    "smoothed_kernels_normalized": Look("smoothed, normalised", PINK, "<", (0, (2, 1, 1, 1))),
    "undefended": Look("undefended", DARK_GREY, "X", (0, (2, 1))),
}
"""Look of each defence; others are drawn under their own names."""

FILLS = ("full", "none", "left", "right", "top", "bottom")
"""How markers of one attack at several bounds are filled, in turn."""


def robust_accuracy(frame: pd.DataFrame) -> Figure:
    """Draw accuracy over the l_inf bound for each kind of attacker, a panel per defence.

    The shaded part lies below the strongest attack of all: what is left of the defence.

    Args:
        frame: as `rates.accuracy_curves` gives it: dataset, model, defense, line, attack,
            epsilon (l_inf, [0, 1] pixels), images, draws, mean, low, high. The line 'clean' is
            drawn across the panel.

    Raises:
        ValueError: a column is missing, or a line has two rows of one epsilon.
    """
    check_columns(
        frame,
        ["dataset", "model", "defense", "line", "attack", "epsilon", "images", "draws"]
        + ["mean", "low", "high"],
    )
    with style():
        groups = list(frame.groupby(["dataset", "model", "defense"], sort=True))
        headings = []
        for (dataset, model, defense), rows in groups:
            draws = span(rows.loc[rows["line"] == "strongest", "draws"])
            name = _name(defense)
            facts = f"{name}\nN = {span(rows['images'])}"
            facts += "" if draws in ("none", "1") else f", {draws} draws"
            headings.append((dataset, model, facts))
        figure, grid = make_panels(headings, 2.8, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _accuracy_panel(axes, rows, entries)
        for axes in grid:
            axes.set_xlabel("L∞ bound ε, in units of 1/255")
        label_left(grid, "accuracy")
        order = [look.label for look in LINE_STYLE.values()]
        add_legend(figure, {name: entries[name] for name in order if name in entries})
        return finish(figure)


def _accuracy_panel(
    axes: Axes,
    rows: pd.DataFrame,
    entries: dict[str, Any],
) -> None:
    """Draw all lines of a panel, adding to the entries of the legend."""
    curves = rows[rows["line"] != "clean"]
    present = [name for name in LINE_STYLE if name in set(curves["line"])]
    for number, name in enumerate(present):
        look, own = LINE_STYLE[name], curves[curves["line"] == name]
        # The strongest stays at the edge of what is shaded.
        shift = 0.0 if name == "strongest" else 1.5 * (number - (len(present) - 1) / 2)
        line = draw_rates(axes, own, "epsilon", look, shift, "mean")
        if line is None:
            continue
        if name == "strongest":
            line.set_linewidth(2.0)
            line.set_zorder(3)
            x, mean = points_of(own, "epsilon", ("mean",))
            axes.fill_between(x, 0, mean, color="0.85", linewidth=0, zorder=0.5)
        entries[look.label] = line
    for clean in values_of(rows.loc[rows["line"] == "clean", "mean"]):
        if np.isfinite(clean):
            line = axes.axhline(clean, color=DARK_GREY, linestyle="--", linewidth=0.9)
            entries[LINE_STYLE["clean"].label] = line
    seen = np.unique(values_of(curves["epsilon"]))
    epsilon_axis(axes, seen[np.isfinite(seen)])
    _unit_axis(axes)


def _unit_axis(axes: Axes) -> None:
    # Room for whole markers at 0 and 1.
    axes.set_ylim(-0.03, 1.03)
    axes.set_yticks(np.linspace(0, 1, 6))


def _attack(name: str) -> str:
    """Return how the name of an attack reads; what follows a known one stays: 'EOT-PGD margin'."""
    for known in sorted(ATTACK_NAMES, key=len, reverse=True):
        if name == known or name.startswith(f"{known}_"):
            return ATTACK_NAMES[known] + name.removeprefix(known).replace("_", " ")
    return name


def _name(defense: str) -> str:
    known = DEFENSE_STYLE.get(defense)
    return known.label if known else defense.replace("_", " ")


def restored_by_scaling(frame: pd.DataFrame) -> Figure:
    """Draw the share restored over the factor that lengthens the perturbation, a panel per attack.

    Args:
        frame: as `rates.scaling_rates` gives it: dataset, model, attack, defense, factor,
            images, restored, low, high, median_linf ([0, 1] pixels).

    Raises:
        ValueError: a column is missing, or a line has two rows of one factor.
    """
    check_columns(
        frame,
        ["dataset", "model", "attack", "defense", "factor", "images", "restored"]
        + ["low", "high", "median_linf"],
    )
    with style():
        groups = list(frame.groupby(["dataset", "model", "attack"], sort=True))
        labels = {
            name: look.label for name, look in looks_of(frame["attack"], ATTACK_STYLE).items()
        }
        headings = []
        for (dataset, model, attack), rows in groups:
            length = span(rows.loc[rows["factor"] == 1, "median_linf"].mul(255).round(2))
            facts = f"{labels[attack]}, N = {span(rows['images'])}"
            facts += "" if length == "none" else f"\nmedian L∞ at factor 1: {length} / 255"
            headings.append((dataset, model, facts))
        figure, grid = make_panels(headings, 2.5, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _lines(axes, rows, ("factor", "restored"), "defense", DEFENSE_STYLE, entries)
            axes.set_xticks(np.unique(np.rint(values_of(rows["factor"].dropna()))))
            single_place(axes, values_of(rows["factor"]))
        for axes in grid:
            axes.set_xlabel("perturbation × factor")
        label_left(grid, "share restored")
        add_legend(figure, sort_entries(entries, DEFENSE_STYLE))
        return finish(figure)


def _lines(
    axes: Axes,
    rows: pd.DataFrame,
    columns: tuple[str, str],
    by: str,
    known: Mapping[str, Look],
    entries: dict[str, Any],
) -> None:
    """Draw a line of rates, of columns x and y, for each value of a column."""
    looks = looks_of(rows[by], known)
    # Lines are told apart by their course, points of one place by their distance.
    apart = 1.2 if rows[columns[0]].nunique() > 1 else 12.0
    for number, (name, look) in enumerate(looks.items()):
        shift = apart * (number - (len(looks) - 1) / 2)
        line = draw_rates(axes, rows[rows[by] == name], columns[0], look, shift, columns[1])
        if line is not None:
            entries.setdefault(look.label, line)
    _unit_axis(axes)


def restored_by_controls(frame: pd.DataFrame, reference: str = "post_averaging") -> Figure:
    """Draw what a defence restores beside cheap controls, best on top, a panel per model.

    A grey tick is the accuracy on clean images.

    Args:
        frame: as `rates.control_rates` gives it: dataset, model, attack, epsilon (l_inf,
            [0, 1] pixels; null for minimal attacks), control, adversarial, restored, low, high,
            clean.
        reference: the defence that the controls stand beside; its row is shaded.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        frame,
        ["dataset", "model", "attack", "epsilon", "control", "adversarial", "restored"]
        + ["low", "high", "clean"],
    )
    with style():
        means = frame.assign(restored=values_of(frame["restored"])).groupby("control")["restored"]
        controls = list(means.mean().sort_values(na_position="first", kind="stable").index)
        groups = list(frame.groupby(["dataset", "model"], sort=True))
        headings = [
            (*names, f"N = {span(rows['adversarial'])} adversarial") for names, rows in groups
        ]
        figure, grid = make_panels(headings, 0.95 + 0.2 * max(5, len(controls)), sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _control_panel(axes, rows, controls, entries)
            if reference in controls and axes.has_data():
                place = controls.index(reference)
                axes.axhspan(place - 0.5, place + 0.5, color=VERMILLION, alpha=0.12, linewidth=0)
            axes.set_yticks(range(len(controls)), [_name(name) for name in controls])
            axes.set_ylim(-0.6, len(controls) - 0.4)
            axes.grid(axis="y", visible=False)
            # Names of controls take half the width, and the title stands above the other half.
            axes.set_title(axes.get_title().replace(", ", ",\n", 1))
        for axes in grid:
            axes.set_xlim(-0.03, 1.03)
            axes.set_xticks(np.linspace(0, 1, 6))
            axes.set_xlabel("share restored")
        add_legend(figure, entries)
        return finish(figure)


def _control_panel(
    axes: Axes, rows: pd.DataFrame, controls: list[str], entries: dict[str, Any]
) -> None:
    """Draw the controls of a panel, one below the other, and all attacks of each."""
    series = []
    for attack, look in looks_of(rows["attack"], ATTACK_STYLE).items():
        own = rows[rows["attack"] == attack]
        for fill, (epsilon, part) in zip(
            itertools.cycle(FILLS), own.groupby("epsilon", sort=True, dropna=False)
        ):
            bound = "" if pd.isna(epsilon) else f", {255 * epsilon:.3g}/255"
            series.append((look, look.label + bound, fill, part))
    for number, (look, label, fill, part) in enumerate(series):
        place = np.array([controls.index(name) for name in part["control"]], dtype=float)
        offset = 0.6 * ((len(series) - 1) / 2 - number) / max(1, len(series) - 1)
        restored, low, high = (values_of(part[name]) for name in ("restored", "low", "high"))
        kept = np.isfinite(restored)
        if not kept.any():
            continue
        axes.hlines(
            place[kept] + offset, low[kept], high[kept], color=look.color, linewidth=0.8, alpha=0.7
        )
        entries[label] = axes.plot(
            restored[kept],
            place[kept] + offset,
            linestyle="",
            marker=look.marker,
            color=look.color,
            fillstyle=fill,
        )[0]
    clean = rows.dropna(subset="clean").drop_duplicates("control")
    if len(clean):
        entries["clean accuracy"] = axes.plot(
            values_of(clean["clean"]),
            [controls.index(name) for name in clean["control"]],
            linestyle="",
            marker="|",
            markersize=12,
            markeredgewidth=1.2,
            color=DARK_GREY,
            zorder=1.5,
        )[0]


def defense_rate_by_confidence(frame: pd.DataFrame) -> Figure:
    """Draw the defence rate over the confidence that an attack asks for, a panel per attack.

    Args:
        frame: as `rates.confidence_rates` gives it: dataset, model, defense, against, attack,
            confidence, adversarial, defense_rate, low, high.

    Raises:
        ValueError: a column is missing, or a line has two rows of one confidence.
    """
    check_columns(
        frame,
        ["dataset", "model", "defense", "against", "attack", "confidence", "adversarial"]
        + ["defense_rate", "low", "high"],
    )
    with style():
        # The attacked one is fooled by every image counted.
        shown = frame[frame["defense"] != frame["against"]]
        groups = list(shown.groupby(["dataset", "model", "against", "attack"], sort=True))
        labels = {
            name: look.label for name, look in looks_of(shown["attack"], ATTACK_STYLE).items()
        }
        headings = []
        for (dataset, model, against, attack), rows in groups:
            facts = f"{labels[attack]} on {_name(against)}\nN = {span(rows['adversarial'])}"
            headings.append((dataset, model, f"{facts} adversarial"))
        figure, grid = make_panels(headings, 2.5, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            _lines(axes, rows, ("confidence", "defense_rate"), "defense", DEFENSE_STYLE, entries)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
            single_place(axes, values_of(rows["confidence"]))
        for axes in grid:
            axes.set_xlabel("confidence κ")
        label_left(grid, "defence rate")
        add_legend(figure, sort_entries(entries, DEFENSE_STYLE))
        return finish(figure)


def loss_curves(frame: pd.DataFrame) -> Figure:
    """Draw the loss that an attack maximises over its steps, a panel per attack.

    A line is the mean over images and restarts, the band holds the middle half. An attack of one
    step has no line.

    Args:
        frame: as `rates.loss_curves` gives it: dataset, model, against, attack, epsilon
            (l_inf, [0, 1] pixels), step, images, mean, lower, upper.

    Raises:
        ValueError: a column is missing, or a line has two rows of one step.
    """
    check_columns(
        frame,
        ["dataset", "model", "against", "attack", "epsilon", "step", "images"]
        + ["mean", "lower", "upper"],
    )
    with style():
        names = ["dataset", "model", "against", "attack"]
        groups = [
            (name, rows)
            for name, rows in frame.groupby(names, sort=True)
            if rows["step"].nunique() > 1
        ]
        headings = []
        for (dataset, model, against, attack), rows in groups:
            facts = f"{_attack(attack)}\non {_name(against)}, N = {span(rows['images'])}"
            headings.append((dataset, model, facts))
        figure, grid = make_panels(headings, 2.4)
        epsilons = sorted(frame["epsilon"].dropna().unique())
        # From dark to light as the bound grows; without its ends, which print badly.
        colors = seaborn.color_palette("viridis", max(2, len(epsilons) + 1)).as_hex()
        looks = {
            epsilon: Look(f"ε = {255 * epsilon:.3g}/255", color, marker, dashes)
            for epsilon, color, (marker, dashes) in zip(epsilons, colors, itertools.cycle(MARKS))
        }
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            for epsilon, look in looks.items():
                own = rows[rows["epsilon"] == epsilon]
                step, mean, lower, upper = points_of(own, "step", ("mean", "lower", "upper"))
                if not len(step):
                    continue
                axes.fill_between(step, lower, upper, color=look.color, alpha=0.15, linewidth=0)
                line = axes.plot(step, mean, **look.line(), markevery=max(1, len(step) // 6))[0]
                entries[look.label] = line
        for axes in grid:
            axes.set_xlabel("step of the attack")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        label_left(grid, "loss")
        add_legend(
            figure,
            {look.label: entries[look.label] for look in looks.values() if look.label in entries},
        )
        return finish(figure)
