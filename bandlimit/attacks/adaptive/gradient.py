"""Adaptive attacks by gradients of the defence: EOT-PGD, PGD and FGSM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import eagerpy as ep
import torch
from eagerpy.astensor import astensor
from foolbox.criteria import Misclassification

from bandlimit.attacks.adaptive.base import (
    Seen,
    Spending,
    Target,
    Trial,
    check_choice,
    check_restarts,
    check_samples,
    first_draw,
)
from bandlimit.attacks.base import (
    FixedAttack,
    check_count,
    check_number,
    check_switch,
    foolbox_model,
)
from bandlimit.attacks.fixed import FGSM, PGD
from bandlimit.errors import UserError
from bandlimit.training.descents import KeyedStart


class _Ascent(KeyedStart):
    """PGD of Foolbox that records its losses, and may be kept within a band."""

    def __init__(
        self,
        unit: torch.Tensor,
        *,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        band: Callable[[torch.Tensor], torch.Tensor] | None,
        rel_stepsize: float,
        steps: int,
    ) -> None:
        super().__init__(unit, rel_stepsize=rel_stepsize, steps=steps)
        self._loss = loss
        self._band = band
        self.losses: list[torch.Tensor] = []

    def get_loss_fn(self, model: Any, labels: ep.Tensor) -> Callable[[ep.Tensor], ep.Tensor]:
        def loss(inputs: ep.Tensor) -> ep.Tensor:
            losses = self._loss(model(inputs).raw, labels.raw)
            self.losses.append(losses.detach())
            # A sum, not a mean: an image's gradient must not shrink with the size of its batch.
            return astensor(losses.sum())

        return loss

    def get_random_start(self, x0: ep.Tensor, epsilon: float) -> ep.Tensor:
        start = super().get_random_start(x0, epsilon)
        return start if self._band is None else self.project(start, x0, epsilon)

    def project(self, x: ep.Tensor, x0: ep.Tensor, epsilon: float) -> ep.Tensor:
        if self._band is not None:
            x = x0 + astensor(self._band((x - x0).raw))
        return super().project(x, x0, epsilon)


def negative_log_likelihood(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return, N, -log of the true class's probability; outputs may be log-probabilities."""
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


def margin(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return, N, the greatest other output minus that of the true class; above 0 if fooled."""
    places = labels.unsqueeze(1)
    others = outputs.scatter(1, places, -math.inf).amax(dim=1)
    return others - outputs.gather(1, places).squeeze(1)


LOSSES = {"nll": negative_log_likelihood, "margin": margin}
"""Losses of EOT-PGD."""


@dataclass(frozen=True, kw_only=True)
class EOTPGD(Spending):
    """Projected gradient descent on the expected output: fresh draws in each step.

    Start: uniform in the epsilon-box, for each restart one draw per image that all epsilons share
    (scaled). Each step moves by rel_stepsize * epsilon along the sign of the gradient of the loss
    of the output averaged over `samples` samples; the last iterate counts. On a defence that does
    not draw, and from the same start, this is Foolbox's PGD.

    With `band` the perturbation passes through the defence's filter at the start and after each
    step, and is clipped to epsilon and [0, 1] afterwards. Clipping puts a little energy back
    outside the band.

    steps: gradients taken, each through `samples` samples.

    The defaults were the strongest at 160 gradients an image on CIFAR-10: a longer step mattered
    most, then more samples for each. On Fashion-MNIST what differed was the step alone.

    Source: expectation over transformation; "Bandlimiting", section 3.2 for what is averaged.

    Attributes:
        steps: in each run.
        samples: per image and step; None differentiates the defence as it stands.
        loss: 'nll' of the averaged probability, or 'margin' of the output.
        restarts: runs, each with a start and draws of its own.
        rel_stepsize: of a step, in epsilon.
        gradient: 'exact', or 'identity': as if the defence left its input unchanged (BPDA), for a
            transform that is not differentiable or whose gradient is of no use.
        band: keep the perturbation to what the defence lets pass.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "eot_pgd"
    steps: int = 20
    samples: int | None = 8
    loss: str = "nll"
    restarts: int = 1
    rel_stepsize: float = 0.25
    gradient: str = "exact"
    band: bool = False

    def __post_init__(self) -> None:
        check_count(self.name, "steps", self.steps)
        check_samples(self.name, self.samples)
        check_choice(self.name, "loss", self.loss, LOSSES)
        check_restarts(self.name, "restarts", self.restarts)
        check_number(self.name, "rel_stepsize", self.rel_stepsize, above=0, most=2.5)
        check_choice(self.name, "gradient", self.gradient, ("exact", "identity"))
        check_switch(self.name, "band", self.band)

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield what each run within epsilon leaves, in the order of restarts.

        Raises:
            UserError: the defence has no transform to replace by the identity, or no band.
        """
        defense = target.defense
        if self.gradient == "identity":
            defense = defense.gradient_through_identity()
        defense = defense.surrogate(self.samples)
        for restart in range(self.restarts):
            unit = target.starts(restart)
            if self.band and torch.equal(target.defense.project(unit), unit):
                raise UserError(
                    f"The attack {self.name!r} has 'band' set, but the defense "
                    f"{target.name[1]!r} lets every perturbation pass; 'band' is for a defense "
                    "that filters frequencies."
                )
            attack = _Ascent(
                unit,
                loss=LOSSES[self.loss],
                band=target.defense.project if self.band else None,
                rel_stepsize=self.rel_stepsize,
                steps=self.steps,
            )
            bound = defense.bind(target.image_ids, first_draw(epsilon, restart))
            seen = Seen(bound, target.labels, target.defense.classes)
            found = attack.run(
                foolbox_model(seen, target.images),
                target.images,
                Misclassification(target.labels),
                epsilon=epsilon,
            )
            losses = torch.stack(attack.losses, dim=1)
            yield Trial(found, seen.gradients, seen.broken, seen.flat(), losses, restart=restart)


@dataclass(frozen=True, kw_only=True)
class AdaptiveFGSM(Spending, FGSM):
    """FGSM on a defence; see `fixed.FGSM`. On one that draws, its gradient is that of one draw."""

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield the one run."""
        yield _fixed_trial(self, target, epsilon)


@dataclass(frozen=True, kw_only=True)
class AdaptivePGD(Spending, PGD):
    """PGD on a defence; see `fixed.PGD`. On one that draws, each gradient is that of one draw."""

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield the one run."""
        yield _fixed_trial(self, target, epsilon)


def _fixed_trial(attack: FixedAttack, target: Target, epsilon: float) -> Trial:
    bound = target.defense.bind(target.image_ids, first_draw(epsilon, 0))
    seen = Seen(bound, target.labels, target.defense.classes)
    found = attack.perturb(seen, target.images, target.labels, target.noise, epsilon)
    losses = target.images.new_zeros((len(target.images), 0))
    return Trial(found.images, found.steps, seen.broken, seen.flat(), losses)
