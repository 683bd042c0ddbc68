"""Figures of the study that are curves: lifts, trajectories, the low-pass filter, shares.

Source: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", of which figures are
numbered here. Each LFC ratio stands beside the share of a flat spectrum, without which it says
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from bandlimit.files import store
from bandlimit.plots.style import (
    BLUE,
    CHARACTERS,
    COLUMN,
    DARK_GREY,
    DPI,
    GREEN,
    ORANGE,
    PAGE,
    POINTS,
    SKY,
    VERMILLION,
    YELLOW,
    Floats,
    Look,
    add_legend,
    check_columns,
    draw_rates,
    finish,
    label_left,
    looks_of,
    make_panels,
    points_of,
    sort_entries,
    span,
    style,
    values_of,
    wrapped,
)
from bandlimit.spectral.shells import lfc_ratio, per_shell, shells, uniform_share
from bandlimit.studies.perturbation_spectra.rates import HIGH, LOW

PERTURBATION_STYLE: Mapping[str, Look] = {
    "fgm_l2": Look("FGM, L2", BLUE, "o", "-"),
    "pgd_l2": Look("PGD, L2", GREEN, "^", (0, (6, 1.5, 1, 1.5))),
    "pgd_linf": Look("PGD, L∞", VERMILLION, "s", (0, (5, 1.5))),
}
"""Look of each perturbation, the same in all figures of the study."""

CHECKPOINTS: Mapping[str, str] = {"initial": "initial", "one_epoch": "one epoch", "end": "end"}
"""Checkpoints in order, and what they are called."""

SIDES: Mapping[str, str] = {
    "low": "Frequency\nanalysis",
    "uniform": "Yin et al.",
    "high": "Bandlimiting,\nWang et al.",
}
"""Short names of the documents that say that perturbations lie there."""

FLAT = "flat spectrum"
"""Entry of the legend for the share of a flat spectrum."""

FLAT_LINE: Mapping[str, Any] = {
    "color": DARK_GREY,
    "linestyle": (0, (4, 2)),
    "linewidth": 0.9,
}
"""Look of what a flat spectrum has."""


# Names -------------------------------------------------------------------------------------------


def perturbation_name(name: str) -> str:
    """Return what a perturbation is called: 'PGD, L∞'; one without a look by its own name."""
    known = PERTURBATION_STYLE.get(name)
    return known.label if known else name.replace("_", " ")


def network_name(network: Mapping[str, Any], *, training: bool = True) -> str:
    """Return what a network is called: 'BatchNorm, natural training, squared error'.

    Args:
        network: batchnorm, training, loss, and architecture where it is known.
        training: whether its training is named.
    """
    two_layer = network.get("architecture") == "two_layer"
    norm = "BatchNorm" if network["batchnorm"] else "no BatchNorm"
    parts = ["two layers" if two_layer else norm]
    parts += [f"{network['training']} training"] if training else []
    parts += ["squared error"] if network["loss"] == "mse" else []
    return ", ".join(parts)


def title(
    dataset: str, network: Mapping[str, Any], perturbation: str, *, training: bool = True
) -> str:
    """Return the title of a figure of one network and perturbation, two lines.

    Args:
        dataset: its name.
        network: name, batchnorm, training, loss, architecture.
        perturbation: its name.
        training: whether the training is named.
    """
    facts = f"{network_name(network, training=training)}; {perturbation_name(perturbation)}"
    return f"{dataset}, {network['name']}\n{facts}"


def _in_order(names: Sequence[str]) -> dict[str, Look]:
    """Return the looks of perturbations, known ones first; others by readable names."""
    looks = looks_of(names, PERTURBATION_STYLE)
    return {
        name: Look(perturbation_name(name), look.color, look.marker, look.dashes)
        for name, look in looks.items()
    }


# Lifts -------------------------------------------------------------------------------------------

HEADING, BETWEEN = 0.75, 0.25
"""Room for a line of the name of a network, and after its rows, in rows."""

REGION_INKS = {"low": "#8a5a00", "uniform": DARK_GREY, "high": "#0b5a80"}
REGION_FILLS = {"low": (YELLOW, 0.28), "uniform": ("white", 0.0), "high": (SKY, 0.25)}


def draw_lifts(frame: pd.DataFrame, sides: Mapping[str, str] = SIDES) -> Figure:
    """Draw the lift of each network, checkpoint and perturbation, beside what documents say.

    A point is the mean over images of the energy within the main radius over that of a flat
    spectrum, a bar its 95% interval; the axis is logarithmic, and 1 is a flat spectrum. Shaded
    parts are those of `rates.verdict`: low frequencies above 1.5, high ones below 2/3. One column
    of a paper wide, so that it can be read on a phone. Networks of the squared error are left out
    where there are others.

    Source: the grid of networks is that of no document; Figure 4 and its section 4.1 say low, Yin
    et al., "A Fourier Perspective on Model Robustness in Computer Vision", Figure 7, uniform, and
    "Bandlimiting" and Wang et al. (CVPR 2020) high.

    Args:
        frame: the table `contradiction`: dataset, network, batchnorm, training, loss, checkpoint,
            perturbation, radius (periods per side), images, lift, lift_low, lift_high (>= 0). Rows
            without a lift are skipped.
        sides: short names of the documents that speak for 'low', 'uniform' and 'high'.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(
        frame,
        ["dataset", "network", "batchnorm", "training", "loss", "checkpoint", "perturbation"]
        + ["radius", "images", "lift", "lift_low", "lift_high"],
    )
    entropy = frame["loss"] == "cross_entropy"
    frame = frame[entropy] if entropy.any() else frame
    # Nothing else has a place on a logarithmic axis.
    frame = frame[values_of(frame["lift"]) > 0]
    with style():
        groups = _lift_groups(frame)
        rows = sum(_rows_of(*group) for group in groups)
        figure = Figure(figsize=(COLUMN, 1.35 + 0.21 * max(rows, 4)), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        axes.set_ylim(max(rows, 1) - BETWEEN, 0)
        if not groups:
            axes.set_xticks([])
            axes.set_yticks([])
            return finish(figure)
        left, right = _lift_range(frame)
        _draw_regions(axes, left, right, sides)
        entries = _draw_lift_rows(axes, groups, left)
        radius = span(frame["radius"])
        axes.set_xlabel(
            f"lift: energy within {radius} periods per side,\n× that of a flat spectrum"
        )
        names = ", ".join(sorted(set(frame["dataset"])))
        # Centred on the page, since the axes lie to the right of the names of checkpoints.
        figure.suptitle(f"{names}, N = {span(frame['images'])} per point", fontsize=POINTS)
        _lift_legend(figure, sort_entries(entries, PERTURBATION_STYLE))
        return finish(figure)


def _lift_legend(figure: Figure, entries: Mapping[str, Any]) -> None:
    """Put a legend below the axes: in one row where names are short, since these are points."""
    if sum(len(name) + 4 for name in entries) > CHARACTERS * COLUMN:
        add_legend(figure, entries)
        return
    width, height = figure.get_size_inches()
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=max(1, len(entries)),
        handlelength=1.0,
        handletextpad=0.4,
    )
    figure.set_size_inches(width, height + 0.25)


