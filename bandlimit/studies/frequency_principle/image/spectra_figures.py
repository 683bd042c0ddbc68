"""Figures of mean spectra: of corruptions, and of perturbations that fool a network.

Image frequency, in cycles per image, 0 in the centre; rows run downwards, as in an image. Source:
"A Fourier Perspective on Model Robustness in Computer Vision", Figures 2 and 7 (a, b).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from bandlimit.data.corruptions import corrupt
from bandlimit.data.stream import Arrays
from bandlimit.plots.style import DPI, PAGE, POINTS, Floats, finish, label_left, style, wrapped
from bandlimit.spectral.arrays import magnitudes

MAP = "viridis"
"""Colour map of magnitudes: even to the eye, and safe for colour-blind."""

COLUMNS = 4


def of_corruptions(
    batches: Iterable[Arrays],
    *,
    corruptions: Sequence[str],
    severity: int,
    seed: int,
    dataset: str,
) -> dict[str, Floats]:
    """Return mean magnitudes over images and channels, centred, H x W, by name.

    Names are 'images', |F(X)| of the images, and of each corruption |F(C(X) - X)|.

    Args:
        batches: image ids, labels, images.
        corruptions: names of `bandlimit.data.corruptions`.
        severity: of them.
        seed: the configured one, of their draws.
        dataset: name of the dataset, of their draws.
    """
    sums: dict[str, Floats] = {}
    count = 0
    for image_ids, _, images in batches:
        x = images.astype(np.float64)
        count += len(x)
        for name in ("images", *corruptions):
            change = x
            if name != "images":
                made = [
                    corrupt(
                        image,
                        name,
                        severity=severity,
                        seed=seed,
                        dataset=dataset,
                        image_id=image_id,
                    )
                    for image_id, image in zip(image_ids, x, strict=True)
                ]
                change = np.stack(made) - x
            sums[name] = sums.get(name, 0.0) + magnitudes(change).mean(axis=1).sum(axis=0)
    return {name: total / count for name, total in sums.items()}


def of_fooled(
    changes: Floats, labels: Sequence[int], after: Sequence[int]
) -> tuple[Floats | None, int]:
    """Return the mean magnitudes of perturbations of misclassified images, and their number.

    Those that the network gets wrong after the perturbation; None where there are none.

    Args:
        changes: perturbations, N x C x H x W.
        labels: of the images, N.
        after: what the network sees in the perturbed images, N.
    """
    wrong = np.array(after) != np.array(labels)
    if not wrong.any():
        return None, 0
    return magnitudes(changes[wrong]).mean(axis=(0, 1)), int(wrong.sum())


def draw(maps: Mapping[str, Floats], label: str, *, shared: bool) -> Figure:
    """Draw mean magnitudes side by side, on logarithmic colours.

    Args:
        maps: by the title of their panel, H x W each, centred.
        label: what colours show.
        shared: whether all have one colour bar; else each its own.
    """
    columns = min(COLUMNS, len(maps))
    rows = -(-len(maps) // columns)
    width = PAGE * max(columns, 2.4) / COLUMNS
    every = np.concatenate([values.ravel() for values in maps.values()])
    with style():
        figure = Figure(figsize=(width, 0.3 + 1.6 * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        used = list(grid.ravel()[: len(maps)])
        for axes in grid.ravel()[len(maps) :]:
            axes.remove()
        for place, (axes, (title, values)) in enumerate(zip(used, maps.items(), strict=True)):
            height, wide = values.shape
            among = every if shared else values.ravel()
            low, high = (float(value) for value in np.percentile(among, [1, 100]))
            # Magnitudes below a ten-thousandth of the greatest are nothing but rounding.
            low = max(low, high / 1e4, 1e-12)
            shown = axes.imshow(
                np.maximum(values, low),
                cmap=MAP,
                norm=LogNorm(low, max(high, 1.01 * low)),
                interpolation="nearest",
                extent=(
                    -(wide // 2) - 0.5,
                    -(wide // 2) - 0.5 + wide,
                    -(height // 2) - 0.5 + height,
                    -(height // 2) - 0.5,
                ),
            )
            axes.grid(visible=False)
            axes.set_title(wrapped(title, width / columns))
            for axis, side in ((axes.xaxis, wide), (axes.yaxis, height)):
                reach = 10 * (side // 2 // 10) or side // 4
                axis.set_major_locator(FixedLocator([-reach, 0, reach]))
            if place + columns >= len(maps):
                axes.set_xlabel("cycles per image")
            if not shared or place + 1 == len(maps):
                # As high as its panel; numbers at the ends alone, where they fit.
                bar = figure.colorbar(shown, cax=axes.inset_axes((1.05, 0, 0.07, 1)))
                ends = [low, float(np.sqrt(low * high)), high]
                bar.ax.yaxis.set_major_locator(FixedLocator(ends))
                bar.ax.yaxis.set_major_formatter(FixedFormatter([f"{end:.3g}" for end in ends]))
                bar.ax.yaxis.set_minor_locator(NullLocator())
        label_left(used, "cycles per image")
        figure.suptitle(label, fontsize=POINTS)
        return finish(figure)
