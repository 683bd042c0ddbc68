"""Kernels of the first layer as pictures.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", Figure 7.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bandlimit.models.kernels import roughness, smoothed
from bandlimit.plots.style import DPI, PAGE, Floats, finish, style
from bandlimit.studies.high_frequency.kernel_rates import kernels
from bandlimit.studies.high_frequency.pictures import bare, no_data

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
            return no_data("kernels of the first layer")
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
            bare(axes)
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
