"""Figures of the study that are pictures: images and their parts, and kernels.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", of which figures are numbered here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bandlimit.data import stream
from bandlimit.models.kernels import roughness, smoothed
from bandlimit.plots.style import (
    COLUMN,
    DPI,
    PAGE,
    POINTS,
    Floats,
    finish,
    show_image,
    style,
    wrapped,
)
from bandlimit.spectral.components import component
from bandlimit.studies.high_frequency.component_rates import Parts
from bandlimit.studies.high_frequency.components import FOURIER, IMAGE
from bandlimit.studies.high_frequency.smoothing_rates import kernels

Path = str | os.PathLike[str]

BATCH = 256

ROWS = ("image", "low", "high")
"""Rows of the figure of images."""


# Images ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hidden:
    """Images that a network gets right, their high frequencies too, and their low ones not.

    Attributes:
        pixels: by the names of `ROWS`, N x C x H x W each, float64: images in [0, 1], their low
            frequencies, which may leave [0, 1], and their high ones, which lie around 0.
        predictions: classes that the network sees, by the same names, N each.
        confidences: probabilities of those classes, in [0, 1], by the same names.
        radius: of the low frequencies, in periods per side.
        found: how many such images there are at that radius.
        asked: how many images there are.
    """

    pixels: Mapping[str, Floats]
    predictions: Mapping[str, Sequence[int]]
    confidences: Mapping[str, Sequence[float]]
    radius: float
    found: int
    asked: int


def read_hidden(dataset: Path, files: Sequence[str], radii: Sequence[float], images: int) -> Hidden:
    """Return the images of that kind that the network is surest of.

    The radius is the least at which there are as many as are asked for, else the one with most.

    Args:
        dataset: file of the images.
        files: records of `components.SCHEMA`, of one network, shard by shard.
        radii: that they hold, in periods per side.
        images: how many; all where there are fewer.

    Raises:
        UserError: a file can't be read.
    """
    parts = Parts({"shards": len(files)}, files)
    right = {radius: parts.hidden(FOURIER, radius)[0] > 0 for radius in sorted(radii)}
    enough = [radius for radius, those in right.items() if those.sum() >= images]
    radius = enough[0] if enough else max(right, key=lambda radius: right[radius].sum())

    def read(column: str, row: str) -> Floats:
        asked = (IMAGE, None, None, None) if row == "image" else (FOURIER, row, radius, "text")
        return parts.of(column, *asked)[0]

    those = np.flatnonzero(right[radius])
    surest = those[np.argsort(-read("probability", "image")[those], kind="stable")][:images]
    return Hidden(
        pixels=_pixels(dataset, [parts.ids[i] for i in surest], radius),
        predictions={row: read("prediction", row)[surest].astype(int).tolist() for row in ROWS},
        confidences={row: read("probability", row)[surest].tolist() for row in ROWS},
        radius=radius,
        found=len(those),
        asked=len(parts.ids),
    )


def _pixels(dataset: Path, ids: Sequence[str], radius: float) -> dict[str, Floats]:
    """Return images and their parts, by the names of `ROWS`."""
    found = {
        image_id: image
        for names, _, batch in stream.batches(dataset, BATCH, keep=frozenset(ids))
        # In float64, as the network was shown them.
        for image_id, image in zip(names, batch.double(), strict=True)
    }
    x = torch.stack([found[image_id] for image_id in ids]) if ids else torch.empty(0, 1, 1, 1)
    low, high = (component(x, part=part, radius=radius, scale="none") for part in ROWS[1:])
    return dict(zip(ROWS, (x.numpy(), low.numpy(), high.numpy()), strict=True))


def draw_hidden(found: Hidden, heading: str) -> Figure:
    """Draw images, and below each its low and its high frequencies, with what a network sees.

    Low frequencies are clipped to [0, 1]. Of high frequencies 0 is grey, black and white are the
    greatest distance from 0 in that image.

    Source: Figure 2.

    Args:
        found: the images.
        heading: dataset and network.
    """
    facts = (
        f"{found.found} of {found.asked} images are such, r = {found.radius:g} periods per side\n"
        "above each: class that the network sees, and its confidence; that of the image is right"
    )
    with style():
        count = len(found.predictions["image"])
        if not count:
            return _no_data(f"{heading}\n{facts.splitlines()[0]}")
        columns = max(count, 6)
        side = (PAGE - 0.5) / columns
        figure = Figure(figsize=(PAGE, 0.7 + 3 * (side + 0.25)), dpi=DPI, layout="constrained")
        grid = figure.subplots(3, columns, squeeze=False)
        for axes in grid[:, count:].ravel():
            axes.remove()
        names = ("image", "low\nfrequencies", "high\nfrequencies")
        for row, name, panels in zip(ROWS, names, grid, strict=True):
            shown = found.pixels[row]
            panels[0].set_ylabel(name)
            for i, axes in enumerate(panels[:count]):
                reach = float(np.abs(shown[i]).max()) if row == "high" else None
                show_image(axes, shown[i], reach=reach)
                seen, sure = found.predictions[row][i], found.confidences[row][i]
                axes.set_title(f"{seen}: {_percent(sure)}", pad=2)
        _head(figure, f"{heading}\n{facts}")
        return finish(figure)


def _percent(share: float) -> str:
    """Return a probability in percent; what is not all is not called so."""
    return "> 99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


# Kernels -----------------------------------------------------------------------------------------

RHO = 1.0
"""Weight of the neighbours in smoothed kernels, as in Figure 7."""

KERNEL_MAP = "RdBu_r"
"""Colours of weights: white is 0. Safe for colour-blind."""

ACROSS = 16
"""Output channels in one line of a panel."""


@dataclass(frozen=True)
class Kernels:
    """The kernels of the first layer of one network.

    Attributes:
        dataset: name of the data that it was trained on.
        training: natural or adversarial.
        smoothed: whether the kernels are smoothed with rho = 1, divided by the gain 9.
        weights: outputs x inputs x height x width.
        roughness: mean over outputs, see `bandlimit.models.kernels.roughness`.
    """

    dataset: str
    training: str
    smoothed: bool
    weights: Floats
    roughness: float


def read_kernels(files: Sequence[str], experiments: Sequence[Mapping[str, Any]]) -> list[Kernels]:
    """Return the kernels of the first seed of each network, as trained and smoothed.

    Args:
        files: models of each experiment: its network and the adversarially trained one, all seeds.
        experiments: what they stand for.

    Raises:
        UserError: a file can't be read, or a network has no convolution.
    """
    found = []
    place = 0
    for e in experiments:
        seeds = {network["name"]: network["seeds"] for network in e["networks"]}
        for name in (e["model"], *([e["robust"]] if e["robust"] else [])):
            (weights,) = kernels(files[place : place + 1])
            place += seeds[name]
            for smooth in (False, True):
                shown = smoothed(weights, RHO, normalize=True) if smooth else weights
                found.append(
                    Kernels(
                        dataset=e["dataset"],
                        training="adversarial" if name == e["robust"] else "natural",
                        smoothed=smooth,
                        weights=shown.double().numpy(),
                        roughness=float(torch.nanmean(roughness(shown))),
                    )
                )
    return found


def draw_kernels(found: Sequence[Kernels]) -> Figure:
    """Draw kernels of the first layer as images, a panel for each network, as is and smoothed.

    A column of small images is an output channel, a row of them an input channel. White is weight
    0, and all panels of a dataset have one scale; smoothed kernels are divided by their gain, or
    there would be no common one.

    Source: Figure 7.

    Args:
        found: what is drawn, networks in order, each as trained and then smoothed.
    """
    with style():
        if not found:
            return _no_data("kernels of the first layer")
        rows = len(found) // 2
        mosaics = [mosaic(one.weights) for one in found]
        # A panel is half a page wide.
        height = max(pixels.shape[0] / pixels.shape[1] for pixels in mosaics) * 2.9
        size = (PAGE, 0.2 + rows * (height + 0.45))
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False)
        bars = {}
        for number, (one, pixels) in enumerate(zip(found, mosaics, strict=True)):
            axes = grid[number // 2, number % 2]
            alike = [other.weights for other in found if other.dataset == one.dataset]
            reach = max(float(np.abs(weights).max()) for weights in alike) or 1.0
            bars[number // 2] = axes.imshow(
                pixels, cmap=KERNEL_MAP, vmin=-reach, vmax=reach, interpolation="nearest"
            )
            state = f"smoothed, ρ = {RHO:g}" if one.smoothed else "as trained"
            axes.set_title(
                f"{one.dataset}, {one.training} training,\n{state}: roughness {one.roughness:.2f}"
            )
            _bare(axes)
            # Gaps are grey, since white is a weight of 0.
            axes.set_facecolor("0.8")
        for row, shown in bars.items():
            bar = figure.colorbar(shown, ax=list(grid[row]), label="weight", aspect=12, pad=0.01)
            bar.locator = MaxNLocator(4, steps=[1, 2, 5, 10])
            bar.update_ticks()
        return finish(figure)


def mosaic(weights: Floats) -> Floats:
    """Return kernels side by side, with a gap of nan between: outputs across, inputs below.

    Args:
        weights: outputs x inputs x height x width.

    Returns:
        Two-dimensional; after `ACROSS` outputs a new line begins, apart by a wider gap.
    """
    outputs, inputs, height, width = weights.shape
    across = min(outputs, ACROSS)
    lines = -(-outputs // across)
    tall = inputs * (height + 1) + 1
    found = np.full((lines * tall - 2, across * (width + 1) - 1), np.nan)
    for output in range(outputs):
        line, column = divmod(output, across)
        for channel in range(inputs):
            top, left = line * tall + channel * (height + 1), column * (width + 1)
            found[top : top + height, left : left + width] = weights[output, channel]
    return found


# Parts of a figure -------------------------------------------------------------------------------


def _bare(axes: Axes) -> None:
    """Take ticks, grid and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _no_data(text: str) -> Figure:
    figure = Figure(figsize=(COLUMN, 2), dpi=DPI, layout="constrained")
    _bare(figure.subplots())
    _head(figure, text)
    return finish(figure)


def _head(figure: Figure, text: str) -> None:
    figure.suptitle(wrapped(text, figure.get_figwidth() - 0.1), fontsize=POINTS)
