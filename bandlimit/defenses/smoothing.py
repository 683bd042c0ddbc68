"""A defence that changes the network itself: the kernels of its first convolution are smoothed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

from bandlimit.defenses.transforms import Undefended
from bandlimit.models.kernels import first_kernels, smoothed

if TYPE_CHECKING:
    from bandlimit.models.classifier import Classifier


class SmoothedKernels(Undefended):
    """A copy of the classifier with smoothed kernels in its first convolution; nothing is trained.

    Raw smoothing, that of the released code, also multiplies what the first layer says of an image
    of one colour by 1 + 8 rho, and everything behind it meets features of another scale. Greater
    logits can make the gradient of the cross-entropy vanish, which passes for robustness: compare
    with `normalize`, and attack by the margin too.

    Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
    Networks", section 6.3, eq. 3 and table 2.

    Args:
        classifier: the one whose kernels are smoothed; it stays as it is.
        rho: weight of each neighbour, >= 0.
        normalize: whether to divide the kernels by 1 + 8 rho.

    Raises:
        UserError: rho is negative or not finite, or the network has no convolution.
    """

    def __init__(self, classifier: Classifier, *, rho: float, normalize: bool = False) -> None:
        changed = copy.deepcopy(classifier)
        # A BatchNorm behind the convolution is folded into it already. That multiplies all weights
        # of an output channel by one number, and smoothing is linear within each of its kernels:
        # so the kernels are what folding makes of smoothed ones. The bias is the same either way.
        kernels = first_kernels(changed.network)
        with torch.no_grad():
            kernels.copy_(smoothed(kernels, rho, normalize=normalize))
        super().__init__(changed)
        self.rho = rho
        self.normalize = normalize
