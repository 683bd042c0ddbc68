"""Perturbations of images while a network is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from bandlimit.errors import UserError, suggest
from bandlimit.training.recipes import LOSSES, check

KINDS: tuple[str, ...] = ("fgm_l2", "pgd_l2", "pgd_linf")

ANYWHERE = 1e3
"""Bound of pixels that are not clipped: no perturbation comes near."""


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """A perturbation along the gradient of the loss.

    "A frequency domain analysis of gradient-based adversarial examples", section 2.1: FGM is a step
    of length epsilon along the gradient; PGD takes several, each followed by a projection into the
    ball of radius epsilon, from the image itself (l2) or from a uniform draw in the box (l_inf).

    Attributes:
        kind: fgm_l2, pgd_l2 or pgd_linf.
        epsilon: bound, L2 or l_inf, in [0, 1] pixels, above 0.
        steps: gradients taken, at least 1; 1 for FGM.
        rel_stepsize: length of a step as a share of epsilon, above 0 and at most 2; 1 for FGM.
        clip: whether pixels stay in [0, 1]; without, FGM is the direction of the gradient itself.
        loss: cross_entropy or mse, as of `bandlimit.training.recipes.Recipe`: whose gradient it is.

    Raises:
        UserError: the kind is unknown, or a number is out of range.
    """

    kind: str
    epsilon: float
    steps: int = 1
    rel_stepsize: float = 1.0
    clip: bool = True
    loss: str = "cross_entropy"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"There is no loss {self.loss!r}; {suggest(self.loss, LOSSES)}.")
        if self.kind not in KINDS:
            raise UserError(
                f"There is no perturbation of the kind {self.kind!r}; {suggest(self.kind, KINDS)}."
            )
        check(f"{self.kind}.epsilon", self.epsilon, "a number above 0", above=0)
        check(f"{self.kind}.steps", self.steps, "a whole number of at least 1", whole=True, low=1)
        step = "a number above 0, at most 2"
        check(f"{self.kind}.rel_stepsize", self.rel_stepsize, step, above=0, high=2)
        if self.kind == "fgm_l2" and (self.steps, self.rel_stepsize) != (1, 1):
            raise UserError(
                f"A perturbation of the kind 'fgm_l2' takes one step of length epsilon; "
                f"{self.steps} of {self.rel_stepsize} epsilon were given."
            )

    def of(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, unit: torch.Tensor
    ) -> torch.Tensor:
        """Return perturbed images, N x C x H x W, of the type of the images.

        Of the cross-entropy the gradient is that of `log_odds`, which has the same direction.

        Args:
            model: pixels in [0, 1] to logits, frozen, in eval mode.
            images: N x C x H x W, float, in [0, 1].
            labels: N, int64.
            unit: N x C x H x W, uniform in [-1, 1): the start in a box, over epsilon.
        """
        # Foolbox takes half a second to import: paid only where an image is perturbed.
        from bandlimit.training import descents

        attack: descents.Descent
        if self.kind == "fgm_l2":
            attack = descents.FGM()
        elif self.kind == "pgd_l2":
            attack = descents.PGDL2(
                rel_stepsize=self.rel_stepsize, steps=self.steps, random_start=False
            )
        else:
            attack = descents.PGDLinf(unit, rel_stepsize=self.rel_stepsize, steps=self.steps)
        attack.each = EACH[self.loss]
        bounds = (0.0, 1.0) if self.clip else (-ANYWHERE, ANYWHERE)
        return descents.run(attack, model, images, labels, self.epsilon, bounds)


class Pixels(nn.Module):
    """A network with its normalisation inside: pixels in [0, 1] to logits.

    Args:
        network: standardised images to logits.
        mean: of each channel, in [0, 1] pixels.
        std: of each channel, in [0, 1] pixels.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("centre", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("scale", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.train(network.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, N x classes, of pixels, N x C x H x W."""
        x = ((x - self.centre) / self.scale).contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = self.network(x)
        return logits


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return for each image the log-odds that its label is wrong, N, from logits N x K, K >= 2.

    The gradient of the cross-entropy is this one's times the probability of being wrong. So the
    directions are equal, and this gradient does not vanish where a network is sure of the label:
    in float32 the cross-entropy's does, and the image would seem to have none.
    """
    # Masks, since a card adds up gradients of gathered values in another order each time.
    own = F.one_hot(labels, logits.shape[1]).bool()
    others = logits.masked_fill(own, float("-inf"))
    return others.logsumexp(dim=1) - logits.masked_fill(~own, 0).sum(dim=1)


def squared_error(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return for each image the squared error to its one-hot label, N, from logits N x K."""
    return (logits - F.one_hot(labels, logits.shape[1])).square().sum(dim=1)


EACH: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross_entropy": log_odds,
    "mse": squared_error,
}
"""What perturbations follow for a loss, image by image."""


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Attack a network in training as it will be used: in eval mode, its parameters frozen.

    So BatchNorm takes its running statistics and leaves them alone, and no gradient of a weight is
    computed. Afterwards all is as it was, and the network is in train mode.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        network.train()
