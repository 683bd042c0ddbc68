"""The definitions of spectral measures in plain numpy, on the whole plane."""

from __future__ import annotations

import math

import numpy as np
import torch

FLOOR = 1e-8

SIDES = [(32, 32), (28, 28), (31, 31), (12, 9), (9, 12)]
"""Even and odd, square and rectangular."""


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return pixels in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def perturbations(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Return Gaussian noise of standard deviation 0.03."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=dtype) * 0.03


def spectrum(x: torch.Tensor) -> np.ndarray:
    return np.fft.fftshift(np.fft.fft2(x.double().numpy(), axes=(-2, -1)), axes=(-2, -1))


def squared_distances(sides: tuple[int, int]) -> np.ndarray:
    rows, columns = (np.arange(side) - side // 2 for side in sides)
    return rows[:, None] ** 2 + columns[None, :] ** 2


def disk(sides: tuple[int, int], radius: float, *, strict: bool = False) -> np.ndarray:
    inside = np.zeros(sides, dtype=bool)
    for i in range(sides[0]):
        for j in range(sides[1]):
            distance = math.sqrt((i - sides[0] // 2) ** 2 + (j - sides[1] // 2) ** 2)
            inside[i, j] = distance < radius if strict else distance <= radius
    return inside


def by_shell(values: np.ndarray) -> np.ndarray:
    """Return the sums over channels and the bins of each shell, N x S, of N x C x H x W."""
    squared = squared_distances(values.shape[-2:])
    return np.stack(
        [values[:, :, squared == d2].sum(axis=(1, 2)) for d2 in np.unique(squared)], axis=1
    )


def shell_means(values: np.ndarray) -> np.ndarray:
    return by_shell(values) / by_shell(np.ones_like(values))


def log_difference(x: torch.Tensor, d: torch.Tensor) -> np.ndarray:
    after, before = (np.log10(np.abs(spectrum(of)) + FLOOR) for of in (x + d, x))
    return 20 * np.abs(after - before)


def relative(x: torch.Tensor, d: torch.Tensor) -> np.ndarray:
    return np.abs(spectrum(d)) / (np.abs(spectrum(x)) + FLOOR)


def ring_means(values: np.ndarray) -> np.ndarray:
    """Return the means over channels and the bins whose distance rounds to k, N x (K + 1)."""
    rings = np.round(np.sqrt(squared_distances(values.shape[-2:])))
    return np.stack(
        [values[:, :, rings == k].mean(axis=(1, 2)) for k in range(int(rings.max()) + 1)], axis=1
    )
