"""Figures of the study that are pictures: images and their parts.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", of which figures are numbered here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bandlimit.data import stream
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
from bandlimit.spectral import arrays
from bandlimit.studies.high_frequency.component_rates import Parts
from bandlimit.studies.high_frequency.components_records import FOURIER, IMAGE

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
        files: records of `components_records.SCHEMA`, of one network, shard by shard.
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
        for names, _, batch in stream.arrays(dataset, BATCH, keep=frozenset(ids))
        # In float64, as the network was shown them.
        for image_id, image in zip(names, batch.astype(np.float64), strict=True)
    }
    x = np.stack([found[image_id] for image_id in ids]) if ids else np.empty((0, 1, 1, 1))
    return dict(zip(ROWS, (x, *arrays.parts(x, radius)), strict=True))


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
            return no_data(f"{heading}\n{facts.splitlines()[0]}")
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
        head(figure, f"{heading}\n{facts}")
        return finish(figure)


def _percent(share: float) -> str:
    """Return a probability in percent; what is not all is not called so."""
    return "> 99%" if 0.995 <= share < 1 else f"{100 * share:.0f}%"


# Parts of a figure -------------------------------------------------------------------------------


def bare(axes: Axes) -> None:
    """Take ticks, grid and frame away."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def no_data(text: str) -> Figure:
    """Return an empty panel below a text."""
    figure = Figure(figsize=(COLUMN, 2), dpi=DPI, layout="constrained")
    bare(figure.subplots())
    head(figure, text)
    return finish(figure)


def head(figure: Figure, text: str) -> None:
    """Put a text above a figure, in lines that fit."""
    figure.suptitle(wrapped(text, figure.get_figwidth() - 0.1), fontsize=POINTS)
