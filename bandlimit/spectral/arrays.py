"""Spectra of arrays that are drawn, in NumPy: who draws need not start torch.

What is recorded is measured by `bandlimit.spectral.fourier`, whose conventions hold here too:
spectra are centred, over the last two axes, without a factor. Values agree but for the last digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bandlimit.spectral.shells import shells, within

Floats = NDArray[np.float64]

AXES = (-2, -1)


def magnitudes(x: Floats) -> Floats:
    """Return the magnitudes of the centred spectrum of a real signal, ... x H x W."""
    found: Floats = np.abs(np.fft.fftshift(np.fft.fft2(x, axes=AXES), axes=AXES))
    return found


def frequencies(sides: Sequence[int]) -> Floats:
    """Return the frequency at each place of a centred spectrum, H x W, in cycles per pixel.

    What lies above a limit is what `bandlimit.spectral.masks.beyond` keeps.

    Args:
        sides: height and width.
    """
    down, right = (np.fft.fftshift(np.fft.fftfreq(side)) for side in sides)
    return np.asarray(np.hypot(down[:, None], right[None, :]))


def parts(x: Floats, radius: float) -> tuple[Floats, Floats]:
    """Return the low-frequency and the high-frequency part of a signal; they add up to it.

    Neither is clipped, as of `bandlimit.spectral.fourier.split`.

    Args:
        x: the signal, ... x H x W, real.
        radius: of the disk of low frequencies, its border among them, in periods per side.
    """
    sides = (x.shape[-2], x.shape[-1])
    of = shells(sides)
    passed = of.index < within(of, radius)
    low: Floats = np.fft.irfft2(np.fft.rfft2(x, axes=AXES) * passed, s=sides, axes=AXES)
    return low, x - low
