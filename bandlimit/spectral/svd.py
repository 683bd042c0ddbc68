"""The parts of images that their leading singular values span, and the rest.

A control for filters of frequencies: it too keeps the most of the energy in few numbers, without a
Fourier transform.
"""

from __future__ import annotations

import torch
from torch import Tensor


def svd_split(x: Tensor, energy: float | Tensor, *, nearest: bool = False) -> tuple[Tensor, Tensor]:
    """Return what leading and what trailing singular values give, channel by channel.

    Leading are the fewest of the largest that hold at least the wanted share of the channel's
    energy, the sum of squared singular values, or as many as come nearest to it. The fewest that
    hold it hold more, which matters where they are compared with a part of that very energy.

    Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
    Networks", section 8, where truncated SVD takes the place of the Fourier transform.

    Args:
        x: ... x H x W, real.
        energy: share of the energy, in [0, 1]; a tensor asks another of each channel, and is
            broadcast against the shape of x without its last two axes.
        nearest: whether to keep the number of singular values whose energy is nearest to the
            share, more or less; of two equally near ones the smaller.

    Returns:
        Both of the shape and type of x; they add up to it.

    Raises:
        ValueError: a share is not in [0, 1].
    """
    share = torch.as_tensor(energy, dtype=x.dtype, device=x.device)
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise ValueError(f"a share of energy is in [0, 1], got {energy}")
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    squared = values.square()
    held = squared.cumsum(dim=-1)
    wanted = share[..., None] * held[..., -1:]
    # A value is kept if too little is held without it, or without half of it: the sums with and
    # without it are equally far from their middle.
    kept = values * (held - squared * (0.5 if nearest else 1.0) < wanted)
    leading = (left * kept[..., None, :]) @ right
    return leading, x - leading