def _lift_groups(frame: pd.DataFrame) -> list[tuple[str, list[pd.DataFrame]]]:
    """Return the networks by what they are called, in lines, with the rows of each checkpoint."""
    order = {name: place for place, name in enumerate(CHECKPOINTS)}
    found = []
    for (dataset, network), own in frame.groupby(["dataset", "network"], sort=False):
        facts = own.iloc[0]
        stages = sorted(
            own.groupby("checkpoint"), key=lambda stage: (order.get(stage[0], len(order)), stage[0])
        )
        # Networks with BatchNorm first, and natural ones before adversarial ones.
        key = (dataset, not facts["batchnorm"], facts["training"] != "natural", network)
        found.append((key, network_name(facts), [rows for _, rows in stages]))
    found.sort(key=lambda group: group[0])
    names = [(key[0], name) for key, name, _ in found]
    groups: list[tuple[str, list[pd.DataFrame]]] = []
    for number, (key, name, parts) in enumerate(found):
        # A dataset is named before its first network, if there are several.
        first = number == 0 or found[number - 1][0][0] != key[0]
        lines = [key[0]] if first and frame["dataset"].nunique() > 1 else []
        lines += [name]
        # Two networks of one kind are told apart by their own names.
        lines += [key[3]] if names.count((key[0], name)) > 1 else []
        groups.append((wrapped("\n".join(lines), COLUMN - 0.6), parts))
    return groups


