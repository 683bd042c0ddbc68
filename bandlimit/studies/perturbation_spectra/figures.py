"""Figures of the study that are curves: lifts, trajectories, the low-pass filter, shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from bandlimit.plots.style import (
    BLUE,
    COLUMN,
    DARK_GREY,
    DPI,
    GREEN,
    ORANGE,
    PAGE,
    PINK,
    SKY,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    finish,
    make_panels,
    style,
    values_of,
)
from bandlimit.studies.perturbation_spectra.rates import HIGH, LOW

Floats = NDArray[np.float64]

PERTURBATIONS = {"fgm_l2": "FGM, L2", "pgd_l2": "PGD, L2", "pgd_linf": "PGD, L∞"}
"""How perturbations are called; others by their names."""

CHECKPOINTS = ("initial", "one_epoch", "end")
STAGES = ("initial", "one\nepoch", "end")

RADII = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILLION)


def network_name(batchnorm: bool, training: str, loss: str, two_layer: bool = False) -> str:
    """Return how a network of the grid is called."""
    if two_layer:
        return "two layers, squared error"
    norm = "BatchNorm" if batchnorm else "no BatchNorm"
    return f"{norm}, {training}" + (", squared error" if loss == "mse" else "")


def title(network: Mapping[str, Any], perturbation: str) -> str:
    """Return how a network and a perturbation are called in the title of a figure."""
    two_layer = network["architecture"] == "two_layer"
    name = network_name(network["batchnorm"], network["training"], network["loss"], two_layer)
    return f"{network['name']} ({name}), {PERTURBATIONS.get(perturbation, perturbation)}"


LOOKS = {
    "BatchNorm, natural": Look("", BLUE, "o", "-"),
    "no BatchNorm, natural": Look("", ORANGE, "s", (0, (5, 1.5))),
    "BatchNorm, adversarial": Look("", GREEN, "^", (0, (6, 1.5, 1, 1.5))),
    "no BatchNorm, adversarial": Look("", PINK, "D", (0, (1, 1))),
    "BatchNorm, natural, squared error": Look("", VERMILLION, "v", "-"),
    "two layers, squared error": Look("", DARK_GREY, "X", "-"),
}
"""Look of each kind of network."""


def _network(row: Mapping[str, Any]) -> str:
    two_layer = str(row["network"]).endswith("two_layer")
    return network_name(bool(row["batchnorm"]), row["training"], row["loss"], two_layer)


def draw_lifts(frame: pd.DataFrame, sides: Mapping[str, str]) -> Figure:
    """Draw the lift of each cell of the grid, a panel per perturbation.

    Args:
        frame: the table `contradiction`.
        sides: short names of the documents that speak for 'low', 'uniform' and 'high'.
    """
    check_columns(frame, ["network", "perturbation", "checkpoint", "lift", "lift_low", "lift_high"])
    names = list(dict.fromkeys(frame["perturbation"]))
    with style():
        count = max(1, len(names))
        figure = Figure(figsize=(PAGE, 2.9), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, count, sharey=True, squeeze=False).ravel()
        values = values_of(frame["lift"]) if len(frame) else np.array([1.0])
        top = max(4.0, float(np.nanmax(values)) * 1.25)
        bottom = min(0.35, float(np.nanmin(values)) / 1.25)
        entries: dict[str, Any] = {}
        for axes, name in zip(grid, names, strict=False):
            rows = frame[frame["perturbation"] == name]
            axes.set_title(f"{PERTURBATIONS.get(name, name)}\nN = {rows['images'].max()} images")
            _lift_panel(axes, rows, entries)
        for number, axes in enumerate(grid):
            _regions(axes, bottom, top, sides if number == 0 else {})
        grid[0].set_ylabel("lift of low frequencies")
        add_legend(figure, {name: entries[name] for name in LOOKS if name in entries})
        return finish(figure)


def _lift_panel(axes: Axes, rows: pd.DataFrame, entries: dict[str, Any]) -> None:
    networks = list(dict.fromkeys(rows["network"]))
    for number, network in enumerate(networks):
        own = rows[rows["network"] == network].set_index("checkpoint")
        known = [stage for stage in CHECKPOINTS if stage in own.index]
        name = _network(own.reset_index().iloc[0].to_dict())
        look = LOOKS.get(name, Look("", DARK_GREY, "p", "-"))
        place = [CHECKPOINTS.index(stage) + 0.07 * (number - len(networks) / 2) for stage in known]
        part = own.loc[known]
        axes.vlines(place, part["lift_low"], part["lift_high"], color=look.color, linewidth=0.9)
        line = axes.plot(place, part["lift"], **{**look.line(), "label": name})[0]
        entries.setdefault(name, line)


def _regions(axes: Axes, bottom: float, top: float, sides: Mapping[str, str]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom, top)
    axes.set_xlim(-0.5, len(CHECKPOINTS) - 0.5)
    axes.axhspan(LOW, top, color=ORANGE, alpha=0.10, linewidth=0)
    axes.axhspan(bottom, HIGH, color=BLUE, alpha=0.10, linewidth=0)
    axes.axhline(1, color="black", linewidth=1.0)
    axes.xaxis.set_major_locator(FixedLocator(list(range(len(CHECKPOINTS)))))
    axes.xaxis.set_major_formatter(FixedFormatter(list(STAGES)))
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8) if bottom <= tick <= top]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    places = {
        "low": (top / 1.06, "top"),
        "uniform": (HIGH * 1.03, "bottom"),
        "high": (bottom * 1.06, "bottom"),
    }
    for region, (height, align) in places.items():
        if region in sides:
            axes.text(
                -0.45,
                height,
                f"{region}: {sides[region]}",
                va=align,
                ha="left",
                fontsize=6.5,
                color=DARK_GREY,
            )


def draw_trajectories(frame: pd.DataFrame, networks: Sequence[str]) -> Figure:
    """Draw the LFC ratio along training by radius, a panel per network and perturbation.

    Source: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", figures 2 and 11.
    """
    check_columns(frame, ["network", "step", "attack", "radius", "ratio", "deviation", "uniform"])
    frame = frame[frame["network"].isin(list(networks))]
    names = [name for name in networks if name in set(frame["network"])]
    attacks = list(dict.fromkeys(frame["attack"]))
    with style():
        rows, columns = max(1, len(names)), max(1, len(attacks))
        figure = Figure(figsize=(PAGE, 2.3 * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        entries: dict[str, Any] = {}
        for i, network in enumerate(names):
            for j, attack in enumerate(attacks):
                own = frame[(frame["network"] == network) & (frame["attack"] == attack)]
                title = _network(own.iloc[0].to_dict())
                images = int(values_of(own["images"]).max())
                axes = grid[i, j]
                axes.set_title(f"{title}\n{PERTURBATIONS.get(attack, attack)}, N = {images}")
                _trajectory_panel(axes, own, entries)
        for axes in grid[:, 0]:
            axes.set_ylabel("LFC ratio")
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        if entries:
            entries["share of a flat spectrum"] = Line2D(
                [], [], color=DARK_GREY, linestyle=(0, (4, 2)), linewidth=0.9
            )
        add_legend(figure, entries)
        return finish(figure)


def _trajectory_panel(axes: Axes, own: pd.DataFrame, entries: dict[str, Any]) -> None:
    # Steps 0 and 1 have room, and so has the early rise.
    axes.set_xscale("symlog", linthresh=1)
    for radius, color in zip(sorted(own["radius"].unique()), RADII, strict=False):
        rows = own[own["radius"] == radius].sort_values("step")
        steps, ratio, spread = (values_of(rows[n]) for n in ("step", "ratio", "deviation"))
        axes.fill_between(
            steps, ratio - spread, ratio + spread, color=color, alpha=0.18, linewidth=0
        )
        line = axes.plot(steps, ratio, color=color)[0]
        entries.setdefault(f"radius {radius:g}", line)
        axes.axhline(rows["uniform"].iloc[0], color=color, linestyle=(0, (4, 2)), linewidth=0.9)
    axes.set_ylim(0, 1.02)
    last = values_of(own["step"]).max()
    ticks = [tick for tick in (0, 1, 10, 100, 1000, 10_000, 100_000) if tick <= last]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:,}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())


FILTER_STYLE = {
    "clean": Look("no attack", BLUE, "o", "-"),
    "unaware": Look("PGD that does not know the filter", ORANGE, "s", (0, (5, 1.5))),
    "aware": Look("PGD through the filter", VERMILLION, "X", (0, (1, 1))),
}


def draw_low_pass(frame: pd.DataFrame) -> Figure:
    """Draw accuracy behind a low-pass filter over its cut-off, a panel per model.

    Source: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", figure 6.
    """
    check_columns(frame, ["dataset", "model", "cutoff", "clean", "unaware", "aware"])
    groups = list(frame.groupby(["dataset", "model"], sort=False))
    headings = [(d, m, f"N = {rows['images'].max()} images") for (d, m), rows in groups]
    with style():
        figure, grid = make_panels(headings, 2.6)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            rows = rows.sort_values("cutoff")
            for name, look in FILTER_STYLE.items():
                axes.vlines(
                    rows["cutoff"],
                    rows[f"{name}_low"],
                    rows[f"{name}_high"],
                    color=look.color,
                    linewidth=0.8,
                    alpha=0.7,
                )
                entries[look.label] = axes.plot(rows["cutoff"], rows[name], **look.line())[0]
            first = rows.iloc[0]
            for column, dashes, label in (
                ("unfiltered_clean", (0, (4, 2)), "no attack, no filter"),
                ("adversarial_clean", (0, (6, 1, 1, 1)), "adversarial training, no attack"),
                ("adversarial_attacked", (0, (1, 2)), "adversarial training, PGD"),
            ):
                if column in rows and np.isfinite(float(first[column])):
                    entries[label] = axes.axhline(
                        float(first[column]), color=DARK_GREY, linestyle=dashes, linewidth=0.9
                    )
            axes.set_ylim(-0.03, 1.03)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set_xlabel("cut-off, in periods per side")
        grid[0].set_ylabel("accuracy")
        add_legend(figure, entries)
        return finish(figure)


def draw_shares(
    clean: Floats, natural: Floats, adversarial: Floats, uniform: float, radius: float
) -> Figure:
    """Draw the LFC ratio of each image and of its perturbations, in ascending order each.

    Source: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", figure 13.

    Args:
        clean: of the images, N.
        natural: of the perturbations of a naturally trained network, N.
        adversarial: of those of an adversarially trained one, N.
        uniform: share of a flat spectrum.
        radius: of the disk.
    """
    lines = (
        ("clean images", clean, BLUE, "-"),
        ("perturbations, adversarial training", adversarial, GREEN, (0, (6, 1.5, 1, 1.5))),
        ("perturbations, natural training", natural, VERMILLION, (0, (5, 1.5))),
    )
    with style():
        figure = Figure(figsize=(COLUMN, 2.6), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        entries: dict[str, Any] = {}
        for label, values, color, dashes in lines:
            known = np.sort(values[np.isfinite(values)])
            if len(known):
                rank = (np.arange(len(known)) + 0.5) / len(known)
                name = f"{label} (N = {len(known)})"
                entries[name] = axes.plot(rank, known, color=color, linestyle=dashes)[0]
        entries["share of a flat spectrum"] = axes.axhline(
            uniform, color=DARK_GREY, linestyle=(0, (4, 2)), linewidth=0.9
        )
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of images, each line in its own order")
        axes.set_ylabel(f"LFC ratio within radius {radius:g}")
        add_legend(figure, entries)
        return finish(figure)
