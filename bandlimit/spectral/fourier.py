"""The discrete Fourier transform over the last two axes of images, on a CPU or a card.

Image frequency, over the positions of pixels; it says nothing of the frequencies of the function
that a network computes. Spectra are centred: frequency 0 lies at index n // 2 of each side n.

Source: "A frequency domain analysis of gradient-based adversarial examples", section 3; "High
Frequency Component Helps Explain the Generalization of Convolutional Neural Networks", eq. 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

AXES = (-2, -1)
"""Height and width; images of a batch, and their channels, are transformed apart."""


def spectrum(x: Tensor) -> Tensor:
    """Return the centred spectrum of a real signal, ... x H x W, complex."""
    return torch.fft.fftshift(torch.fft.fft2(x, dim=AXES), dim=AXES)


def power(x: Tensor) -> Tensor:
    """Return the squared magnitudes of the centred spectrum, ... x H x W."""
    return spectrum(x).abs() ** 2


def uncentred(mask: Tensor) -> Tensor:
    """Return a mask of a centred spectrum, H x W, in the order of the transform itself."""
    return torch.fft.ifftshift(mask, dim=AXES)


def filtered(x: Tensor, passed: Tensor) -> Tensor:
    """Return the part of a real signal, ... x H x W, that a mask lets pass.

    Args:
        x: the signal; it is not clipped.
        passed: H x W, the mask in the order of the transform, as `uncentred` gives it, of the type
            of x; symmetric about frequency 0, so that what passes is real.
    """
    return torch.fft.ifft2(torch.fft.fft2(x, dim=AXES) * passed, dim=AXES).real
