"""Optimizers, of recipes and of simulations, by the functions of `torch.optim`.

Its classes import PyTorch's compiler as soon as one is made, which takes two seconds of each
training; the functions that they call, and that do the sums, do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.optim.adadelta import adadelta
from torch.optim.adagrad import adagrad
from torch.optim.adam import adam
from torch.optim.rmsprop import rmsprop
from torch.optim.sgd import sgd

from bandlimit.training.recipes import Recipe

KEPT = {
    "sgd": ("momentum_buffer",),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adagrad": ("sum",),
    "adadelta": ("square_avg", "acc_delta"),
    "rmsprop": ("square_avg",),
}
"""What each optimizer keeps of each parameter, besides the number of steps, in its shape."""


def adam_update(
    parameters: Sequence[torch.Tensor], rate: float, *, fused: bool = False
) -> Callable[[], None]:
    """Return what updates parameters once along their gradients, as `torch.optim.Adam` would.

    Args:
        parameters: each with its gradient, at the latest when the update is called.
        rate: of learning.
        fused: whether one kernel does all, which rounds otherwise.
    """
    own = list(parameters)
    first, second = ([torch.zeros_like(value) for value in own] for _ in range(2))
    steps = [torch.zeros(()) for _ in own]

    @torch.no_grad()
    def update() -> None:
        adam(
            own,
            [_gradient(value) for value in own],
            first,
            second,
            [],
            steps,
            foreach=False,
            fused=fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=0,
            eps=1e-8,
            maximize=False,
        )

    return update


def sgd_update(
    parameters: Sequence[torch.Tensor], rate: float, momentum: float = 0.0
) -> Callable[[], None]:
    """Return what updates parameters once along their gradients, as `torch.optim.SGD` would, fused.

    Args:
        parameters: each with its gradient, at the latest when the update is called.
        rate: of learning.
        momentum: of the updates.
    """
    own = list(parameters)
    # The function puts the first gradients there.
    buffers: list[torch.Tensor | None] = [None] * len(own)

    @torch.no_grad()
    def update() -> None:
        sgd(
            own,
            [_gradient(value) for value in own],
            buffers,
            fused=True,
            weight_decay=0,
            momentum=momentum,
            lr=rate,
            dampening=0,
            nesterov=False,
            maximize=False,
        )

    return update


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


class Optimizer:
    """Updates parameters by the optimizer, momentum and weight decay of a recipe.

    What a recipe does not name is as `torch.optim` has it.

    Args:
        recipe: names the optimizer.
        parameters: that are trained.

    Attributes:
        state: for each parameter, what is kept of it from step to step, by name; 0 at first.
    """

    def __init__(self, recipe: Recipe, parameters: Sequence[nn.Parameter]) -> None:
        self._recipe, self._parameters = recipe, list(parameters)
        # Only the fused kernel counts steps where the parameters are.
        fused = recipe.optimizer == "adam"
        self.state = [
            {name: torch.zeros_like(own) for name in KEPT[recipe.optimizer]}
            | {"step": torch.zeros((), device=own.device if fused else "cpu")}
            for own in self._parameters
        ]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Update all parameters once along their gradients, at a learning rate."""
        recipe = self._recipe
        stays, decay = recipe.momentum, recipe.weight_decay
        # A parameter that the loss does not reach has no gradient, and stays as it is.
        reached = [
            (own, own.grad, state)
            for own, state in zip(self._parameters, self.state, strict=True)
            if own.grad is not None
        ]
        parameters: list[torch.Tensor] = [own for own, _, _ in reached]
        gradients = [gradient for _, gradient, _ in reached]
        kept = {
            name: [state[name] for _, _, state in reached]
            for name in (*KEPT[recipe.optimizer], "step")
        }
        steps = kept.pop("step")
        match recipe.optimizer:
            case "sgd":
                sgd(
                    parameters,
                    gradients,
                    list(kept["momentum_buffer"]),
                    lr=rate,
                    momentum=stays,
                    weight_decay=decay,
                    nesterov=stays > 0,
                    dampening=0,
                    maximize=False,
                )
            case "adam":
                adam(
                    parameters,
                    gradients,
                    kept["exp_avg"],
                    kept["exp_avg_sq"],
                    [],
                    steps,
                    lr=rate,
                    beta1=stays,
                    beta2=0.999,
                    eps=1e-8,
                    weight_decay=decay,
                    fused=True,
                    amsgrad=False,
                    maximize=False,
                )
            case "adagrad":
                adagrad(
                    parameters,
                    gradients,
                    kept["sum"],
                    steps,
                    lr=rate,
                    lr_decay=0,
                    eps=1e-10,
                    weight_decay=decay,
                    maximize=False,
                )
            case "adadelta":
                adadelta(
                    parameters,
                    gradients,
                    kept["square_avg"],
                    kept["acc_delta"],
                    steps,
                    lr=rate,
                    rho=stays,
                    eps=1e-6,
                    weight_decay=decay,
                    maximize=False,
                )
            case "rmsprop":
                rmsprop(
                    parameters,
                    gradients,
                    kept["square_avg"],
                    [],
                    [],
                    steps,
                    lr=rate,
                    alpha=stays,
                    eps=1e-8,
                    weight_decay=decay,
                    momentum=0,
                    centered=False,
                )
