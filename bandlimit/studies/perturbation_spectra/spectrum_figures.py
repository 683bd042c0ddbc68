"""Figures of the study that are pictures: images, their perturbations, and spectra.

Sources: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", figures 1, 3 to 5,
7 to 10 and 12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.plots.style import COLUMN, DARK_GREY, DPI, PAGE, finish, style
from bandlimit.spectral import fourier
from bandlimit.spectral.shells import ring_means, shells

Floats = NDArray[np.float64]

TITLES = {
    "magnitudes": "mean |F(δ)|",
    "log_magnitudes": "mean log10 |F(δ)|",
    "log_difference": "mean log-spectrum difference",
}
UNITS = {"magnitudes": "|F(δ)|", "log_magnitudes": "log10 |F(δ)|", "log_difference": "decibels"}


@dataclass(frozen=True)
class Perturbed:
    """Images and what a perturbation adds to them, in the order of the records.

    Attributes:
        ids: of the images.
        images: N x C x H x W, in [0, 1].
        changes: of that shape, the perturbations.
    """

    ids: Sequence[str]
    images: Floats
    changes: Floats


def read(dataset: str, paths: Sequence[str], perturbation: str, count: int) -> Perturbed:
    """Return the first images that a perturbation was made of."""
    ids: list[str] = []
    found: list[Floats] = []
    for path in paths:
        for table in store.batches(path, 256, ["perturbation", "image_id", "image"]):
            names = table["perturbation"].to_pylist()
            images = store.images_of(table)
            for row, image_id in enumerate(table["image_id"].to_pylist()):
                if names[row] == perturbation and len(ids) < count:
                    ids.append(image_id)
                    found.append(images[row].astype(np.float64))
    known, _, clean = stream.load(dataset)
    place = {image_id: row for row, image_id in enumerate(known)}
    x = clean[[place[image_id] for image_id in ids]].numpy().astype(np.float64)
    return Perturbed(ids, x, np.stack(found) - x)


def _magnitudes(x: Floats) -> Floats:
    """Return the centred magnitudes of an image, H x W, mean over its channels."""
    found: Floats = fourier.spectrum(torch.from_numpy(x)).abs().mean(dim=0).numpy()
    return found


def _decibels(x: Floats) -> Floats:
    """Return the centred log-spectrum of an image, H x W, in decibels, mean over its channels."""
    magnitudes = fourier.spectrum(torch.from_numpy(x)).abs()
    found: Floats = (20 * torch.log10(magnitudes + 1e-8)).mean(dim=0).numpy()
    return found


def _difference(x: Floats, d: Floats) -> Floats:
    """Return the log-spectrum difference of an image and its example, H x W, in decibels."""
    both = [fourier.spectrum(torch.from_numpy(part)).abs() + 1e-8 for part in (x + d, x)]
    found: Floats = (20 * (both[0].log10() - both[1].log10()).abs()).mean(dim=0).numpy()
    return found


def _picture(axes: Axes, image: Floats, *, signed: bool = False) -> None:
    """Show an image; a perturbation in grey at 0, scaled to its own greatest value."""
    if signed:
        image = 0.5 + 0.5 * image / max(float(np.abs(image).max()), 1e-12)
    shown = np.clip(np.moveaxis(image, 0, -1), 0, 1)
    if shown.shape[2] == 1:
        axes.imshow(shown[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(shown, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def _heat(axes: Axes, values: Floats, *, bare: bool = False, **limits: Any) -> Any:
    """Show a centred map of frequencies; axes are in periods per side."""
    height, width = values.shape
    extent = (
        -(width // 2) - 0.5,
        width - width // 2 - 0.5,
        height - height // 2 - 0.5,
        -(height // 2) - 0.5,
    )
    shown = axes.imshow(values, cmap="viridis", extent=extent, interpolation="nearest", **limits)
    axes.grid(visible=False)
    if bare:
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        reach = (min(height, width) // 2) // 5 * 5 or 1
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator([-reach, 0, reach]))
    return shown


def _scale(values: Floats, kind: str) -> dict[str, Any]:
    """Return a logarithmic scale for magnitudes, since frequency 0 outshines all others."""
    if kind != "magnitudes" or not (values > 0).any():
        return {}
    # A handful of bins may be nearly 0.
    low = max(float(np.quantile(values[values > 0], 0.02)), float(values.max()) / 1000)
    return {"norm": LogNorm(vmin=low, vmax=float(values.max()), clip=True)}


def _bar(figure: Figure, shown: Any, axes: Axes, label: str) -> None:
    bar = figure.colorbar(shown, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label(label)
    if not isinstance(shown.norm, LogNorm):
        bar.locator = MaxNLocator(4)
    bar.outline.set_visible(False)
    bar.update_ticks()


def draw_spectrum(found: Perturbed, place: int, name: str) -> Figure:
    """Draw the spectrum of one perturbation, and the log-spectrum difference (figure 1)."""
    x, d = found.images[place], found.changes[place]
    with style():
        figure = Figure(figsize=(PAGE, 2.7), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        magnitudes = _magnitudes(d)
        shown = _heat(left, magnitudes, **_scale(magnitudes, "magnitudes"))
        _bar(figure, shown, left, UNITS["magnitudes"])
        _bar(figure, _heat(right, _difference(x, d)), right, UNITS["log_difference"])
        left.set_title("|F(δ)|")
        right.set_title("log-spectrum difference")
        for axes in (left, right):
            axes.set_xlabel("horizontal frequency, periods per side")
        left.set_ylabel("vertical frequency")
        figure.suptitle(f"image {found.ids[place]}, {name}", fontsize=8)
        return finish(figure)


def draw_gallery(found: Perturbed, name: str) -> Figure:
    """Draw images, and below each the spectrum of its perturbation (figures 3 and 7)."""
    count = len(found.ids)
    with style():
        figure = Figure(figsize=(PAGE, 1.9), dpi=DPI, layout="constrained")
        grid = figure.subplots(2, max(1, count), squeeze=False)
        spectra = [_magnitudes(d) for d in found.changes]
        scale = _scale(np.stack(spectra), "magnitudes") if spectra else {}
        shown = None
        for column in range(count):
            _picture(grid[0, column], found.images[column])
            shown = _heat(grid[1, column], spectra[column], bare=True, **scale)
        if shown is not None:
            bar = figure.colorbar(shown, ax=grid[1, :].tolist(), pad=0.01)
            bar.set_label("|F(δ)|")
            bar.outline.set_visible(False)
        grid[0, 0].set_ylabel("image")
        grid[1, 0].set_ylabel("|F(δ)|")
        figure.suptitle(f"{name}; frequency 0 in the middle", fontsize=8)
        return finish(figure)


def draw_image(found: Perturbed, place: int, name: str) -> Figure:
    """Draw an image, its example and the perturbation, and their spectra (figure 5)."""
    x, d = found.images[place], found.changes[place]
    with style():
        figure = Figure(figsize=(PAGE, 4.4), dpi=DPI, layout="constrained")
        grid = figure.subplots(2, 3)
        for axes, image, title in zip(
            grid[0], (x, x + d, d), ("x, the image", "x + δ", "δ, scaled"), strict=True
        ):
            _picture(axes, image, signed=title.startswith("δ"))
            axes.set_title(title)
        logs = [_decibels(x), _decibels(x + d)]
        low, high = min(float(s.min()) for s in logs), max(float(s.max()) for s in logs)
        for axes, values, title in zip(
            grid[1], logs, ("log-spectrum of x", "log-spectrum of x + δ"), strict=False
        ):
            _bar(figure, _heat(axes, values, vmin=low, vmax=high), axes, "decibels")
            axes.set_title(title)
        _bar(figure, _heat(grid[1, 2], _difference(x, d)), grid[1, 2], "decibels")
        grid[1, 2].set_title("log-spectrum difference")
        figure.suptitle(
            f"image {found.ids[place]}, {name}; frequencies in periods per side", fontsize=8
        )
        return finish(figure)


def draw_log_spectra(found: Perturbed, name: str) -> Figure:
    """Draw the log-spectra of several images and examples, and their differences (figure 9)."""
    count = len(found.ids)
    with style():
        figure = Figure(figsize=(PAGE, 1.55 * max(1, count)), dpi=DPI, layout="constrained")
        grid = figure.subplots(max(1, count), 4, squeeze=False)
        for row in range(count):
            x, d = found.images[row], found.changes[row]
            _picture(grid[row, 0], x)
            logs = [_decibels(x), _decibels(x + d)]
            low, high = min(float(s.min()) for s in logs), max(float(s.max()) for s in logs)
            for column, values in enumerate(logs, 1):
                shown = _heat(grid[row, column], values, bare=True, vmin=low, vmax=high)
                _bar(figure, shown, grid[row, column], "dB")
            shown = _heat(grid[row, 3], _difference(x, d), bare=True, vmin=0)
            _bar(figure, shown, grid[row, 3], "dB")
        for axes, title in zip(
            grid[0],
            ("image", "log-spectrum of x", "log-spectrum of x + δ", "difference"),
            strict=True,
        ):
            axes.set_title(title)
        figure.suptitle(f"{name}; frequency 0 in the middle", fontsize=8)
        return finish(figure)


def draw_maps(row: Mapping[str, Any], kinds: Sequence[str], name: str) -> Figure:
    """Draw mean spectra as maps, and below each its mean by distance (figures 4, 8, 10 and 12).

    Args:
        row: of the mean maps of one perturbation: images, height, width, and the maps.
        kinds: of `TITLES`.
        name: of the network and the perturbation.
    """
    sides = int(row["height"]), int(row["width"])
    of = shells(sides)
    with style():
        width = COLUMN if len(kinds) == 1 else PAGE
        figure = Figure(figsize=(width, 4.3), dpi=DPI, layout="constrained")
        grid = figure.subplots(2, len(kinds), squeeze=False, height_ratios=[1.5, 1])
        for column, kind in enumerate(kinds):
            values = np.asarray(row[kind], dtype=np.float64).reshape(sides)
            top, below = grid[:, column]
            _bar(figure, _heat(top, values, **_scale(values, kind)), top, UNITS[kind])
            top.set_title(TITLES[kind])
            top.set_xlabel("horizontal frequency, periods per side")
            top.set_ylabel("vertical frequency")
            profile = _profile(values, of)
            below.plot(np.arange(len(profile)), profile, marker="o", color="#0173b2")
            below.axhline(
                float(values.mean()), color=DARK_GREY, linestyle=(0, (4, 2)), linewidth=0.9
            )
            below.text(
                0.98, float(values.mean()), "mean of all", color=DARK_GREY, fontsize=6.5,
                ha="right", va="bottom", transform=below.get_yaxis_transform(),
            )  # fmt: skip
            below.set_xlabel("distance from frequency 0")
            below.set_ylabel(UNITS[kind])
        facts = f"N = {int(row['images'])} images"
        # A column is too narrow for one line.
        parts = (name, facts) if len(kinds) > 1 else (*name.replace(" (", "\n(").split("\n"), facts)
        figure.suptitle((", " if len(kinds) > 1 else "\n").join(parts), fontsize=8)
        return finish(figure)


def _profile(values: Floats, of: Any) -> Floats:
    """Return the means of a centred map by rounded distance from frequency 0."""
    height, width = values.shape
    half = np.roll(values, (-(height // 2), -(width // 2)), (0, 1))[:, : width // 2 + 1]
    sums = np.bincount(of.index.ravel(), (half * of.weights).ravel())
    return ring_means(sums / of.counts, of)
