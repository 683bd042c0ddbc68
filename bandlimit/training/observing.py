"""How a network is looked at while it is trained: as it would be used, and without a trace."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from bandlimit.models.batches import fold

Run = Callable[..., Iterable[Any]]
"""Like `map`: it may work on several items at once, and keeps their order."""


class Observer(Protocol):
    """Takes measurements of a network in training."""

    def at(self, total: int, per_epoch: int) -> frozenset[int]:
        """Return the steps, from 0 to the number of all steps, before which to measure."""

    def measure(
        self, state: Mapping[str, torch.Tensor], *, step: int, epoch: float, train: float | None
    ) -> list[dict[str, Any]]:
        """Return the rows of a measurement.

        Args:
            state: parameters and buffers of the network as it is now.
            step: updates made.
            epoch: the same in epochs.
            train: accuracy on the training images since the previous measurement.
        """


def as_used(network: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Return a copy of a network with these weights, folded as a saved model is once it is loaded.

    So the last measurement is of the classifier that others will see.
    """
    used = copy.deepcopy(network)
    used.load_state_dict(state)
    return fold(used)
