"""Images in place of which only their low or their high frequencies are left.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", eq. 1, and the scale of its released code; the square is that of "A Fourier Perspective
on Model Robustness in Computer Vision", Figure 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bandlimit.spectral import fourier, masks

PARTS: tuple[str, ...] = ("low", "high")
SCALES: tuple[str, ...] = ("maximum", "none")


def component(
    images: Tensor,
    *,
    part: str,
    radius: float | None = None,
    strict: bool = False,
    scale: str = "maximum",
    bandwidth: int | None = None,
) -> Tensor:
    """Return the low-frequency or the high-frequency component of images, each made by itself.

    Nothing is clipped: a low component leaves [0, 1], and a high one has negative pixels. Without
    a scale both add up to the image.

    Args:
        images: N x C x H x W, floating, in [0, 1].
        part: low, what lies in the disk or in the square of frequencies, or high, the rest.
        radius: of the disk, in frequencies, at least 0; None where there is a bandwidth.
        strict: whether the border of the disk is left out of it, as in the released code.
        scale: maximum divides each image by its own maximum over all channels and pixels, as the
            released code does for "standard pixel scale"; an image whose maximum is not above 0 is
            left as it is. none leaves all.
        bandwidth: side of the square, in frequencies, as of `masks.square`; None where there is a
            radius.

    Returns:
        Of the shape and type of the images, on their device. On the CPU an image has the same bits
        whatever others are given with it.

    Raises:
        ValueError: images are of another kind, or an argument is not among the allowed ones.
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"images are N x C x H x W, floating, got {tuple(images.shape)} of {images.dtype}"
        )
    if part not in PARTS or scale not in SCALES or (radius is None) == (bandwidth is None):
        raise ValueError(
            f"a component has a part among {PARTS}, a scale among {SCALES} and one of radius and "
            f"bandwidth, got {part!r}, {scale!r}, {radius} and {bandwidth}"
        )
    if bandwidth is not None:
        low = masks.square(images.shape[2:], bandwidth)
    elif radius is not None and radius >= 0:
        low = masks.disk(images.shape[2:], radius, strict=strict)
    else:
        raise ValueError(
            f"a component has a radius of at least 0, got {part!r}, {scale!r} and {radius}"
        )
    number = PARTS.index(part)
    # One by one and from memory of its own: a transform of several rounds otherwise.
    found = [fourier.split(image.clone(), low)[number] for image in images]
    if not found:
        return torch.empty_like(images)
    components = torch.stack(found)
    if scale == "none":
        return components
    largest = components.amax(dim=(1, 2, 3), keepdim=True)
    return components / torch.where(largest > 0, largest, torch.ones_like(largest))
