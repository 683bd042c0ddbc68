"""Figures of the study that are curves, bars and points.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", of which figures and tables are numbered here. Accuracies are shares in [0, 1]; radii are
in periods per side, as those of `bandlimit.spectral.masks.disk`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from bandlimit.plots.style import (
    BLUE,
    BROWN,
    COLUMN,
    DARK_GREY,
    DPI,
    GREEN,
    ORANGE,
    PAGE,
    PINK,
    POINTS,
    SKY,
    VERMILLION,
    Look,
    add_legend,
    check_columns,
    draw_rates,
    finish,
    label_left,
    make_panels,
    points_of,
    span,
    style,
    values_of,
    wrapped,
)
from bandlimit.studies.high_frequency.rates import FULL, HIGH, LOW, TEST, TRAIN

CURVES = (
    *("dataset", "network", "seeds", "epoch", "images", "part", "radius", "count"),
    *("accuracy", "accuracy_low", "accuracy_high"),
)
"""Columns of the table `curves` that its figures need."""

RADIUS_STYLE = (
    Look("", BLUE, "o", "-"),
    Look("", ORANGE, "s", (0, (5, 1.5))),
    Look("", GREEN, "^", (0, (6, 1.5, 1, 1.5))),
    Look("", VERMILLION, "D", (0, (1, 1))),
    Look("", SKY, "v", (0, (3, 1, 1, 1, 1, 1))),
    Look("", PINK, "P", (0, (2, 1))),
)
"""Looks of radii in turn, from the least."""

LEVEL: Mapping[str, Any] = {"color": DARK_GREY, "linestyle": (0, (4, 2)), "linewidth": 0.9}
"""Look of lines across a panel."""

MARKED = 8
"""Markers along a curve, about."""

Name = tuple[str, str, float | None]
"""A set of images: train or test, its part, and the radius."""


# Names -------------------------------------------------------------------------------------------

FAMILIES = {"lenet": "LeNet", "alexnet": "AlexNet", "vgg": "VGG", "resnet": "ResNet", "cnn": "CNN"}
OPTIMIZERS = {
    **{"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adagrad": "AdaGrad"},
    **{"adadelta": "AdaDelta", "rmsprop": "RMSprop"},
}


def architecture_label(name: str) -> str:
    """Return what an architecture is called: 'strided ResNet-8' for strided_resnet8."""
    words = []
    for word in name.removeprefix("cifar_").split("_"):
        family = word.rstrip("0123456789")
        number = word[len(family) :]
        known = FAMILIES.get(family)
        words.append("-".join(filter(None, (known, number))) if known else word)
    return " ".join(words)


FACTS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "architecture": lambda own: architecture_label(own["architecture"]),
    "batchnorm": lambda own: "BatchNorm" if own["batchnorm"] else "no BatchNorm",
    "optimizer": lambda own: OPTIMIZERS.get(own["optimizer"], own["optimizer"]),
    "dropout": lambda own: f"dropout {own['dropout']:g}" if own["dropout"] else "no dropout",
    "mixup": lambda own: f"mix-up α = {own['mixup']:g}" if own["mixup"] else "no mix-up",
    "adversarial": lambda own: f"{'adversarial' if own['adversarial'] else 'natural'} training",
    "shuffled": lambda own: f"{'shuffled' if own['shuffled'] else 'true'} labels",
    "part": lambda own: part_label(own["part"] or FULL, own["radius"]),
    "batch_size": lambda own: f"batch size {own['batch_size']}",
    "epochs": lambda own: f"{own['epochs']} epochs",
}
"""Facts that may set networks apart, and how each is said."""


def network_label(
    network: Mapping[str, Any], of: Mapping[str, Any], always: Sequence[str] = ()
) -> str:
    """Return what sets a network apart from another: 'dropout 0.5', 'ResNet-20, BatchNorm'.

    Args:
        network: what the catalogue tells of it: name, radius, and the `FACTS`.
        of: the same of the network that it is compared with.
        always: facts that are named even where both have them.

    Returns:
        'vanilla' for the other network itself, and the name of one that differs in no fact told.
    """
    found = [
        say(network) for fact, say in FACTS.items() if fact in always or say(network) != say(of)
    ]
    if found:
        return ", ".join(found)
    return "vanilla" if network["name"] == of["name"] else str(network["name"])


def part_label(part: str, radius: float | None) -> str:
    """Return what a part of images is called: 'low frequencies, r = 4'."""
    return "whole images" if part == FULL else f"{part} frequencies, r = {radius:g}"


def _measured(rows: pd.DataFrame, images: str = "count") -> str:
    """Return how many networks and images values are means over."""
    return f"{_seeds(rows['seeds'])}, N = {span(rows[images])}"


def _seeds(column: pd.Series) -> str:
    text = span(column)
    return f"{text} seed" if text == "1" else f"{text} seeds"


def _facts(rows: pd.DataFrame, images: str = "count") -> str:
    """Return `_measured`, and what data stand in for where that is told."""
    facts = _measured(rows, images)
    if "stand_in" in rows and bool(rows["stand_in"].iloc[0]) and rows["document"].notna().all():
        facts += f",\nstands in for {rows['document'].iloc[0]}"
    return facts


# Parts of a figure -------------------------------------------------------------------------------


def _accuracy_axis(grid: Iterable[Axes], top: float = 1.0) -> None:
    for axes in grid:
        axes.set_ylim(-0.03 * top, 1.03 * top)
        axes.set_yticks(np.linspace(0, top, 6))


def _name_once(
    figure: Figure, grid: Sequence[Axes], headings: Sequence[tuple[str, str, str]]
) -> None:
    """Name a dataset above all panels, if it is that of all of them."""
    datasets = {dataset for dataset, _, _ in headings}
    if len(headings) > 1 and len(datasets) == 1:
        figure.suptitle(datasets.pop(), fontsize=POINTS)
        for axes, (_, name, facts) in zip(grid, headings, strict=True):
            axes.set_title(f"{name}\n{facts}")


def _chosen(rows: pd.DataFrame, name: Name) -> pd.DataFrame:
    """Return the curve of one set of images."""
    images, part, radius = name
    same = rows["radius"].isna() if radius is None else rows["radius"] == radius
    return rows[(rows["images"] == images) & (rows["part"] == part) & same]


def _draw_curve(axes: Axes, rows: pd.DataFrame, look: Look) -> dict[str, Any]:
    """Draw accuracy over epochs with a band for its interval; return the entry of the legend."""
    columns = ("accuracy", "accuracy_low", "accuracy_high")
    epoch, accuracy, low, high = points_of(rows, "epoch", columns)
    if not len(epoch):
        return {}
    axes.fill_between(epoch, low, high, color=look.color, alpha=0.15, linewidth=0)
    every = max(1, math.ceil(len(epoch) / MARKED))
    line = axes.plot(epoch, accuracy, **look.line(), markevery=every)[0]
    if len(epoch) == 1 and not look.marker:
        line.set_marker("o")
    return {look.label: line}


def _ordered(entries: Mapping[str, Any], labels: Iterable[str]) -> dict[str, Any]:
    """Return the entries of a legend in an order."""
    return {label: entries[label] for label in labels if label in entries}


def _by_radius(radii: Sequence[float], say: str = "r = {:g}") -> dict[float, Look]:
    """Return the look of each radius."""
    return {
        radius: replace(look, label=say.format(radius))
        for radius, look in zip(sorted(radii), itertools.cycle(RADIUS_STYLE), strict=False)
    }


def _interval(rows: pd.DataFrame, name: str, *more: str) -> pd.DataFrame:
    """Return columns of a value and its interval as `draw_rates` wants them."""
    columns = {name: "rate", f"{name}_low": "low", f"{name}_high": "high"}
    return rows[[*more, *columns]].rename(columns=columns)


def _networks(e: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {network["name"]: network for network in e["networks"]}


def _of_dataset(frame: pd.DataFrame, e: Mapping[str, Any], network: str) -> pd.DataFrame:
    return frame[(frame["dataset"] == e["dataset"]) & (frame["network"] == network)]


# Curves ------------------------------------------------------------------------------------------


def draw_labels(frame: pd.DataFrame, experiments: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy on training images and their low frequencies over epochs, by labels.

    A panel for the network of true labels, one for that of shuffled ones. Lines are means over
    seeds and images, bands 95% intervals over both; a dashed line is chance. Shuffled labels are
    those that the network was trained by.

    Source: Figure 3.

    Args:
        frame: the table `curves`: dataset, network, seeds, epoch, images, part, radius (periods
            per side, null for whole images), count, and accuracy with accuracy_low and
            accuracy_high, in [0, 1].
        experiments: what the catalogue tells of each: dataset, networks, labels, classes.

    Raises:
        ValueError: a column is missing, or a line has two rows of one epoch.
    """
    check_columns(frame, CURVES)
    frame = frame[frame["images"] == TRAIN]
    panels, headings = [], []
    for e in experiments:
        for name in e["labels"]:
            own = _of_dataset(frame, e, name)
            if len(own):
                said = "shuffled labels" if _networks(e)[name]["shuffled"] else "true labels"
                panels.append((own, 1 / e["classes"]))
                headings.append((e["dataset"], said, _measured(own)))
    radii = frame.loc[frame["part"] == LOW, "radius"].dropna().unique().tolist()
    with style():
        figure, grid = make_panels(headings, 2.5, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (own, chance) in zip(grid, panels, strict=False):
            entries |= _draw_curve(
                axes, _chosen(own, (TRAIN, FULL, None)), Look("whole images", "black", "", "-")
            )
            for radius, look in _by_radius(radii, "low frequencies, r = {:g}").items():
                entries |= _draw_curve(axes, _chosen(own, (TRAIN, LOW, radius)), look)
            entries["chance"] = axes.axhline(chance, **LEVEL)
            axes.set_xlabel("epoch")
        labels = [label for label in entries if label != "chance"]
        _accuracy_axis(grid)
        label_left(grid, "accuracy on training images")
        _name_once(figure, grid, headings)
        add_legend(figure, _ordered(entries, [*labels, "chance"]))
        return finish(figure)


def draw_networks(
    frame: pd.DataFrame,
    experiments: Sequence[Mapping[str, Any]],
    group: str,
    always: Sequence[str] = (),
) -> Figure:
    """Draw accuracies over epochs, a panel for each network of a group.

    The network of the experiment is the first, and panels are named by what sets others apart from
    it. Training and test images are whole; test images are also shown by their low and high
    frequencies, at the least of the radii and at a middle one. Lines are means over seeds and
    images, bands 95% intervals over both.

    Source: Figure 5, and the figures of the appendix on architectures and optimizers.

    Args:
        frame: the table `curves`, see `draw_labels`.
        experiments: what the catalogue tells of each: dataset, model, networks, radii, and the
            names of a group of networks under its own.
        group: heuristics, architectures or optimizers.
        always: facts that name all panels, see `network_label`.

    Raises:
        ValueError: a column is missing, or a line has two rows of one epoch.
    """
    check_columns(frame, CURVES)
    panels, headings, shown = [], [], set()
    for e in experiments:
        networks = _networks(e)
        radii = sorted(e["radii"])
        chosen = sorted({radii[0], radii[len(radii) // 2]})
        for name in dict.fromkeys([e["model"], *e[group]]) if e[group] else ():
            own = _of_dataset(frame, e, name)
            if len(own):
                label = network_label(networks[name], networks[e["model"]], always)
                panels.append((own, chosen))
                headings.append((e["dataset"], label, _measured(own[own["images"] == TEST])))
                shown |= set(chosen)
    with style():
        figure, grid = make_panels(headings, 2.2, sharey=True)
        looks = _of_parts(sorted(shown))
        entries: dict[str, Any] = {}
        for axes, (own, chosen) in zip(grid, panels, strict=False):
            for name, look in looks.items():
                if name[2] is None or name[2] in chosen:
                    entries |= _draw_curve(axes, _chosen(own, name), look)
            axes.set_xlabel("epoch")
        _accuracy_axis(grid)
        label_left(grid, "accuracy")
        _name_once(figure, grid, headings)
        add_legend(figure, _ordered(entries, (look.label for look in looks.values())))
        return finish(figure)


LOW_STYLE = (Look("", GREEN, "^", (0, (6, 1.5, 1, 1.5))), Look("", SKY, "v", (0, (3, 1))))
HIGH_STYLE = (Look("", VERMILLION, "X", (0, (1, 1))), Look("", PINK, "P", (0, (1, 2))))


def _of_parts(radii: Sequence[float]) -> dict[Name, Look]:
    """Return the looks of whole images, and of the low and high frequencies of test images."""
    looks: dict[Name, Look] = {
        (TRAIN, FULL, None): Look("training images", DARK_GREY, "", "-"),
        (TEST, FULL, None): Look("test images", "black", "o", (0, (5, 1.5))),
    }
    for part, own in ((LOW, LOW_STYLE), (HIGH, HIGH_STYLE)):
        for radius, look in zip(radii, itertools.cycle(own), strict=False):
            looks[TEST, part, radius] = replace(look, label=f"test, {part_label(part, radius)}")
    return looks


MEASURES = (
    ("training, same part", DARK_GREY, "o"),
    ("test, whole images", BLUE, "s"),
    ("test, same part", VERMILLION, "^"),
)
"""What is measured of a network that was trained on a part of the spectrum."""


def draw_batchnorm(frame: pd.DataFrame, pairs: pd.DataFrame) -> Figure:
    """Draw what networks learn from low frequencies with BatchNorm and without, over epochs.

    A panel for each radius, and one for whole images. Solid lines are with BatchNorm, dashed ones
    without; means over seeds and images, bands are 95% intervals over both.

    Source: Figure 6.

    Args:
        frame: the table `curves`, see `draw_labels`.
        pairs: the table `batchnorm`: dataset, network, batchnorm, and radius (periods per side)
            of the low frequencies that the network was trained on, null for whole images.

    Raises:
        ValueError: a column is missing, or a line has two rows of one epoch.
    """
    check_columns(frame, CURVES)
    # A table without rows has no columns.
    check_columns(pairs, ["dataset", "network", "batchnorm", "radius"] if len(pairs) else [])
    groups = list(pairs.groupby(["dataset", "radius"], dropna=False)) if len(pairs) else []
    panels, headings = [], []
    for (dataset, radius), own in groups:
        curves = frame[(frame["dataset"] == dataset) & frame["network"].isin(own["network"])]
        if len(curves):
            known = None if pd.isna(radius) else float(radius)
            part = FULL if known is None else LOW
            panels.append((curves, own, part, known))
            tested = curves[curves["images"] == TEST]
            headings.append((str(dataset), _on(known), _measured(tested)))
    with style():
        figure, grid = make_panels(headings, 2.2, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (curves, own, part, radius) in zip(grid, panels, strict=False):
            names = ((TRAIN, part, radius), (TEST, FULL, None), (TEST, part, radius))
            # Of whole images the last two are one.
            shown = MEASURES[:2] if part == FULL else MEASURES
            for (label, color, marker), name in zip(shown, names, strict=False):
                for row in own.itertuples():
                    dashes = "-" if row.batchnorm else (0, (4, 1.5))
                    rows = _chosen(curves[curves["network"] == row.network], name)
                    if _draw_curve(axes, rows, Look(label, color, marker, dashes)):
                        entries[label] = Line2D([], [], color=color, marker=marker)
            axes.set_xlabel("epoch")
        if entries:
            entries = _ordered(entries, (label for label, _, _ in MEASURES))
            entries["BatchNorm"] = Line2D([], [], color="black")
            entries["no BatchNorm"] = Line2D([], [], color="black", linestyle=(0, (4, 1.5)))
        _accuracy_axis(grid)
        label_left(grid, "accuracy")
        _name_once(figure, grid, headings)
        add_legend(figure, entries)
        return finish(figure)


def _on(radius: float | None) -> str:
    return "whole images" if radius is None else f"r = {radius:g}"


# What parts of the spectrum teach ----------------------------------------------------------------

PART_STYLE: Mapping[str, Look] = {
    LOW: Look("trained on low", BLUE, "o", "-"),
    HIGH: Look("trained on high", VERMILLION, "s", (0, (5, 1.5))),
}


def draw_components(frame: pd.DataFrame, experiments: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw test accuracy on whole images of networks trained on one part of the spectrum.

    Bars are 95% intervals over seeds and images. Lines across are the network that was trained on
    whole images, and chance; open markers are what the document reports of its own networks.

    Source: Table 1.

    Args:
        frame: the table `table_1`: dataset, model, part (full, low, high), radius (periods per
            side), seeds, images, reported_test, and test with test_low and test_high, in [0, 1].
            document and stand_in are named where they are there.
        experiments: what the catalogue tells of each: dataset, model, classes.

    Raises:
        ValueError: a column is missing, or a line has two rows of one radius.
    """
    check_columns(
        frame,
        ["dataset", "model", "part", "radius", "seeds", "images", "test", "test_low", "test_high"]
        + ["reported_test"],
    )
    classes = {(e["dataset"], e["model"]): e["classes"] for e in experiments}
    parts = frame[frame["part"].isin(PART_STYLE)]
    groups = list(parts.groupby(["dataset", "model"], sort=False))
    headings = [(str(key[0]), str(key[1]), _facts(rows, "images")) for key, rows in groups]
    with style():
        figure, grid = make_panels(headings, 2.8, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (key, rows) in zip(grid, groups, strict=False):
            whole = frame[(frame["dataset"] == key[0]) & (frame["model"] == key[1])]
            levels = values_of(whole.loc[whole["part"] == FULL, "test"])
            for level in np.unique(levels[np.isfinite(levels)]):
                entries["trained on all"] = axes.axhline(
                    level, color=GREEN, linestyle=(0, (6, 1.5, 1, 1.5)), linewidth=1.0
                )
            entries["chance"] = axes.axhline(1 / classes[key], **LEVEL)
            for shift, (part, look) in zip((-1.0, 1.0), PART_STYLE.items(), strict=True):
                own = rows[rows["part"] == part]
                drawn = draw_rates(
                    axes, _interval(own, "test", "radius"), "radius", look, shift, "rate"
                )
                if drawn is not None:
                    entries[look.label] = drawn
                if len(_open(axes, own, "radius", "reported_test", look)):
                    entries[f"document, {part}"] = _ring(look)
            axes.xaxis.set_major_locator(FixedLocator(sorted(rows["radius"].unique())))
            axes.set_xlabel("radius r between low and high,\nperiods per side")
        _accuracy_axis(grid)
        label_left(grid, "test accuracy on whole images")
        order = [look.label for look in PART_STYLE.values()]
        order += ["trained on all", "chance", *(f"document, {part}" for part in PART_STYLE)]
        add_legend(figure, _ordered(entries, order))
        return finish(figure)


def _open(axes: Axes, rows: pd.DataFrame, x: str, y: str, look: Look) -> Any:
    """Draw what the document reports as open markers; return where."""
    place, value = points_of(rows, x, (y,))
    axes.plot(place, value, **_ring_look(look))
    return place


def _ring_look(look: Look) -> dict[str, Any]:
    return {
        "color": look.color,
        "marker": look.marker,
        "linestyle": "none",
        "markerfacecolor": "none",
        "markersize": 5.5,
    }


def _ring(look: Look) -> Line2D:
    return Line2D([], [], **_ring_look(look))


# Batch sizes -------------------------------------------------------------------------------------

SCHEMES = {"equal_epochs": "equal epochs", "equal_updates": "equal updates"}


def draw_batch_sizes(frame: pd.DataFrame) -> Figure:
    """Draw accuracies against the batch size, equal epochs beside equal updates.

    Above accuracy on whole images, then the gap between training and test, below accuracy on the
    high frequencies of test images by radius. Bars are 95% intervals over seeds and images; the gap
    has none, since training and test images differ.

    Source: Figure 4, which has equal epochs alone.

    Args:
        frame: the table `batch_sizes`: dataset, scheme, batch_size, seeds, images, radius (periods
            per side), gap (training less test accuracy), and each with its interval `_low` and
            `_high` train, test, hfc (on high frequencies).

    Raises:
        ValueError: a column is missing, or a line has two rows of one batch size.
    """
    check_columns(
        frame,
        ["dataset", "model", "scheme", "batch_size", "seeds", "images", "radius", "gap"]
        + [name + end for name in ("train", "test", "hfc") for end in ("", "_low", "_high")],
    )
    groups = [
        (key, scheme, rows[rows["scheme"] == scheme])
        for key, rows in frame.groupby(["dataset", "model"], sort=False)
        for scheme in SCHEMES
        if (rows["scheme"] == scheme).any()
    ]
    radii = frame["radius"].unique().tolist()
    with style():
        columns = max(1, len(groups))
        width = COLUMN if columns == 1 else PAGE
        figure = Figure(figsize=(width, 5.2), dpi=DPI, layout="constrained")
        grid = figure.subplots(3, columns, squeeze=False, sharey="row", sharex="col")
        entries: dict[str, Any] = {}
        for column, (key, scheme, rows) in enumerate(groups):
            facts = f"{key[0]}, {SCHEMES[scheme]}\n{_measured(rows, 'images')}"
            grid[0, column].set_title(wrapped(facts, width / columns - 0.2))
            entries |= _batch_panels(list(grid[:, column]), rows, radii)
            _size_axis(grid[2, column], sorted(rows["batch_size"].unique()))
        if groups:
            _accuracy_axis(grid[0])
            # 0 is where training and test images are equal.
            for axes in grid[1]:
                axes.axhline(0, **LEVEL)
        for axes, label in zip(
            grid[:, 0],
            ("accuracy", "training less\ntest accuracy", "accuracy,\nhigh frequencies"),
            strict=True,
        ):
            axes.set_ylabel(label)
        add_legend(figure, entries)
        return finish(figure)


WHOLE_STYLE: Mapping[str, Look] = {
    "train": Look("training images", DARK_GREY, "o", "-"),
    "test": Look("test images", "black", "s", (0, (5, 1.5))),
}


def _batch_panels(
    grid: Sequence[Axes], rows: pd.DataFrame, radii: Sequence[float]
) -> dict[str, Any]:
    """Draw the panels of one scheme, from above; return the entries of the legend."""
    entries: dict[str, Any] = {}
    # What is measured on whole images stands at each radius.
    whole = rows[rows["radius"] == rows["radius"].min()]
    for name, look in WHOLE_STYLE.items():
        part = _interval(whole, name, "batch_size")
        entries[look.label] = draw_rates(grid[0], part, "batch_size", look, y="rate")
    size, gap = points_of(whole, "batch_size", ("gap",))
    grid[1].plot(size, gap, **Look("gap", BROWN, "D", "-").line())
    looks = _by_radius(radii, "high frequencies, r = {:g}")
    for number, (radius, look) in enumerate(looks.items()):
        part = _interval(rows[rows["radius"] == radius], "hfc", "batch_size")
        shift = 1.0 * (number - (len(looks) - 1) / 2)
        entries[look.label] = draw_rates(grid[2], part, "batch_size", look, shift, "rate")
    return {label: line for label, line in entries.items() if line is not None}


def _size_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """Make the x axis logarithmic, with a tick for each batch size."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{size:g}" for size in sizes]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("batch size, images")


# Smoothed kernels --------------------------------------------------------------------------------

ATTACKS: Mapping[tuple[str, str | None], str] = {
    ("clean", None): "clean",
    ("fgsm", "cross_entropy"): "FGSM",
    ("pgd", "cross_entropy"): "PGD,\ncross-entropy",
    ("pgd", "margin"): "PGD,\nmargin",
}
"""Panels of smoothed kernels: attack, the loss that it follows, and its name."""

DIVIDED = (0, (4, 1.5))


def draw_smoothing(frame: pd.DataFrame) -> Figure:
    """Draw accuracy against the weight of a kernel's neighbours, by attack.

    A row for each network, a panel for clean images and for each attack, a line for each l_inf
    bound: solid for kernels as the document smooths them, dashed for those divided by the gain
    1 + 8ρ, which are as smooth. Bars are 95% intervals over seeds and images; open markers are what
    the document reports of its own networks.

    Source: Table 2, which has neither the division nor the attack on the margin.

    Args:
        frame: the table `table_2`: dataset, network, training, rho (>= 0), normalized, attack,
            loss, epsilon (in [0, 1] pixels), seeds, images, reported, and accuracy with
            accuracy_low and accuracy_high, in [0, 1].

    Raises:
        ValueError: a column is missing, or a line has two rows of one rho.
    """
    check_columns(
        frame,
        ["dataset", "network", "training", "rho", "normalized", "attack", "loss", "epsilon"]
        + ["seeds", "images", "accuracy", "accuracy_low", "accuracy_high", "reported"],
    )
    groups = list(frame.groupby(["dataset", "network"], sort=False))
    epsilons = sorted(frame["epsilon"].dropna().unique())
    looks = {
        float(bound): replace(look, label=f"ε = {bound:.2g}")
        for bound, look in zip(epsilons, itertools.cycle(RADIUS_STYLE), strict=False)
    }
    with style():
        rows = max(1, len(groups))
        figure = Figure(figsize=(PAGE, 0.2 + 2.2 * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, len(ATTACKS), squeeze=False, sharex=True, sharey=True)
        entries: dict[str, Any] = {}
        for panels, ((dataset, _), own) in zip(grid, groups, strict=False):
            for axes, ((attack, loss), name) in zip(panels, ATTACKS.items(), strict=True):
                same = own["loss"].isna() if loss is None else own["loss"] == loss
                part = own[(own["attack"] == attack) & same]
                entries |= _smoothing_panel(axes, part, looks)
                if axes in grid[0]:
                    axes.set_title(name)
            training = own["training"].iloc[0]
            # Beside axes of two inches there is room for a short line; datasets stand above.
            several = f"{dataset},\n" if len({name for (name, _), _ in groups}) > 1 else ""
            panels[0].set_ylabel(
                f"{several}{training} training\n{_measured(own, 'images')}\naccuracy"
            )
        for axes in grid[-1]:
            axes.set_xlabel("weight ρ of neighbours")
            axes.set_xlim(left=-0.04)
        _accuracy_axis(grid.ravel())
        names = ", ".join(dict.fromkeys(str(name) for (name, _), _ in groups))
        figure.suptitle(names, fontsize=POINTS)
        add_legend(figure, _smoothing_legend(entries, looks))
        return finish(figure)


CLEAN_LOOK = Look("clean", "black", "P", "-")


def _smoothing_panel(axes: Axes, part: pd.DataFrame, looks: Mapping[float, Look]) -> dict[str, Any]:
    """Draw one attack on one network; return what it needs of the legend."""
    entries: dict[str, Any] = {}
    normalized = part["normalized"].astype(bool)
    for bound, look in [(None, CLEAN_LOOK), *looks.items()]:
        own = part["epsilon"].isna() if bound is None else part["epsilon"] == bound
        raw = part[own & ~normalized]
        # Without smoothing there is nothing to divide.
        divided = part[own & (normalized | (part["rho"] == 0))]
        for rows, dashes, shift in ((raw, "-", -0.7), (divided, DIVIDED, 0.7)):
            if dashes == DIVIDED and not normalized[own].any():
                continue
            line, points = replace(look, dashes=dashes), _interval(rows, "accuracy", "rho")
            if draw_rates(axes, points, "rho", line, shift, "rate") is not None:
                entries[look.label] = entries["divided" if dashes == DIVIDED else "raw"] = True
        if len(_open(axes, raw, "rho", "reported", look)):
            entries["reported"] = True
    return entries


def _smoothing_legend(entries: Mapping[str, Any], looks: Mapping[float, Look]) -> dict[str, Any]:
    """Return the entries of a legend that tells bounds by colour, and kernels by dashes."""
    known = {
        look.label: Line2D([], [], **{**look.line(), "linestyle": "-"})
        for look in (CLEAN_LOOK, *looks.values())
        if look.label in entries
    }
    if "raw" in entries:
        known["smoothed"] = Line2D([], [], color=DARK_GREY)
    if "divided" in entries:
        known["smoothed, over 1 + 8ρ"] = Line2D([], [], color=DARK_GREY, linestyle=DIVIDED)
    if "reported" in entries:
        known["document, smoothed"] = _ring(Look("", DARK_GREY, "o", "-"))
    return known


# Parts of images ---------------------------------------------------------------------------------

BASIS_STYLE: Mapping[str, Look] = {
    "fourier": Look("frequencies", BLUE, "o", "-"),
    "svd": Look("singular values", ORANGE, "s", (0, (5, 1.5))),
}


def draw_svd(frame: pd.DataFrame) -> Figure:
    """Draw how many images are right but for their strong part, by frequency and singular value.

    Counted are images that a network gets right, their weak part too, and their strong part not.
    The strong part is the low frequencies within the radius, or the leading singular values whose
    energy is nearest to theirs. Bars are 95% intervals over seeds and images.

    Source: section 8, which says of singular values that such images are fewer.

    Args:
        frame: the table `svd`: dataset, model, radius (periods per side), seeds, images, and each
            with its interval `_low` and `_high` fourier, svd, shares in [0, 1].

    Raises:
        ValueError: a column is missing, or a line has two rows of one radius.
    """
    check_columns(
        frame,
        ["dataset", "model", "radius", "seeds", "images"]
        + [name + end for name in BASIS_STYLE for end in ("", "_low", "_high")],
    )
    groups = list(frame.groupby(["dataset", "model"], sort=False))
    headings = [(str(key[0]), str(key[1]), _facts(rows, "images")) for key, rows in groups]
    with style():
        figure, grid = make_panels(headings, 2.6, sharey=True)
        entries: dict[str, Any] = {}
        for axes, (_, rows) in zip(grid, groups, strict=False):
            for shift, (name, look) in zip((-1.0, 1.0), BASIS_STYLE.items(), strict=True):
                part = _interval(rows, name, "radius")
                drawn = draw_rates(axes, part, "radius", look, shift, "rate")
                if drawn is not None:
                    entries[look.label] = drawn
            axes.xaxis.set_major_locator(FixedLocator(sorted(rows["radius"].unique())))
            axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            axes.set_ylim(bottom=0)
            axes.set_xlabel("radius r, periods per side")
        label_left(grid, "share of images")
        add_legend(figure, entries)
        return finish(figure)


NORMS = {"l2": "L2 distance", "linf": "L∞ distance"}


def draw_distances(frame: pd.DataFrame) -> Figure:
    """Draw how far low-frequency images lie from images that they turn wrong.

    Lines are empirical cumulative distributions over images, of all seeds, that are right as they
    are and wrong by their low frequencies: at a distance, the share of those that lie no farther.

    Source: Corollary 1, by which such a low-frequency image is an adversarial example at that
    distance.

    Args:
        frame: of `component_rates.fooled`: dataset, model, radius (periods per side), and the
            distances l2 and linf, in [0, 1] pixels; a row for each such image.

    Raises:
        ValueError: a column is missing.
    """
    check_columns(frame, ["dataset", "model", "radius", *NORMS])
    groups = list(frame.groupby(["dataset", "model"], sort=False))
    radii = frame["radius"].unique().tolist()
    with style():
        rows = max(1, len(groups))
        figure = Figure(figsize=(PAGE, 2.5 * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, len(NORMS), squeeze=False, sharey=True)
        entries: dict[str, Any] = {}
        for panels, ((dataset, model), own) in zip(grid, groups, strict=False):
            for axes, (norm, name) in zip(panels, NORMS.items(), strict=True):
                for radius, look in _by_radius(radii).items():
                    away = np.sort(values_of(own.loc[own["radius"] == radius, norm]))
                    if not len(away):
                        continue
                    every = max(1, len(away) // MARKED)
                    line = axes.ecdf(away, **look.line(), markevery=every)
                    entries.setdefault(look.label, line)
                axes.set_xlim(left=0)
                axes.set_xlabel(f"{name} from the image, in [0, 1] pixels")
            panels[0].set_title(wrapped(f"{dataset}, {model}", PAGE / 2 - 0.3))
            panels[1].set_title(wrapped(f"N = {_numbers(own)}", PAGE / 2 - 0.3))
        for axes in grid[:, 0]:
            axes.set_ylabel("share of images within")
        _accuracy_axis(grid.ravel())
        add_legend(figure, _ordered(entries, (look.label for look in _by_radius(radii).values())))
        return finish(figure)


def _numbers(own: pd.DataFrame) -> str:
    """Return how many images there are at each radius: '160 (r = 4), 320 (8)'."""
    counts = own.groupby("radius").size().items()
    return ", ".join(
        f"{count} ({radius:g})" if i else f"{count} (r = {radius:g})"
        for i, (radius, count) in enumerate(counts)
    )
