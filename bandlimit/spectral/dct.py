"""The discrete cosine transform over the last two axes of images, by scipy."""

from __future__ import annotations

import scipy.fft
import torch
from torch import Tensor

from bandlimit.spectral.fourier import FLOOR


def dct(x: Tensor) -> Tensor:
    """Return the coefficients of the orthonormal DCT-II of a signal, ... x H x W.

    The transform is linear and keeps the L2 norm. It is made on the CPU, one image like another: a
    product of matrices rounds otherwise with the number of images and the place of their memory.
    """
    found = scipy.fft.dctn(x.detach().cpu().numpy(), axes=(-2, -1), norm="ortho")
    return torch.from_numpy(found).to(x.device)


def rct(x: Tensor, d: Tensor) -> Tensor:
    """Return the relative change of DCT coefficients, N, the mean over channels and coefficients.

    It is the mean of |DCT(x + d) - DCT(x)| / (|DCT(x)| + 1e-8), of "A frequency domain analysis of
    gradient-based adversarial examples". Few coefficients near 0 can make up most of it.

    Args:
        x: images, N x C x H x W.
        d: perturbations, of the shape and type of x.
    """
    return (dct(d) / (dct(x).abs() + FLOOR)).abs().flatten(1).mean(dim=1)
