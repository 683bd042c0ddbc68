"""What adaptive attacks share: a target, trials, and a watch over the defence's outputs.

An adaptive attack knows the defence and attacks it as a whole, as a module. It leaves one image per
epsilon (or confidence) and restart, whatever the defence then says of it: a defence that draws is
judged later on fresh draws, never by the one that an attack happened to meet. All images are
attacked, also those that the defence misclassifies.

An image's result depends only on the image, the epsilon, the seed and the names of attack, defence,
dataset and model, never on other images or other epsilons, provided that the defence's output for
it does not depend on other images either.

Source: "Bandlimiting" defends against attacks on the undefended network; these are the attacks that
it leaves out.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bandlimit import keys
from bandlimit.attacks.base import (
    Attack,
    Watched,
    check_count,
    sound,
)
from bandlimit.errors import UserError, suggest

if TYPE_CHECKING:
    from bandlimit.defenses.base import Defense


STATUSES = ("ok", "nan_gradient", "zero_gradient")
"""What an attack met: 'ok' says that it ran, not that it succeeded."""

DRAWS = 1_000_000
"""Draws that each run on an image has to itself; a call of a defence takes at most as many as the
samples it averages, and a run makes some thousand calls."""

RESTARTS = 1000
"""Runs with draws of their own for each epsilon."""


@dataclass(frozen=True)
class Target:
    """A defence and the images on which it is attacked, with the names that key all draws.

    Attributes:
        defense: pixels in [0, 1] -> logits or log-probabilities.
        image_ids: N names.
        images: N x C x H x W, float32 in [0, 1].
        labels: N, int64.
        seed: the configuration's seed.
        name: attack, defence, dataset, model.
    """

    defense: Defense
    image_ids: tuple[str, ...]
    images: torch.Tensor
    labels: torch.Tensor
    seed: int
    name: tuple[str, ...]

    def noise(self, i: int, draw: int) -> torch.Tensor:
        """Return C x H x W, uniform in [-1, 1), of the i-th image."""
        key: tuple[str | int, ...] = ("adaptive start", *self.name, self.image_ids[i], draw)
        generator = keys.generator(self.seed, *key)
        return (torch.rand(self.images.shape[1:], generator=generator) * 2 - 1).to(
            self.images.device
        )

    def starts(self, draw: int) -> torch.Tensor:
        """Return the noise of all images, N x C x H x W."""
        return torch.stack([self.noise(i, draw) for i in range(len(self.images))])

    def seed_of(self, i: int) -> int:
        """Return the seed of the i-th image, for code that draws from the global generator."""
        return keys.derive(self.seed, "adaptive seed", *self.name, self.image_ids[i])

    def rows(self, start: int, end: int) -> Target:
        """Return this target for some of its images."""
        return Target(
            self.defense,
            self.image_ids[start:end],
            self.images[start:end],
            self.labels[start:end],
            self.seed,
            self.name,
        )


@dataclass(frozen=True)
class Trial:
    """What one run leaves of N images.

    Attributes:
        images: N x C x H x W, the perturbed images.
        steps: N, int64, what was spent; each attack says in which unit.
        broken: N, bool, whether an output or gradient of the defence on the way was not finite.
        flat: N, bool, whether gradients were taken, all were 0, and the defence was never wrong.
        losses: N x S, the loss before each step; S is 0 where an attack has none to show.
        confidence: that of Carlini-Wagner.
        restart: number of the run, from 0.
    """

    images: torch.Tensor
    steps: torch.Tensor
    broken: torch.Tensor
    flat: torch.Tensor
    losses: torch.Tensor
    confidence: float | None = None
    restart: int = 0


class Seen(Watched):
    """A defence under attack whose outputs are all examined, also those without a gradient.

    Attributes:
        calls: outputs asked for, with or without a gradient.
        moved: N, bool, whether a gradient was not 0.
        fooled: N, bool, whether an output's class was not the label.
    """

    def __init__(self, model: torch.nn.Module, labels: torch.Tensor, classes: int) -> None:
        super().__init__(model, labels, until_adversarial=False)
        self.classes = classes
        self.calls = 0
        self.moved = torch.zeros_like(self.broken)
        self.fooled = torch.zeros_like(self.broken)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the defence's output; one without a gradient has the gradient 0."""
        if not len(x):  # Square asks so where a margin is exactly 0
            return x.new_zeros((0, self.classes))
        self.calls += 1
        outputs: torch.Tensor = super().forward(x)
        values = outputs.detach()
        self.broken |= ~sound(values)
        self.fooled |= values.argmax(dim=1) != self.labels
        if x.requires_grad and not outputs.requires_grad:
            outputs = outputs + 0 * x.flatten(1)[:, :1]
        return outputs

    def _note(self, gradient: torch.Tensor) -> None:
        super()._note(gradient)
        self.moved |= (gradient != 0).flatten(1).any(dim=1)

    def flat(self) -> torch.Tensor:
        """Return, N bool, whether the gradients taken say nothing although the defence held."""
        return (self.gradients > 0) & ~self.moved & ~self.fooled


class AdaptiveAttack(Attack):
    """An attack on a defence; `minimal` ones take no epsilon."""

    @abstractmethod
    def trials(self, target: Target, epsilon: float | None) -> Iterator[Trial]:
        """Yield what each run leaves, in the order of confidence and restart."""


class Spending(AdaptiveAttack):
    """An adaptive attack that spends an epsilon."""

    minimal = False

    def trials(self, target: Target, epsilon: float | None) -> Iterator[Trial]:
        """Yield what each run leaves, in the order of restarts."""
        if epsilon is None:
            raise ValueError(f"the attack {self.name!r} needs an epsilon")
        yield from self.spend(target, epsilon)

    @abstractmethod
    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield what each run within epsilon leaves, in the order of restarts."""


def first_draw(size: float, restart: int) -> int:
    """Return the number of the first draw of a run; runs never share a draw."""
    return (round(size * 1e9) * RESTARTS + restart) * DRAWS


def joined(parts: Sequence[Trial], confidence: float | None = None) -> Trial:
    """Return what several runs left as one, in their order."""
    return Trial(
        torch.cat([part.images for part in parts]),
        torch.cat([part.steps for part in parts]),
        torch.cat([part.broken for part in parts]),
        torch.cat([part.flat for part in parts]),
        torch.cat([part.losses for part in parts]),
        confidence=confidence,
    )


def check_choice(attack: str, parameter: str, value: Any, allowed: Iterable[str]) -> None:
    """Check that a hyper-parameter is one of those allowed.

    Raises:
        UserError: it is not.
    """
    if value not in tuple(allowed):
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            f"{suggest(value, allowed)}."
        )


def check_samples(attack: str, samples: Any) -> None:
    """Check a number of samples, or None.

    Raises:
        UserError: it is not a whole number of at least 1.
    """
    if samples is not None:
        check_count(attack, "samples", samples)


def check_restarts(attack: str, parameter: str, value: Any) -> None:
    """Check a number of runs.

    Raises:
        UserError: it is not a whole number from 1 to `RESTARTS`.
    """
    check_count(attack, parameter, value)
    if value > RESTARTS:
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            f"at most {RESTARTS} are allowed."
        )
