"""Sets of frequencies, as masks of centred spectra, symmetric about frequency 0.

What passes a symmetric mask is real. An even side has one frequency without an opposite, the
highest, which is its own; frequency 0 lies at index n // 2 of each side n.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def disk(sides: Sequence[int], radius: float, *, strict: bool = False) -> Tensor:
    """Return the frequencies within a Euclidean distance of frequency 0, H x W, bool.

    "High-frequency Component Helps Explain the Generalization of Convolutional Neural Networks"
    has the border of the disk inside it in eq. 1, and outside it in its published program. They
    differ at radii that are distances, such as all whole ones.

    Args:
        sides: H and W.
        radius: in frequencies, that is in periods per side.
        strict: whether the border is left out: distance < radius in place of <=.
    """
    down, right = offsets(sides)
    # Correctly rounded, so that a radius such as sqrt(3) meets its border, as a square may not.
    distance = (down[:, None] ** 2 + right[None, :] ** 2).double().sqrt()
    return distance < radius if strict else distance <= radius


def square(sides: Sequence[int], side: int) -> Tensor:
    """Return the frequencies of the square of `side` x `side` bins around frequency 0, H x W, bool.

    It is the filter of bandwidth B of "A Fourier Perspective on Model Robustness in Computer
    Vision". An even number of bins has no middle, so it fits only where it takes up the whole side
    of the spectrum; such a square would pass a frequency without its opposite.

    Args:
        sides: H and W.
        side: B, from 1 to the shorter of the two; odd, unless it is equal to each even side.

    Raises:
        ValueError: it does not fit, or it cannot be symmetric about frequency 0.
    """
    if not 1 <= side <= min(sides):
        raise ValueError(
            f"a square in a spectrum of {tuple(sides)} has a side from 1 to {min(sides)}, "
            f"got {side}"
        )
    if side % 2 == 0 and any(side != whole for whole in sides):
        raise ValueError(
            f"a square of even side {side} is not symmetric about frequency 0 in a spectrum of "
            f"{tuple(sides)}; it must be odd, {side - 1} or {side + 1}"
        )
    down, right = (
        (-(side // 2) <= offset) & (offset <= (side - 1) // 2) for offset in offsets(sides)
    )
    return down[:, None] & right[None, :]


def beyond(sides: Sequence[int], limit: float) -> Tensor:
    """Return the frequencies of more than `limit` periods per pixel, H x W, bool.

    Unlike a disk it means the same for images of all sizes; 0.5 is the highest along an axis.
    """
    down, right = (
        torch.fft.fftshift(torch.fft.fftfreq(side, dtype=torch.float64)) for side in sides
    )
    return torch.hypot(*torch.broadcast_tensors(down[:, None], right[None, :])) > limit


def is_symmetric(mask: Tensor) -> bool:
    """Return whether a mask, H x W, has the same value at each frequency and at its opposite."""
    # The highest frequency of an even side comes first in a centred mask; without it, the opposite
    # is the mirror image.
    for axis, side in enumerate(mask.shape):
        if side % 2 == 0:
            mask = torch.cat([mask, mask.narrow(axis, 0, 1)], dim=axis)
    return torch.equal(mask, mask.flip(0, 1))


def offsets(sides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return how far rows and columns of a centred spectrum are from frequency 0, H and W."""
    down, right = (torch.arange(side) - side // 2 for side in sides)
    return down, right
