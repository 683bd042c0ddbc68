"""Figures of the study that are pictures: images, their perturbations, and spectra.

Spectra are centred, means over channels, of pixels in [0, 1] by the transform without a factor, as
in `bandlimit.spectral.fourier`. Axes are in periods per side; rows run downwards, as in an image.

Source: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", of which figures are
numbered here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from bandlimit.files import store
from bandlimit.plots.style import (
    BLUE,
    COLUMN,
    DPI,
    PAGE,
    POINTS,
    VERMILLION,
    Floats,
    finish,
    show_image,
    style,
    wrapped,
)
from bandlimit.spectral.arrays import magnitudes
from bandlimit.spectral.shells import ring_means, shells
from bandlimit.studies.perturbation_spectra.figures import FLAT, FLAT_LINE

Path = str | os.PathLike[str]

BATCH = 256

FLOOR = 1e-8
"""What is added to magnitudes under a logarithm, as in `bandlimit.spectral.fourier`."""

SPECTRUM_MAP, DIFFERENCE_MAP = "viridis", "magma"
"""Colour maps of spectra and of their differences: even to the eye, and safe for colour-blind."""

MAGNITUDE, DECIBELS = "|F(δ)|", "dB"

BAR = 0.06
"""Width of a colour bar, in panels."""


# What is drawn -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Perturbed:
    """Images and what a perturbation adds to them.

    Attributes:
        ids: of the N images.
        images: N x C x H x W, float64, in [0, 1].
        changes: perturbations δ, of that shape; not rounded to 8 bits.
        labels: classes of the images, N.
        before: classes that the network sees in the images, N.
        after: those that it sees in the perturbed ones, N.
        moved: how many images the perturbation moved at all, of which these were taken.
    """

    ids: Sequence[str]
    images: Floats
    changes: Floats
    labels: Sequence[int]
    before: Sequence[int]
    after: Sequence[int]
    moved: int


def read(
    dataset: Path,
    paths: Sequence[Path],
    perturbation: str,
    *,
    images: int | None = None,
    place: int | None = None,
) -> Perturbed:
    """Return some of the images that a perturbation moved.

    Images without a gradient have no spectrum to show.

    Args:
        dataset: file of the clean images.
        paths: files of `bandlimit.attacks.perturbations`, in order.
        perturbation: its name.
        images: how many, evenly spread over the dataset, since it may go by class; all where there
            are fewer.
        place: the one at this place, the last where there are fewer.

    Raises:
        ValueError: not exactly one of `images` and `place` is given.
        UserError: a file can't be read.
    """
    if (images is None) == (place is None):
        raise ValueError("either a number of images or a place is asked for")
    moved = []
    for path in paths:
        table = store.read(path, ["perturbation", "image_id", "status"])
        moved += [
            image_id
            for name, image_id, status in zip(
                *(table[column].to_pylist() for column in table.column_names), strict=True
            )
            if name == perturbation and status == "ok"
        ]
    if len(paths) > 1:
        # Shards take the images of a dataset in turns.
        known = store.read(dataset, ["image_id"])["image_id"].to_pylist()
        moved.sort(key={image_id: i for i, image_id in enumerate(known)}.__getitem__)
    if place is not None:
        ids = moved[: place + 1][-1:]
    else:
        count = min(images or 0, len(moved))
        ids = [moved[i] for i in np.linspace(0, len(moved) - 1, count).round().astype(int)]
    rows: dict[str, dict[str, Any]] = {}
    for path in paths:
        for table in store.batches(path, BATCH):
            names, here = table["perturbation"].to_pylist(), table["image_id"].to_pylist()
            for row in range(len(table)):
                if names[row] == perturbation and here[row] in ids:
                    part = table.slice(row, 1)
                    facts = part.select(["label", "prediction_before", "prediction_after"])
                    rows[here[row]] = {"image": store.images_of(part)[0], **facts.to_pylist()[0]}
    clean: dict[str, Floats] = {}
    for table in store.batches(dataset, BATCH, ["image_id", "image"]) if ids else ():
        for row, image_id in enumerate(table["image_id"].to_pylist()):
            if image_id in rows:
                # In float32 as the perturbation was made.
                pixels = store.images_of(table.slice(row, 1))[0].astype(np.float32)
                clean[image_id] = (pixels / np.float32(255)).astype(np.float64)
    shape = store.image_shape(dataset)
    x = np.array([clean[image_id] for image_id in ids]).reshape(-1, *shape)
    perturbed = [rows[image_id]["image"].astype(np.float64) for image_id in ids]
    return Perturbed(
        ids=ids,
        images=x,
        changes=np.array(perturbed).reshape(-1, *shape) - x,
        labels=[rows[image_id]["label"] for image_id in ids],
        before=[rows[image_id]["prediction_before"] for image_id in ids],
        after=[rows[image_id]["prediction_after"] for image_id in ids],
        moved=len(moved),
    )


@dataclass(frozen=True)
class MeanSpectra:
    """Mean maps over images.

    Attributes:
        images: how many they are means over.
        maps: by name, H x W, centred: 'magnitudes' |F(δ)|, 'log_magnitudes' log10 |F(δ)|,
            'log_difference' in decibels.
    """

    images: int = 0
    maps: Mapping[str, Floats] = field(default_factory=dict)


def read_maps(paths: Sequence[Path], perturbation: str) -> MeanSpectra:
    """Return the mean maps of a perturbation, over the images of all files.

    Args:
        paths: files of `measuring.maps_table`.
        perturbation: its name.

    Raises:
        UserError: a file can't be read.
    """
    rows = [
        row
        for path in paths
        for row in store.read(path).to_pylist()
        if row["perturbation"] == perturbation
    ]
    images = sum(row["images"] for row in rows)
    if not images:
        return MeanSpectra()
    maps = {}
    for name in MAPS:
        weighted = [row["images"] * np.array(row[name], dtype=np.float64) for row in rows]
        maps[name] = np.sum(weighted, axis=0).reshape(rows[0]["height"], rows[0]["width"]) / images
    return MeanSpectra(images, maps)


def decibels(x: Floats) -> Floats:
    """Return the centred log-spectrum of an image, 20 log10 |F|, H x W, mean over channels."""
    found: Floats = (20 * np.log10(magnitudes(x) + FLOOR)).mean(axis=0)
    return found


def log_difference(x: Floats, d: Floats) -> Floats:
    """Return the log-spectrum difference of an image and its example, H x W, in decibels."""
    change = np.log10(magnitudes(x + d) + FLOOR) - np.log10(magnitudes(x) + FLOOR)
    found: Floats = (20 * np.abs(change)).mean(axis=0)
    return found


# Parts of a figure -------------------------------------------------------------------------------


def _no_data(heading: str, facts: str) -> Figure:
    figure = Figure(figsize=(COLUMN, 2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_xticks([])
    axes.set_yticks([])
    _head(figure, f"{heading}\n{facts}")
    return finish(figure)


def _head(figure: Figure, text: str) -> None:
    figure.suptitle(wrapped(text, figure.get_figwidth() - 0.1), fontsize=POINTS)


def _limits(values: Floats, *, floor: float | None = None, low: float = 0.0) -> dict[str, Any]:
    """Return the ends of a colour scale, without the few values that would take most of it.

    Args:
        values: that are shown.
        floor: the lower end, if it is known.
        low: share of the values, in percent, that may lie below the scale.
    """
    start = float(np.percentile(values, low)) if floor is None else floor
    end = float(np.percentile(values, 99.5))
    largest = float(values.max())
    # A value within a tenth of the scale needs no arrow.
    end = largest if largest - end <= 0.1 * (end - start) else end
    # A map of one value has a scale all the same.
    return {"vmin": start, "vmax": end if end > start else start + 1}


def _heat(
    axes: Axes, values: Floats, limits: Mapping[str, Any], *, cmap: str, labels: str = "xy"
) -> Any:
    """Show a centred map of frequencies, H x W, its axes in periods per side.

    Args:
        axes: the panel.
        values: the map.
        limits: of the colours.
        cmap: of the colours.
        labels: which axes have numbers.
    """
    height, width = values.shape
    left, top = -(width // 2) - 0.5, -(height // 2) - 0.5
    shown = axes.imshow(
        values,
        cmap=cmap,
        extent=(left, left + width, top + height, top),
        interpolation="nearest",
        **limits,
    )
    axes.grid(visible=False)
    for name, axis, side in (("x", axes.xaxis, width), ("y", axes.yaxis, height)):
        reach = _reach(side)
        axis.set_major_locator(FixedLocator([-reach, 0, reach] if reach else [0]))
        if name not in labels:
            axis.set_tick_params(length=0, labelbottom=False, labelleft=False)
    return shown


def _reach(side: int) -> int:
    """Return a round frequency near the border of a spectrum, for a tick."""
    half = side // 2
    step = next((s for s in (100, 50, 20, 10, 5, 2, 1) if s <= 0.85 * half), 0)
    return int(0.95 * half // step * step) if step else 0


def _bar(figure: Figure, shown: Any, panels: Sequence[Axes], place: Axes, label: str) -> None:
    """Fill axes with the colour bar of panels, with arrows where values lie beyond its ends."""
    seen = np.concatenate([np.asarray(one.images[0].get_array()).ravel() for one in panels])
    low, high = shown.get_clim()
    extend = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    ends = extend[int(seen.min() < low - 1e-9), int(seen.max() > high + 1e-9)]
    bar = figure.colorbar(shown, cax=place, extend=ends, extendfrac=0.05)
    bar.set_label(label)
    bar.locator = MaxNLocator(4, steps=[1, 2, 5, 10])
    bar.update_ticks()
    # As high as the panels beside it, which are square however high their row is.
    place.set_box_aspect(1 / BAR)


def _panels(figure: Figure, rows: int, kinds: str, **more: Any) -> NDArray[np.object_]:
    """Return the axes of rows of panels, 'p', and of colour bars, '|'."""
    widths = [1 if kind == "p" else BAR for kind in kinds]
    grid = figure.subplots(rows, len(kinds), squeeze=False, width_ratios=widths, **more)
    found: NDArray[np.object_] = grid
    return found


def _frequency_labels(axes: Axes, *, x: bool = True, y: bool = True) -> None:
    if x:
        axes.set_xlabel("horizontal frequency")
    if y:
        axes.set_ylabel("vertical frequency")


def _classes(found: Perturbed, i: int) -> str:
    return f"{found.before[i]} → {found.after[i]}"


# Figures -----------------------------------------------------------------------------------------


def draw_spectrum(found: Perturbed, heading: str) -> Figure:
    """Draw the spectrum of one perturbation, and the log-spectrum difference.

    Source: Figure 1, a sketch of the two.

    Args:
        found: the image.
        heading: network and perturbation.
    """
    with style():
        if not found.ids:
            return _no_data(heading, "no image was moved")
        x, d = found.images[0], found.changes[0]
        figure = Figure(figsize=(PAGE, 3.3), dpi=DPI, layout="constrained")
        left, left_bar, right, right_bar = _panels(figure, 1, "p|p|")[0]
        values = magnitudes(d).mean(axis=0)
        shown = _heat(left, values, _limits(values, floor=0), cmap=SPECTRUM_MAP)
        _bar(figure, shown, [left], left_bar, MAGNITUDE)
        values = log_difference(x, d)
        shown = _heat(right, values, _limits(values, floor=0), cmap=DIFFERENCE_MAP)
        _bar(figure, shown, [right], right_bar, DECIBELS)
        left.set_title("spectrum of the perturbation, |F(δ)|")
        right.set_title("log-spectrum difference of x + δ and x")
        for axes in (left, right):
            _frequency_labels(axes)
        _head(figure, f"{heading}\nimage {found.ids[0]}, frequencies in periods per side")
        return finish(figure)


def draw_gallery(found: Perturbed, heading: str) -> Figure:
    """Draw images, and below each the spectrum of its perturbation, on one scale.

    Source: Figures 3 and 7.

    Args:
        found: the images.
        heading: network and perturbation.
    """
    with style():
        count = len(found.ids)
        if not count:
            return _no_data(heading, "no image was moved")
        side = 5.5 / max(count, 4)
        figure = Figure(figsize=(PAGE, 1.15 + 2 * side), dpi=DPI, layout="constrained")
        grid = _panels(figure, 2, "p" * count + "|")
        grid[0, -1].remove()
        spectra = np.array([magnitudes(d).mean(axis=0) for d in found.changes])
        limits = _limits(spectra, floor=0)
        shown = None
        for column in range(count):
            show_image(grid[0, column], found.images[column])
            grid[0, column].set_title(_classes(found, column))
            below = grid[1, column]
            labels = "" if column else "xy"
            shown = _heat(below, spectra[column], limits, cmap=SPECTRUM_MAP, labels=labels)
            if side < 1:
                # Three numbers would touch.
                below.xaxis.set_major_locator(FixedLocator(below.get_xticks()[[0, -1]]))
        _bar(figure, shown, list(grid[1, :-1]), grid[1, -1], MAGNITUDE)
        grid[0, 0].set_ylabel("image x")
        grid[1, 0].set_ylabel(MAGNITUDE)
        _head(figure, f"{heading}, {_counted(found)}")
        return finish(figure)


def _counted(found: Perturbed) -> str:
    """Return how many images are shown, and how the rest is read."""
    return (
        f"{len(found.ids)} of {found.moved} images\n"
        "above: class seen in x → in x + δ; below: frequencies in periods per side"
    )


def draw_image(found: Perturbed, heading: str) -> Figure:
    """Draw an image, its example and the perturbation, and their log-spectra.

    Source: Figure 5.

    Args:
        found: the image.
        heading: network and perturbation.
    """
    with style():
        if not found.ids:
            return _no_data(heading, "no image was moved")
        x, d = found.images[0], found.changes[0]
        figure = Figure(figsize=(PAGE, 4.55), dpi=DPI, layout="constrained")
        grid = _panels(figure, 2, "pp|p|")
        for axes in grid[0, [2, 4]]:
            axes.remove()
        pictures, spectra = grid[0, [0, 1, 3]], grid[1, [0, 1, 3]]
        reach = float(np.abs(d).max())
        show_image(pictures[0], x)
        show_image(pictures[1], x + d)
        show_image(pictures[2], d, reach=reach)
        pictures[0].set_title(f"image x,\nseen as class {found.before[0]}")
        pictures[1].set_title(f"example x + δ,\nseen as class {found.after[0]}")
        pictures[2].set_title(f"perturbation δ,\n±{255 * reach:.3g}/255, 0 is grey")
        logs = [decibels(x), decibels(x + d)]
        limits = _limits(np.array(logs), low=0.5)
        shown = None
        for axes, values, name in zip(spectra, logs, ("x", "x + δ"), strict=False):
            shown = _heat(axes, values, limits, cmap=SPECTRUM_MAP)
            axes.set_title(f"log-spectrum of {name}")
        _bar(figure, shown, list(spectra[:2]), grid[1, 2], DECIBELS)
        values = log_difference(x, d)
        shown = _heat(spectra[2], values, _limits(values, floor=0), cmap=DIFFERENCE_MAP)
        _bar(figure, shown, [spectra[2]], grid[1, 4], DECIBELS)
        spectra[2].set_title("log-spectrum difference")
        for column, axes in enumerate(spectra):
            _frequency_labels(axes, y=column == 0)
        _head(figure, f"{heading}\nimage {found.ids[0]}, frequencies in periods per side")
        return finish(figure)


def draw_log_spectra(found: Perturbed, heading: str) -> Figure:
    """Draw the log-spectra of several images and of their examples, and the differences.

    A column is an image. The spectra have one scale, the differences another.

    Source: Figure 9.

    Args:
        found: the images.
        heading: network and perturbation.
    """
    with style():
        count = len(found.ids)
        if not count:
            return _no_data(heading, "no image was moved")
        side = 5.4 / max(count, 4)
        figure = Figure(figsize=(PAGE, 1.35 + 4.3 * side), dpi=DPI, layout="constrained")
        grid = _panels(figure, 4, "p" * count + "|")
        grid[0, -1].remove()
        clean = np.array([decibels(x) for x in found.images])
        both = np.array([decibels(x) for x in found.images + found.changes])
        change = np.array(
            [log_difference(x, d) for x, d in zip(found.images, found.changes, strict=True)]
        )
        scale = _limits(np.array([clean, both]), low=0.5)
        rows = (
            ("log-spectrum\nof x", clean, scale, SPECTRUM_MAP, "y"),
            ("log-spectrum\nof x + δ", both, scale, SPECTRUM_MAP, "y"),
            ("log-spectrum\ndifference", change, _limits(change, floor=0), DIFFERENCE_MAP, "xy"),
        )
        for column in range(count):
            show_image(grid[0, column], found.images[column])
            grid[0, column].set_title(_classes(found, column))
        grid[0, 0].set_ylabel("image x")
        for panels, (name, values, limits, cmap, labels) in zip(grid[1:], rows, strict=True):
            shown = None
            for column, axes in enumerate(panels[:-1]):
                own = "" if column else labels
                shown = _heat(axes, values[column], limits, cmap=cmap, labels=own)
            _bar(figure, shown, list(panels[:-1]), panels[-1], DECIBELS)
            panels[0].set_ylabel(name)
        _head(figure, f"{heading}, {_counted(found)}")
        return finish(figure)


@dataclass(frozen=True)
class _Map:
    """How one kind of mean spectra is drawn."""

    title: str
    unit: str
    profile: str
    factor: float
    cmap: str
    color: str


MAPS: Mapping[str, _Map] = {
    "magnitudes": _Map("mean |F(δ)|", MAGNITUDE, "|F(δ)| / mean of all", 1, SPECTRUM_MAP, BLUE),
    "log_magnitudes": _Map(
        "mean log-spectrum of δ", DECIBELS, "log-spectrum (dB)", 20, SPECTRUM_MAP, BLUE
    ),
    "log_difference": _Map(
        "mean log-spectrum difference",
        DECIBELS,
        "difference (dB)",
        1,
        DIFFERENCE_MAP,
        VERMILLION,
    ),
}
"""Mean maps by name; the tables hold log10 |F|, which is drawn in decibels."""


def draw_maps(found: MeanSpectra, kinds: Sequence[str], heading: str) -> Figure:
    """Draw mean spectra as maps, and below each its mean by distance from frequency 0.

    Source: Figures 4, 8, 10 and 12, which show the maps.

    Args:
        found: the mean maps.
        kinds: names of those to draw, of `MAPS`; one column each.
        heading: network and perturbation.
    """
    with style():
        if not found.images:
            return _no_data(heading, "no image was moved")
        width = COLUMN if len(kinds) == 1 else PAGE
        figure = Figure(figsize=(width, 4.9), dpi=DPI, layout="constrained")
        grid = _panels(figure, 2, "p|" * len(kinds), height_ratios=[1.75, 1])
        for axes in grid[1, 1::2]:
            axes.remove()
        for number, kind in enumerate(kinds):
            top, bar, below = grid[0, 2 * number], grid[0, 2 * number + 1], grid[1, 2 * number]
            look = MAPS[kind]
            values = look.factor * found.maps[kind]
            floor = None if kind == "log_magnitudes" else 0.0
            shown = _heat(top, values, _limits(values, floor=floor), cmap=look.cmap)
            _bar(figure, shown, [top], bar, look.unit)
            top.set_title(look.title)
            _frequency_labels(top)
            _draw_profile(below, values, look, kind)
        _head(figure, f"{heading}, N = {found.images}\nfrequencies in periods per side")
        return finish(figure)


def _draw_profile(axes: Axes, values: Floats, look: _Map, kind: str) -> None:
    """Draw the means of a map by distance, beside what a flat one would have."""
    profile, level, name = _profile(values), float(values.mean()), "mean of all frequencies"
    if kind == "magnitudes":
        # Beside the mean, since the size of a perturbation is chosen and its shape is not.
        profile, level, name = profile / max(level, 1e-300), 1.0, FLAT
    # Those of large images would hide the line.
    marker = "o" if len(profile) <= 40 else ""
    axes.plot(np.arange(len(profile)), profile, color=look.color, marker=marker)
    axes.axhline(level, **FLAT_LINE, label=name)
    known = profile[profile > 0]
    if kind == "magnitudes" and len(known):
        # Frequency 0 may be ten times as strong as its neighbours.
        axes.set_yscale("log")
        axes.set_ylim(min(0.4, known.min() / 1.3), 1.8 * max(profile.max(), 2))
        low, high = axes.get_ylim()
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low <= tick <= high]
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}" for tick in ticks]))
        axes.yaxis.set_minor_locator(NullLocator())
    elif kind == "log_difference":
        axes.set_ylim(0, 1.25 * max(profile.max(), level, FLOOR))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, steps=[1, 2, 5, 10]))
    axes.set_xlabel("distance from frequency 0")
    axes.set_ylabel(look.profile)
    axes.legend(loc="best", handlelength=2.2)


def _profile(values: Floats) -> Floats:
    """Return the means of a centred map over the frequencies at each rounded distance."""
    height, width = values.shape
    of = shells((height, width))
    # From the order of a centred spectrum to that of a transform.
    half = np.roll(values, (-(height // 2), -(width // 2)), (0, 1))[:, : width // 2 + 1]
    sums = np.bincount(of.index.ravel(), (half * of.weights).ravel())
    return ring_means(sums / of.counts, of)