def _rows_of(name: str, parts: Sequence[pd.DataFrame]) -> float:
    """Return the room of a network, in rows."""
    return HEADING * (name.count("\n") + 1) + len(parts) + BETWEEN


def _lift_range(frame: pd.DataFrame) -> tuple[float, float]:
    """Return the limits of the axis of lifts: all points, and room for the names of regions."""
    seen = np.concatenate([values_of(frame[name]) for name in ("lift", "lift_low", "lift_high")])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    # An interval that reaches 0 would stretch the axis without end.
    least = max(seen.min(), values_of(frame["lift"]).min() / 4)
    return min(0.3, least / 1.15), max(5.0, seen.max() * 1.15)


def _draw_regions(axes: Axes, left: float, right: float, sides: Mapping[str, str]) -> None:
    """Shade where energy lies at low or high frequencies, and name regions above the axes."""
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    ticks = [tick for tick in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16) if left <= tick <= right]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    above = blended_transform_factory(axes.transData, axes.transAxes)
    places = {"high": (left, HIGH), "uniform": (HIGH, LOW), "low": (LOW, right)}
    titles = {"high": "high\nfrequencies", "uniform": "uniform", "low": "low\nfrequencies"}
    for region, (start, end) in places.items():
        color, alpha = REGION_FILLS[region]
        axes.axvspan(start, end, color=color, alpha=alpha, linewidth=0, zorder=0)
        middle, ink = float(np.sqrt(start * end)), REGION_INKS[region]
        look: dict[str, Any] = {"ha": "center", "va": "bottom", "linespacing": 1.1, "color": ink}
        look |= {"xycoords": above, "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(sides.get(region, ""), (middle, 1), (0, 2), fontsize=POINTS - 1, **look)
        axes.annotate(titles[region], (middle, 1), (0, 23), weight="bold", **look)
    if sides:
        axes.annotate(
            "so say",
            (0, 1),
            (-6, 2),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=POINTS - 1,
            color=DARK_GREY,
        )
    axes.axvline(1, color="black", linewidth=1.3, zorder=1.5)
    axes.grid(axis="y", visible=False)


def _draw_lift_rows(
    axes: Axes, groups: Sequence[tuple[str, list[pd.DataFrame]]], left: float
) -> dict[str, Any]:
    """Draw the checkpoints of each network below its name; return the legend's entries."""
    looks = _in_order(
        [name for _, parts in groups for rows in parts for name in rows["perturbation"]]
    )
    entries: dict[str, Any] = {}
    ticks: dict[float, str] = {}
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    place = 0.0
    for number, (name, parts) in enumerate(groups):
        if number:
            axes.axhline(place - BETWEEN / 2, color="0.6", linewidth=0.6, zorder=1)
        heading = HEADING * (name.count("\n") + 1)
        label = axes.text(
            0.015,
            place + heading / 2,
            name,
            transform=beside,
            va="center",
            weight="bold",
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
        )
        # A long name is no reason for narrow axes.
        label.set_in_layout(False)
        first = place + heading + 0.5
        for row, rows in enumerate(parts):
            checkpoint = str(rows["checkpoint"].iloc[0])
            ticks[first + row] = CHECKPOINTS.get(checkpoint, checkpoint)
        for shift, (perturbation, look) in zip(
            np.linspace(-0.26, 0.26, len(looks)) if len(looks) > 1 else [0.0],
            looks.items(),
            strict=True,
        ):
            known = [
                (first + row + shift, own.iloc[0])
                for row, rows in enumerate(parts)
                if len(own := rows[rows["perturbation"] == perturbation])
            ]
            if not known:
                continue
            at = np.array([height for height, _ in known])
            lift, low, high = (
                np.array([float(own[column]) for _, own in known])
                for column in ("lift", "lift_low", "lift_high")
            )
            # From checkpoint to checkpoint.
            axes.plot(lift, at, color=look.color, linewidth=0.6, alpha=0.6, zorder=2)
            axes.hlines(
                at, np.maximum(low, left), high, color=look.color, linewidth=1.1, zorder=2.5
            )
            entries[look.label] = axes.plot(
                lift, at, color=look.color, marker=look.marker, linestyle="", zorder=3
            )[0]
        place += _rows_of(name, parts)
    axes.yaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.yaxis.set_major_formatter(FixedFormatter(list(ticks.values())))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    return entries


# Trajectories ------------------------------------------------------------------------------------

RADIUS_LOOKS = (
    (BLUE, "-"),
    (ORANGE, "-"),
    (GREEN, "-"),
    (VERMILLION, "-"),
    (SKY, "-"),
    (DARK_GREY, "-"),
)
"""Colours of radii in turn, from the least."""


def draw_trajectories(frame: pd.DataFrame, networks: Sequence[str]) -> Figure:
    """Draw the LFC ratio along training by radius, a row per network, a column per perturbation.

    Lines are means over images, bands a standard deviation to each side, dashed lines the shares
    of a flat spectrum. The axis of steps is linear up to 1 and logarithmic beyond, so that step 0
    has a place and the rise of the first epoch has room.

    Source: Figures 2 and 11, which show one radius without naming it, on a linear axis, and no
    share of a flat spectrum.

    Args:
        frame: the table `trajectories`: dataset, network, batchnorm, training, loss, step, attack,
            radius (periods per side), uniform, ratio (both in [0, 1]), deviation, images. Rows
            without a ratio are skipped.
        networks: names of those to draw, in order.

    Raises:
        ValueError: a column is missing, or a line has two rows of one step.
    """
    check_columns(
        frame,
        ["dataset", "network", "batchnorm", "training", "loss", "step", "attack", "radius"]
        + ["uniform", "ratio", "deviation", "images"],
    )
    frame = frame[frame["network"].isin(list(networks)) & frame["ratio"].notna()]
    shown = [name for name in networks if name in set(frame["network"])]
    attacks = list(_in_order(frame["attack"]))
    radii = sorted(frame["radius"].unique())
    with style():
        rows, columns = max(1, len(shown)), max(1, len(attacks))
        width = COLUMN if columns == 1 else PAGE
        figure = Figure(figsize=(width, 2.4 * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        entries: dict[str, Any] = {}
        for i, network in enumerate(shown):
            for j, attack in enumerate(attacks):
                own = frame[(frame["network"] == network) & (frame["attack"] == attack)]
                if own.empty:
                    continue
                measured = f"{perturbation_name(attack)}, N = {span(own['images'])}"
                heading = f"{network}\n{network_name(own.iloc[0])}\n{measured}"
                grid[i, j].set_title(wrapped(heading, width / columns - 0.1))
                _trajectory_panel(grid[i, j], own, radii, entries)
        for axes in grid[:, 0]:
            axes.set_ylabel("LFC ratio τ within radius r")
        for axes in grid[-1]:
            axes.set_xlabel("training step")
        if entries:
            entries[FLAT] = Line2D([], [], **FLAT_LINE)
        add_legend(figure, entries)
        return finish(figure)


def _trajectory_panel(
    axes: Axes, own: pd.DataFrame, radii: Sequence[float], entries: dict[str, Any]
) -> None:
    """Draw a line for each radius, adding to the entries of the legend."""
    for number, radius in enumerate(radii):
        color, dashes = RADIUS_LOOKS[number % len(RADIUS_LOOKS)]
        rows = own[own["radius"] == radius]
        step, ratio, deviation = points_of(rows, "step", ("ratio", "deviation"))
        if not len(step):
            continue
        axes.fill_between(
            step, ratio - deviation, ratio + deviation, color=color, alpha=0.15, linewidth=0
        )
        # A training of one measurement is a point.
        marker = "o" if len(step) == 1 else ""
        line = axes.plot(
            step, ratio, color=color, linestyle=dashes, marker=marker, clip_on=not marker
        )[0]
        entries.setdefault(f"r = {radius:g}", line)
        for uniform in np.unique(values_of(rows["uniform"])):
            axes.axhline(uniform, **{**FLAT_LINE, "color": color})
    last = float(values_of(own["step"]).max())
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    axes.set_xlim(0, max(last, 1) * 1.1)
    ticks = [tick for tick in (0, 1, 10, 100, 1000, 10_000, 100_000) if tick <= max(last, 1)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:,}" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, 1.02)
    axes.set_yticks(np.linspace(0, 1, 6))


# The low-pass filter -----------------------------------------------------------------------------

FILTER_STYLE: Mapping[str, Look] = {
    "clean": Look("clean images", BLUE, "o", "-"),
    "unaware": Look("PGD, filter unknown", ORANGE, "s", (0, (5, 1.5))),
    "aware": Look("PGD through filter", VERMILLION, "X", (0, (6, 1.5, 1, 1.5))),
}
"""Look of accuracy behind the filter, by what it meets."""

LEVEL_STYLE: Mapping[str, Look] = {
    "unfiltered_clean": Look("no filter, clean", BLUE, "", (0, (2, 2))),
    "unfiltered_attacked": Look("no filter, PGD", ORANGE, "", (0, (2, 2))),
    "adversarial_clean": Look("adv. trained, clean", GREEN, "", (0, (4, 2))),
    "adversarial_attacked": Look("adv. trained, PGD", GREEN, "", (0, (1, 1))),
}
"""Look of accuracies that no cut-off changes."""


def draw_low_pass(frame: pd.DataFrame) -> Figure:
    """Draw accuracy behind a low-pass filter over its cut-off, a panel per model.

    Bars are Wilson 95% intervals. Lines without markers do not depend on the cut-off: the network
    without a filter, and the adversarially trained one where it was measured.

    Source: Figure 6, which has the first two curves alone.

    Args:
        frame: the table `low_pass`: dataset, model, cutoff (periods per side), images, and each
            with its interval `_low` and `_high` clean, unaware, aware; unfiltered_clean,
            unfiltered_attacked (all in [0, 1]). adversarial_clean and adversarial_attacked are
            drawn where they are there, document and stand_in named.

    Raises:
        ValueError: a column is missing, or a line has two rows of one cut-off.
    """
    check_columns(
        frame,
        ["dataset", "model", "cutoff", "images", "unfiltered_clean", "unfiltered_attacked"]
        + [name + end for name in FILTER_STYLE for end in ("", "_low", "_high")],
    )
    groups = list(frame.groupby(["dataset", "model"], sort=False))
    headings = []
    for (dataset, model), rows in groups:
        facts = f"N = {span(rows['images'])}"
        if "stand_in" in rows and bool(rows["stand_in"].iloc[0]) and rows["document"].notna().all():
            facts += f", stands in for {rows['document'].iloc[0]}"
        headings.append((dataset, model, facts))
    with style():
        figure, grid = make_panels(headings, 2.7, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            for name, look in LEVEL_STYLE.items():
                levels = values_of(rows[name]) if name in rows else np.array([])
                for level in np.unique(levels[np.isfinite(levels)]):
                    entries[look.label] = axes.axhline(
                        level, color=look.color, linestyle=look.dashes, linewidth=1.0
                    )
            for number, (name, look) in enumerate(FILTER_STYLE.items()):
                columns = {name: "rate", f"{name}_low": "low", f"{name}_high": "high"}
                part = rows[["cutoff", *columns]].rename(columns=columns)
                drawn = draw_rates(axes, part, "cutoff", look, 1.0 * (number - 1), "rate")
                if drawn is not None:
                    entries[look.label] = drawn
        for axes in grid:
            axes.set_ylim(-0.03, 1.03)
            axes.set_yticks(np.linspace(0, 1, 6))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            axes.set_xlabel("cut-off k, periods per side")
        label_left(grid, "accuracy")
        add_legend(figure, sort_entries(entries, {**FILTER_STYLE, **LEVEL_STYLE}))
        return finish(figure)


# Shares ------------------------------------------------------------------------------------------

SHARE_STYLE: Mapping[str, Look] = {
    "clean": Look("images", BLUE, "", "-"),
    "centred": Look("images less their mean", SKY, "", (0, (6, 1.5, 1, 1.5))),
    "adversarial": Look("δ, adversarial training", GREEN, "", (0, (5, 1.5))),
    "natural": Look("δ, natural training", VERMILLION, "", "-"),
}
"""Look of what LFC ratios are of."""


@dataclass(frozen=True)
class Shares:
    """LFC ratios of images and of their perturbations.

    Attributes:
        ratios: N values in [0, 1] each, by the names of `SHARE_STYLE`; nan where there is no
            energy.
        uniform: share of a flat spectrum.
        radius: of the disk, in periods per side.
    """

    ratios: Mapping[str, Floats]
    uniform: float
    radius: float


def read_shares(
    natural: Sequence[str],
    adversarial: Sequence[str],
    perturbation: str,
    sides: Sequence[int],
    radius: float,
) -> Shares:
    """Return the LFC ratios of each image.

    Args:
        natural: files of `measuring.schema`, of a naturally trained network.
        adversarial: those of an adversarially trained one, on the same images.
        perturbation: its name.
        sides: H and W.
        radius: of the disk, in periods per side.

    Raises:
        UserError: a file can't be read.
    """
    of = shells(sides)

    def energies(paths: Sequence[str], column: str) -> Floats:
        parts = [np.empty((0, len(of.squared)))]
        for path in paths:
            table = store.read(path, ["perturbation", column])
            rows = np.array(table["perturbation"].to_pylist(), dtype=object) == perturbation
            parts.append(per_shell(table, column)[rows])
        return np.concatenate(parts)

    clean = energies(natural, "clean_energies")
    centred = clean.copy()
    centred[:, 0] = 0
    found = {
        "clean": clean,
        "centred": centred,
        "adversarial": energies(adversarial, "energies"),
        "natural": energies(natural, "energies"),
    }
    return Shares(
        ratios={name: lfc_ratio(values, of, radius) for name, values in found.items()},
        uniform=uniform_share(of, radius),
        radius=radius,
    )


def draw_shares(shares: Shares, heading: str) -> Figure:
    """Draw the LFC ratio of each image and of its perturbations, each line in its own order.

    A line is read as shares of images: at 50 % it is at the median.

    Source: Figure 13, which draws images in the order of the data set, and no share of a flat
    spectrum. Most of the energy of an image is at frequency 0, so that its ratio without it is
    drawn too.

    Args:
        shares: what is drawn; lines without a value are left out.
        heading: network and perturbation.
    """
    with style():
        figure = Figure(figsize=(COLUMN, 2.9), dpi=DPI, layout="constrained")
        axes = figure.subplots()
        entries: dict[str, Any] = {}
        counts = []
        for name, look in SHARE_STYLE.items():
            values = np.asarray(shares.ratios.get(name, ()), dtype=np.float64)
            known = np.sort(values[np.isfinite(values)])
            if not len(known):
                continue
            counts.append(len(known))
            rank = 100 * (np.arange(len(known)) + 0.5) / len(known)
            marker = "o" if len(known) == 1 else ""
            look = replace(look, marker=marker)
            entries[look.label] = axes.plot(rank, known, **look.line())[0]
        if entries:
            level = axes.axhline(shares.uniform, **FLAT_LINE)
            entries[f"{FLAT}: {shares.uniform:.3f}"] = level
        number = f"N = {span(pd.Series(counts))} images" if counts else "no images"
        facts = f"{number}, r = {shares.radius:g} periods per side"
        axes.set_title(wrapped(f"{heading}\n{facts}", COLUMN - 0.3))
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 100)
        axes.set_xlabel("share of images with a lower ratio (%)")
        axes.set_ylabel("LFC ratio τ within radius r")
        add_legend(figure, entries)
        return finish(figure)
