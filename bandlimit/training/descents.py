"""Foolbox's gradient descents, for perturbations while a network is trained (Foolbox 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from eagerpy.astensor import astensor
from eagerpy.tensor.tensor import Tensor
from foolbox.attacks.fast_gradient_method import L2FastGradientAttack
from foolbox.attacks.gradient_descent_base import BaseGradientDescent
from foolbox.attacks.projected_gradient_descent import (
    L2ProjectedGradientDescentAttack,
    LinfProjectedGradientDescentAttack,
)
from foolbox.criteria import Misclassification
from foolbox.models.base import Model
from foolbox.models.pytorch import PyTorchModel
from torch import nn


class KeyedStart(LinfProjectedGradientDescentAttack):
    """PGD in a box that starts from the noise it is given, not from a global generator."""

    def __init__(self, unit: torch.Tensor, *, rel_stepsize: float, steps: int) -> None:
        super().__init__(rel_stepsize=rel_stepsize, steps=steps, random_start=True)
        self._unit = unit

    def get_random_start(self, x0: Tensor, epsilon: float) -> Tensor:
        """Return the images plus the noise, scaled to epsilon."""
        return x0 + epsilon * astensor(self._unit)


class Descent(BaseGradientDescent):
    """Foolbox's descent with a loss of ours, by default one that does not saturate."""

    each: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def get_loss_fn(self, model: Model, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the summed loss of a batch, as Foolbox asks for it."""
        return lambda inputs: astensor(self.each(model(inputs).raw, labels.raw).sum())


class FGM(Descent, L2FastGradientAttack):
    """One step along the gradient."""


class PGDL2(Descent, L2ProjectedGradientDescentAttack):
    """Steps along the gradient, from the image."""


class PGDLinf(Descent, KeyedStart):
    """Steps along the gradient's sign, from noise."""


def run(
    attack: BaseGradientDescent,
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> torch.Tensor:
    """Return the images that a descent ends at, N x C x H x W.

    Args:
        attack: the descent.
        model: pixels to logits, frozen.
        images: where it begins, N x C x H x W, float, within the bounds.
        labels: N, int64.
        epsilon: bound of the perturbation.
        bounds: of pixels.
    """
    found: torch.Tensor = attack.run(
        PyTorchModel(model, bounds=bounds, device=images.device),
        images,
        Misclassification(labels),
        epsilon=epsilon,
    )
    return found
