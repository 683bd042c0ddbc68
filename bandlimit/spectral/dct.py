"""The discrete cosine transform over the last two axes of images, by products of matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bandlimit.spectral.fourier import FLOOR


def cosines(side: int) -> Tensor:
    """Return the orthonormal DCT-II of a side as a matrix, side x side, float64."""
    places = torch.arange(side)
    # Reduced to one period as whole numbers, so that large arguments lose no digits.
    steps = places[:, None] * (2 * places[None, :] + 1) % (4 * side)
    matrix = torch.cos(steps.double() * (math.pi / (2 * side))) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct(x: Tensor) -> Tensor:
    """Return the coefficients of the orthonormal DCT-II of a signal, ... x H x W.

    The transform is linear and keeps the L2 norm.
    """
    height, width = x.shape[-2:]
    # A plain product from the left would be one of small matrices for each channel, and slower.
    return torch.einsum("kh,...hw->...kw", cosines(height).to(x), x @ cosines(width).T.to(x))


def rct(x: Tensor, d: Tensor) -> Tensor:
    """Return the relative change of DCT coefficients, N, the mean over channels and coefficients.

    It is the mean of |DCT(x + d) - DCT(x)| / (|DCT(x)| + 1e-8), of "A frequency domain analysis of
    gradient-based adversarial examples". Few coefficients near 0 can make up most of it.

    Args:
        x: images, N x C x H x W.
        d: perturbations, of the shape and type of x.
    """
    return (dct(d) / (dct(x).abs() + FLOOR)).abs().flatten(1).mean(dim=1)
