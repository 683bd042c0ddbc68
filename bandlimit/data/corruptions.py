"""Corruptions of images as CIFAR-10-C defines them, at five severities.

Source: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (2019), with the constants of the authors' program `make_cifar_c.py`, which are for
images 32 pixels wide; those of ImageNet-C, which packages offer, are far too strong for them.
Images of one channel, which the authors have none of, are treated as one channel of theirs.

Values are not rounded to 8 bits, but where a corruption itself is one of 8 bits (jpeg, pixelate).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bandlimit import keys

Floats = NDArray[np.float64]

# Severities 1 to 5, from `make_cifar_c.py`.
CONSTANTS: Mapping[str, tuple[Any, ...]] = {
    # Standard deviation; Poisson's rate at 1; share of values.
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    # Radius of the disk, deviation of the Gaussian that smooths it.
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    # Strength, decay of the detail.
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    # Quality.
    "jpeg": (80, 65, 58, 50, 40),
    # Share of the sides that are left.
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
}
"""What each corruption is told at each severity."""

CORRUPTIONS: tuple[str, ...] = tuple(CONSTANTS)


def corrupt(
    image: Floats, name: str, *, severity: int, seed: int, dataset: str, image_id: str
) -> Floats:
    """Return a corrupted image.

    What is random is drawn for the image and the corruption; the same numbers at each severity.

    Args:
        image: C x H x W, in [0, 1]; of 8 bits where the corruption is.
        name: among `CORRUPTIONS`.
        severity: 1 to 5.
        seed: the configured one.
        dataset: name of the dataset.
        image_id: of the image in it.

    Returns:
        C x H x W, float64, in [0, 1].

    Raises:
        ValueError: there is no such corruption or severity.
    """
    if name not in CONSTANTS or severity not in range(1, 6):
        raise ValueError(
            f"corruptions are {', '.join(CORRUPTIONS)} at severities 1 to 5, got {name!r} at "
            f"{severity}"
        )
    draws = np.random.default_rng(keys.derive(seed, "corruption", dataset, image_id, name))
    x = np.asarray(image, dtype=np.float64)
    found: Floats = np.clip(KINDS[name](x, CONSTANTS[name][severity - 1], draws), 0, 1)
    return found


def _gaussian_noise(x: Floats, deviation: float, draws: np.random.Generator) -> Floats:
    return x + draws.normal(scale=deviation, size=x.shape)


def _shot_noise(x: Floats, rate: float, draws: np.random.Generator) -> Floats:
    return draws.poisson(x * rate) / rate


def _impulse_noise(x: Floats, share: float, draws: np.random.Generator) -> Floats:
    hit, white = draws.random(x.shape) < share, draws.random(x.shape) < 0.5
    return np.where(hit, white.astype(np.float64), x)


def _defocus_blur(x: Floats, constants: tuple[float, float], draws: Any) -> Floats:
    kernel = disk(*constants)
    # Borders as OpenCV has them: mirrored about the outermost pixel.
    return np.stack([ndimage.correlate(channel, kernel, mode="mirror") for channel in x])


def disk(radius: float, deviation: float) -> Floats:
    """Return the kernel of an image out of focus: a disk of pixels, smoothed over 3 x 3 pixels.

    Args:
        radius: of the disk in pixels, at most 8.
        deviation: of the Gaussian that smooths its border.
    """
    places = np.arange(-8, 9)
    found = (places[:, None] ** 2 + places[None, :] ** 2 <= radius**2).astype(np.float64)
    found /= found.sum()
    gaussian = np.exp(-(np.arange(-1, 2) ** 2) / (2 * deviation**2))
    gaussian /= gaussian.sum()
    for axis in (0, 1):
        found = ndimage.correlate1d(found, gaussian, axis=axis, mode="mirror")
    return found


def _gaussian_blur(x: Floats, deviation: float, draws: Any) -> Floats:
    blurred: Floats = ndimage.gaussian_filter(x, (0, deviation, deviation), mode="nearest")
    return blurred


def _fog(x: Floats, constants: tuple[float, float], draws: np.random.Generator) -> Floats:
    strength, decay = constants
    height, width = x.shape[1:]
    layer = plasma(1 << (max(height, width) - 1).bit_length(), decay, draws)[:height, :width]
    brightest = x.max()
    return (x + strength * layer) * brightest / (brightest + strength)


def plasma(side: int, decay: float, draws: np.random.Generator) -> Floats:
    """Return a cloudy height map by the diamond-square method on a torus, side x side, in [0, 1].

    Args:
        side: a power of two, at least 2.
        decay: by which random detail shrinks each time that the grid is halved.
        draws: where it comes from.
    """
    found = np.zeros((side, side))
    step, wobble = side, 100.0

    def mean(total: Floats) -> Floats:
        # The authors' own: an amplitude of wobble squared, so that detail shrinks by decay squared.
        return total / 4 + wobble * draws.uniform(-wobble, wobble, total.shape)

    while step >= 2:
        half = step // 2
        corners = found[::step, ::step]
        rows = corners + np.roll(corners, -1, axis=0)
        found[half::step, half::step] = mean(rows + np.roll(rows, -1, axis=1))
        centres = found[half::step, half::step]
        across = centres + np.roll(centres, 1, axis=0) + corners + np.roll(corners, -1, axis=1)
        found[::step, half::step] = mean(across)
        down = centres + np.roll(centres, 1, axis=1) + corners + np.roll(corners, -1, axis=0)
        found[half::step, ::step] = mean(down)
        step, wobble = half, wobble / decay
    found -= found.min()
    return found / found.max()


def _brightness(x: Floats, more: float, draws: Any) -> Floats:
    # The value of hue, saturation and value is the greatest channel; the others keep their ratio.
    value = x.max(axis=0)
    raised = np.clip(value + more, 0, 1)
    return np.where(value > 0, x * (raised / np.where(value > 0, value, 1)), raised)


def _contrast(x: Floats, factor: float, draws: Any) -> Floats:
    means = x.mean(axis=(1, 2), keepdims=True)
    return (x - means) * factor + means


def _jpeg(x: Floats, quality: int, draws: Any) -> Floats:
    def saved(picture: Image.Image) -> Image.Image:
        memory = io.BytesIO()
        picture.save(memory, "JPEG", quality=quality)
        return Image.open(memory)

    return _by_picture(x, saved)


def _pixelate(x: Floats, share: float, draws: Any) -> Floats:
    def coarse(picture: Image.Image) -> Image.Image:
        fewer = [int(side * share) for side in picture.size]
        box = Image.Resampling.BOX
        return picture.resize((fewer[0], fewer[1]), box).resize(picture.size, box)

    return _by_picture(x, coarse)


def _by_picture(x: Floats, change: Callable[[Image.Image], Image.Image]) -> Floats:
    """Return what Pillow makes of an image in 8 bits; channels that are no colours one by one."""
    pixels = np.rint(255 * x).astype(np.uint8)
    if len(x) == 3:
        changed = change(Image.fromarray(np.moveaxis(pixels, 0, -1).copy()))
        return np.moveaxis(np.asarray(changed, dtype=np.float64), -1, 0) / 255
    each = [change(Image.fromarray(channel)) for channel in pixels]
    return np.stack([np.asarray(one, dtype=np.float64) for one in each]) / 255


KINDS: Mapping[str, Callable[[Floats, Any, Any], Floats]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "defocus_blur": _defocus_blur,
    "gaussian_blur": _gaussian_blur,
    "fog": _fog,
    "brightness": _brightness,
    "contrast": _contrast,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
}
"""What makes a corrupted image of an image, constants and draws; not yet clipped."""
