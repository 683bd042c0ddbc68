"""Sets of frequencies, as masks of centred spectra."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def disk(sides: Sequence[int], radius: float) -> Tensor:
    """Return the frequencies at Euclidean distance at most `radius` from frequency 0, H x W, bool.

    Args:
        sides: H and W.
        radius: in frequencies, that is in periods per side.
    """
    down, right = (torch.arange(side) - side // 2 for side in sides)
    return down[:, None] ** 2 + right[None, :] ** 2 <= radius**2


def beyond(sides: Sequence[int], limit: float) -> Tensor:
    """Return the frequencies of more than `limit` periods per pixel, H x W, bool.

    Unlike a disk it means the same for images of all sizes; 0.5 is the highest along an axis.
    """
    down, right = (
        torch.fft.fftshift(torch.fft.fftfreq(side, dtype=torch.float64)) for side in sides
    )
    return torch.hypot(*torch.broadcast_tensors(down[:, None], right[None, :])) > limit
