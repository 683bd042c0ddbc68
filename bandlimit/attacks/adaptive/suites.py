"""Adaptive attacks beyond plain gradients: noise, Square, AutoAttack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bandlimit.attacks.adaptive import autoattack
from bandlimit.attacks.adaptive.base import (
    Seen,
    Spending,
    Target,
    Trial,
    check_choice,
    check_restarts,
    check_samples,
    first_draw,
    joined,
)
from bandlimit.attacks.base import (
    check_count,
    check_number,
    check_switch,
)
from bandlimit.errors import UserError

if TYPE_CHECKING:
    from bandlimit.defenses.base import Defense


@dataclass(frozen=True, kw_only=True)
class RandomNoise(Spending):
    """Noise in the epsilon-box that knows nothing of the defence: what any attack must beat.

    Each draw is a restart; the draws of an image are shared by all epsilons (scaled).

    steps: 0, since the defence is not asked.

    Attributes:
        corner: each pixel moves by +-epsilon, not uniformly in between.
        draws: how many noises each image gets.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "noise"
    corner: bool = True
    draws: int = 5

    def __post_init__(self) -> None:
        check_switch(self.name, "corner", self.corner)
        check_restarts(self.name, "draws", self.draws)

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield each draw."""
        for draw in range(self.draws):
            unit = target.starts(draw)
            if self.corner:
                unit = torch.where(unit < 0, -1.0, 1.0)
            none = torch.zeros_like(target.labels)
            yield Trial(
                (target.images + epsilon * unit).clamp(0, 1),
                none,
                none.bool(),
                none.bool(),
                target.images.new_zeros((len(none), 0)),
                restart=draw,
            )


@dataclass(frozen=True, kw_only=True)
class Square(Spending):
    """The Square attack: random search without gradients, by the margin of the output.

    Black-box: it asks the defence as it stands, and keeps the point of least margin. Under a
    defence that draws, that is the least margin that one draw gave.

    steps: queries.

    Attributes:
        queries: the most that it may ask.
        p_init: share of the pixels that the first square covers.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "square"
    queries: int = 5000
    p_init: float = 0.8

    def __post_init__(self) -> None:
        check_count(self.name, "queries", self.queries)
        check_number(self.name, "p_init", self.p_init, above=0, most=1)

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield the one run."""

        def attack(model: torch.nn.Module, one: Target) -> torch.Tensor:
            return autoattack.square(
                model,
                one.images,
                one.labels,
                epsilon=epsilon,
                seed=one.seed_of(0),
                queries=self.queries,
                p_init=self.p_init,
            )

        yield _one_by_one_trial(target, target.defense, epsilon, attack)


@dataclass(frozen=True, kw_only=True)
class AutoAttack(Spending):
    """AutoAttack by the package pyautoattack, with budgets that can be chosen.

    'standard' is for defences that do not draw: AutoPGD on cross-entropy, targeted AutoPGD on DLR,
    targeted FAB, Square, each on what the ones before left. 'rand' is for those that draw: AutoPGD
    on cross-entropy and on DLR, with averaged gradients. Where the package finds nothing, the
    record holds AutoPGD's point of greatest loss.

    steps: outputs asked for, with or without a gradient.

    Attributes:
        version: 'standard', 'rand', or 'custom' with `attacks`.
        attacks: for 'custom', names of `autoattack.COMPONENTS`.
        steps: of each run of AutoPGD and FAB; 100 in the original.
        queries: of Square; 5000 in the original.
        targets: classes that targeted attacks aim at, at most all others; 9 in the original.
        restarts: of AutoPGD and FAB; 1 in the original.
        eot: gradients that a step of AutoPGD averages; if not given 20 for 'rand', else 1.
        samples: of the defence per gradient; None takes the defence as it stands.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "autoattack"
    version: str = "standard"
    attacks: Sequence[str] = ()
    steps: int = 100
    queries: int = 5000
    targets: int = 9
    restarts: int = 1
    eot: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "version", self.version, (*autoattack.VERSIONS, "custom"))
        listed = isinstance(self.attacks, list | tuple)
        if not listed or bool(self.attacks) != (self.version == "custom"):
            raise UserError(
                f"The parameter 'attacks' of the attack {self.name!r} is {self.attacks!r} with the "
                f"version {self.version!r}; a list of names is needed for 'custom', and none for "
                "the other versions."
            )
        for attack in self.attacks:
            check_choice(self.name, "attacks", attack, autoattack.COMPONENTS)
        check_count(self.name, "steps", self.steps)
        check_count(self.name, "queries", self.queries)
        check_count(self.name, "targets", self.targets)
        check_count(self.name, "restarts", self.restarts)
        if self.eot is not None:
            check_count(self.name, "eot", self.eot)
        check_samples(self.name, self.samples)

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield the one run.

        Raises:
            UserError: the defence has too few classes.
        """
        classes = target.defense.classes
        attacks = tuple(self.attacks) or autoattack.VERSIONS[self.version]
        autoattack.check_attacks(self.version, attacks, classes)

        def attack(model: torch.nn.Module, one: Target) -> torch.Tensor:
            return autoattack.autoattack(
                model,
                one.images,
                one.labels,
                epsilon=epsilon,
                seed=one.seed_of(0),
                version=self.version,
                attacks=attacks,
                steps=self.steps,
                queries=self.queries,
                targets=min(self.targets, classes - 1),
                restarts=self.restarts,
                eot=self.eot or autoattack.EOT[self.version],
            )

        yield _one_by_one_trial(target, target.defense.surrogate(self.samples), epsilon, attack)


def _one_by_one_trial(
    target: Target,
    defense: Defense,
    epsilon: float,
    attack: Callable[[torch.nn.Module, Target], torch.Tensor],
) -> Trial:
    """Attack each image alone; its steps are the outputs that the attack asked for."""
    parts = []
    first = first_draw(epsilon, 0)
    for i in range(len(target.images)):
        one = target.rows(i, i + 1)
        with autoattack.alone(defense.bind(one.image_ids, first), one.images):
            seen = Seen(defense.bind(one.image_ids, first), one.labels, target.defense.classes)
            found = attack(seen, one)
        steps = torch.full_like(one.labels, seen.calls)
        losses = one.images.new_zeros((1, 0))
        parts.append(Trial(found.detach(), steps, seen.broken, seen.flat(), losses))
    return joined(parts)
