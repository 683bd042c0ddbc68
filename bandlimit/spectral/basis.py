"""Waves of one frequency each, the real basis of images that Fourier heat maps perturb them by.

Source: "A Fourier Perspective on Model Robustness in Computer Vision".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bandlimit.spectral import masks


def basis(sides: Sequence[int], i: int, j: int) -> Tensor:
    """Return the real image of unit L2 norm whose spectrum is one pair of opposite frequencies.

    Its spectrum has a phase of pi / 4 at (i, j) and of -pi / 4 at its opposite, or is real where
    (i, j) is its own opposite. A heat map adds it to each channel, times the norm wanted in that
    channel and a random sign.

    Args:
        sides: H and W.
        i: frequency down, the offset from frequency 0, from -(H // 2) to (H - 1) // 2.
        j: frequency to the right, from -(W // 2) to (W - 1) // 2.

    Returns:
        H x W, float64.

    Raises:
        ValueError: there is no such frequency.
    """
    return basis_vectors(sides, [(i, j)])[0]


def basis_vectors(sides: Sequence[int], pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Return the images of several frequencies, P x H x W, float64; see `basis`.

    Raises:
        ValueError: there is no such frequency.
    """
    height, width = sides
    for i, j in pairs:
        if not (
            -(height // 2) <= i <= (height - 1) // 2 and -(width // 2) <= j <= (width - 1) // 2
        ):
            raise ValueError(
                f"a spectrum of {tuple(sides)} has offsets from {(-(height // 2), -(width // 2))} "
                f"to {((height - 1) // 2, (width - 1) // 2)}, got {(i, j)}"
            )
    down, right = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T[..., None]
    rows, columns = down * torch.arange(height) * width, right * torch.arange(width) * height
    # Reduced to one period as whole numbers, so that large arguments lose no digits.
    steps = (rows[:, :, None] + columns[:, None, :]) % (height * width)
    phase = steps.double() * (2 * math.pi / (height * width)) + math.pi / 4
    # A frequency that is its own opposite has the same norm as a pair: the phase leaves its wave at
    # cos(pi / 4) everywhere, and the mean square of a cosine is 1 / 2 as well.
    return torch.cos(phase) * math.sqrt(2 / (height * width))


def half_plane(sides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the frequencies without their opposites, as offsets from frequency 0.

    Of each pair it has the one further down, or further right in the same row; a frequency that is
    its own opposite comes once.
    """
    height, width = sides
    rows, columns = (offset.tolist() for offset in masks.offsets(sides))

    def opposite(i: int, j: int) -> tuple[int, int]:
        # The highest of an even side is its own.
        return (i if 2 * i == -height else -i), (j if 2 * j == -width else -j)

    return [(i, j) for i in rows for j in columns if (i, j) >= opposite(i, j)]
