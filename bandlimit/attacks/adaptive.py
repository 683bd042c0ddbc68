"""Adaptive attacks: they know the defence and attack all of it, as a module.

An attack leaves one image per epsilon (or confidence) and restart, whatever the defence says of it
then: a defence that draws is judged on fresh draws later, never by the one that an attack happened
to meet. All images are attacked, also those that the defence mislabels.

An image's result depends on the image, the epsilon, the seed and the names of attack, defence,
dataset and model alone, never on companions or on the other epsilons, provided that the defence's
output for it does not depend on companions either.

Source: "Bandlimiting" defends against attacks on the undefended network; these are those that it
leaves out.
"""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import eagerpy as ep
import numpy as np
import pyarrow as pa
import torch
from eagerpy.astensor import astensor
from foolbox.criteria import Misclassification

from bandlimit import keys, store
from bandlimit.attacks import autoattack
from bandlimit.attacks.base import (
    Attack,
    FixedAttack,
    Watched,
    check_count,
    check_number,
    device_of,
    exact_arithmetic,
    foolbox_model,
    sound,
)
from bandlimit.attacks.fixed import FGSM, PGD, KeyedStart
from bandlimit.attacks.minimal import CarliniWagnerL2
from bandlimit.attacks.records import (
    BOX_SLACK,
    Batch,
    check_labels,
    checked_epsilon,
    checked_images,
    mismatch,
    norms,
    verify,
)
from bandlimit.errors import UserError, suggest

if TYPE_CHECKING:
    from bandlimit.defenses.base import Defense

STATUSES = ("ok", "nan_gradient", "zero_gradient")
"""What an attack met: 'ok' says that it ran, not that it succeeded."""

DRAWS = 1_000_000
"""Numbers of draws that a run on an image has to itself; each call of a defence takes at most as
many as it averages samples, and a run makes some thousand calls."""

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
        broken: N, bool, an output or gradient of the defence on the way was not finite.
        flat: N, bool, gradients were taken, all were 0, and the defence was never wrong.
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


class _Seen(Watched):
    """A defence under attack of which all outputs are looked at, also those without a gradient.

    Attributes:
        calls: outputs asked for, with or without a gradient.
        moved: N, bool, a gradient was not 0.
        fooled: N, bool, an output named another class than the label.
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
    """An attack on a defence; `minimal` ones know no epsilon."""

    @abstractmethod
    def trials(self, target: Target, epsilon: float | None) -> Iterator[Trial]:
        """Yield what each run leaves, in the order of confidence and restart."""


class _Spending(AdaptiveAttack):
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


class _Ascent(KeyedStart):
    """PGD of Foolbox that keeps the losses it meets, and may be held to a band."""

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
            # A sum, not a mean: an image's gradient must not shrink with its companions.
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
    """Return, N, -log of the true class's probability; of log-probabilities minus their entry."""
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


def margin(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return, N, the greatest other output less that of the true class; above 0 if fooled."""
    places = labels.unsqueeze(1)
    others = outputs.scatter(1, places, -math.inf).amax(dim=1)
    return others - outputs.gather(1, places).squeeze(1)


LOSSES = {"nll": negative_log_likelihood, "margin": margin}
"""Losses of EOT-PGD."""


@dataclass(frozen=True, kw_only=True)
class EOTPGD(_Spending):
    """Projected gradient descent on the expected output: fresh draws in each step.

    Start: uniform in the epsilon-box, for each restart one draw per image that all epsilons share
    (scaled). Each step moves by rel_stepsize * epsilon along the sign of the gradient of the loss
    of the output averaged over `samples` samples; the last iterate counts. On a defence that does
    not draw, and from the same start, this is Foolbox's PGD.

    With `band` the perturbation passes through the defence's filter at the start and after each
    step, and is clipped to epsilon and [0, 1] afterwards. Clipping puts a little energy back
    outside of the band.

    steps: gradients taken, each through `samples` samples.

    Source: expectation over transformation; "Bandlimiting", section 3.2 for what is averaged.

    Attributes:
        steps: in each run.
        samples: per image and step; None differentiates the defence as it stands.
        loss: 'nll' of the averaged probability, or 'margin' of the output.
        restarts: runs, each with a start and draws of its own.
        rel_stepsize: of a step, in epsilon; 2.5 / steps if not given.
        gradient: 'exact', or 'identity': as if the defence's transform of the input were none
            (BPDA), where it is not differentiable or its gradient is of no use.
        band: hold the perturbation to what the defence lets pass.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "eot_pgd"
    steps: int = 20
    samples: int | None = 2
    loss: str = "nll"
    restarts: int = 1
    rel_stepsize: float | None = None
    gradient: str = "exact"
    band: bool = False

    def __post_init__(self) -> None:
        check_count(self.name, "steps", self.steps)
        _check_samples(self.name, self.samples)
        _check_choice(self.name, "loss", self.loss, LOSSES)
        _check_restarts(self.name, "restarts", self.restarts)
        if self.rel_stepsize is not None:
            check_number(self.name, "rel_stepsize", self.rel_stepsize, above=0, most=2.5)
        _check_choice(self.name, "gradient", self.gradient, ("exact", "identity"))
        _check_switch(self.name, "band", self.band)

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
                rel_stepsize=self.rel_stepsize or 2.5 / self.steps,
                steps=self.steps,
            )
            bound = defense.bind(target.image_ids, _first_draw(epsilon, restart))
            seen = _Seen(bound, target.labels, target.defense.classes)
            found = attack.run(
                foolbox_model(seen, target.images),
                target.images,
                Misclassification(target.labels),
                epsilon=epsilon,
            )
            losses = torch.stack(attack.losses, dim=1)
            yield Trial(found, seen.gradients, seen.broken, seen.flat(), losses, restart=restart)


@dataclass(frozen=True, kw_only=True)
class RandomNoise(_Spending):
    """Noise in the epsilon-box that knows nothing of the defence: what any attack must beat.

    Each draw is a restart; the draws of an image are shared by all epsilons (scaled).

    steps: 0, nothing is asked.

    Attributes:
        corner: each pixel moves by +-epsilon, not uniformly in between.
        draws: how many.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "noise"
    corner: bool = True
    draws: int = 5

    def __post_init__(self) -> None:
        _check_switch(self.name, "corner", self.corner)
        _check_restarts(self.name, "draws", self.draws)

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
class Square(_Spending):
    """The Square attack: random search without gradients, by the margin of the output.

    Black-box: it asks the defence as it stands, and keeps the point of least margin. Under a
    defence that draws, that is the least margin that one draw gave.

    steps: queries.

    Attributes:
        queries: at most so many.
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
class AutoAttack(_Spending):
    """AutoAttack by the package pyautoattack, with budgets of its own choice.

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
        _check_choice(self.name, "version", self.version, (*autoattack.VERSIONS, "custom"))
        listed = isinstance(self.attacks, list | tuple)
        if not listed or bool(self.attacks) != (self.version == "custom"):
            raise UserError(
                f"The parameter 'attacks' of the attack {self.name!r} is {self.attacks!r} with the "
                f"version {self.version!r}; a list of names is needed for 'custom', and for the "
                "other versions none."
            )
        for attack in self.attacks:
            _check_choice(self.name, "attacks", attack, autoattack.COMPONENTS)
        check_count(self.name, "steps", self.steps)
        check_count(self.name, "queries", self.queries)
        check_count(self.name, "targets", self.targets)
        check_count(self.name, "restarts", self.restarts)
        if self.eot is not None:
            check_count(self.name, "eot", self.eot)
        _check_samples(self.name, self.samples)

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


@dataclass(frozen=True, kw_only=True)
class AdaptiveFGSM(_Spending, FGSM):
    """FGSM on a defence; see `fixed.FGSM`. On one that draws, its gradient is that of one draw."""

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield the one run."""
        yield _fixed_trial(self, target, epsilon)


@dataclass(frozen=True, kw_only=True)
class AdaptivePGD(_Spending, PGD):
    """PGD on a defence; see `fixed.PGD`. On one that draws, each gradient is that of one draw."""

    def spend(self, target: Target, epsilon: float) -> Iterator[Trial]:
        """Yield the one run."""
        yield _fixed_trial(self, target, epsilon)


@dataclass(frozen=True, kw_only=True)
class ConfidentCarliniWagnerL2(AdaptiveAttack):
    """Carlini-Wagner L2 that goes beyond the boundary by each of some confidences.

    See `minimal.CarliniWagnerL2`; one run per confidence, epsilon null. Where a run finds nothing,
    the record holds the clean image.

    steps: gradients taken.

    Attributes:
        confidences: how far the greatest other output must exceed that of the true class.
        binary_search_steps: searches for the weight of the penalty.
        steps: of each search.
        stepsize: of Adam.
        initial_const: weight of the penalty in the first search.
        abort_early: end a search whose loss no longer falls.

    Raises:
        UserError: a hyper-parameter is out of range.
    """

    name = "carlini_wagner_l2"
    minimal = True
    confidences: Sequence[float] = (0.0,)
    binary_search_steps: int = 5
    steps: int = 1000
    stepsize: float = 5e-3
    initial_const: float = 1e-2
    abort_early: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.confidences, list | tuple) or not self.confidences:
            raise UserError(
                f"The parameter 'confidences' of the attack {self.name!r} is "
                f"{self.confidences!r}; a list of numbers is allowed."
            )
        for confidence in self.confidences:
            self._run(confidence)
        if len(set(self.confidences)) < len(self.confidences):
            raise UserError(
                f"The parameter 'confidences' of the attack {self.name!r} is "
                f"{self.confidences!r}; each of them is needed once."
            )

    def _run(self, confidence: float) -> CarliniWagnerL2:
        return CarliniWagnerL2(
            binary_search_steps=self.binary_search_steps,
            steps=self.steps,
            stepsize=self.stepsize,
            confidence=confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )

    def trials(self, target: Target, epsilon: float | None) -> Iterator[Trial]:
        """Yield what each confidence leaves, the least first."""
        # `minimal.CarliniWagnerL2` gives a lone image a twin, whose name the defence must know.
        count = len(target.images)
        size = 1 if self.abort_early else count
        for confidence in sorted(self.confidences):
            run = self._run(confidence)
            parts = []
            for start in range(0, count, size):
                part = target.rows(start, start + size)
                copies = 2 if size == 1 else 1
                bound = target.defense.bind(part.image_ids * copies, _first_draw(confidence, 0))
                seen = _Seen(bound, part.labels.repeat(copies), target.defense.classes)
                found = run.search(seen, part.images, part.labels, target.noise)
                rows = len(part.images)
                parts.append(
                    Trial(
                        found.images,
                        found.steps,
                        seen.broken[:rows],
                        seen.flat()[:rows],
                        part.images.new_zeros((rows, 0)),
                    )
                )
            yield _joined(parts, confidence=float(confidence))


KINDS: dict[str, type[AdaptiveAttack]] = {
    kind.name: kind
    for kind in (
        EOTPGD,
        RandomNoise,
        Square,
        AutoAttack,
        ConfidentCarliniWagnerL2,
        AdaptiveFGSM,
        AdaptivePGD,
    )
}
"""All kinds of adaptive attacks by name."""


def create_adaptive(kind: str, **parameters: Any) -> AdaptiveAttack:
    """Return the attack of this kind with these hyper-parameters, the others at their defaults.

    Raises:
        UserError: there is no such kind or hyper-parameter, or a value is not allowed.
    """
    if kind not in KINDS:
        raise UserError(f"There is no adaptive attack {kind!r}; {suggest(kind, KINDS)}.")
    known = KINDS[kind].__dataclass_fields__
    for parameter in parameters:
        if parameter not in known:
            raise UserError(
                f"The attack {kind!r} has no parameter {parameter!r}; {suggest(parameter, known)}."
            )
    return KINDS[kind](**parameters)


def _first_draw(size: float, restart: int) -> int:
    """Return the number of the first draw of a run; those of different runs do not meet."""
    return (round(size * 1e9) * RESTARTS + restart) * DRAWS


def _fixed_trial(attack: FixedAttack, target: Target, epsilon: float) -> Trial:
    bound = target.defense.bind(target.image_ids, _first_draw(epsilon, 0))
    seen = _Seen(bound, target.labels, target.defense.classes)
    found = attack.perturb(seen, target.images, target.labels, target.noise, epsilon)
    losses = target.images.new_zeros((len(target.images), 0))
    return Trial(found.images, found.steps, seen.broken, seen.flat(), losses)


def _one_by_one_trial(
    target: Target,
    defense: Defense,
    epsilon: float,
    attack: Callable[[torch.nn.Module, Target], torch.Tensor],
) -> Trial:
    """Attack each image alone; its steps are the outputs that the attack asked for."""
    parts = []
    first = _first_draw(epsilon, 0)
    for i in range(len(target.images)):
        one = target.rows(i, i + 1)
        with autoattack.alone(defense.bind(one.image_ids, first), one.images):
            seen = _Seen(defense.bind(one.image_ids, first), one.labels, target.defense.classes)
            found = attack(seen, one)
        steps = torch.full_like(one.labels, seen.calls)
        losses = one.images.new_zeros((1, 0))
        parts.append(Trial(found.detach(), steps, seen.broken, seen.flat(), losses))
    return _joined(parts)


def _joined(parts: Sequence[Trial], confidence: float | None = None) -> Trial:
    return Trial(
        torch.cat([part.images for part in parts]),
        torch.cat([part.steps for part in parts]),
        torch.cat([part.broken for part in parts]),
        torch.cat([part.flat for part in parts]),
        torch.cat([part.losses for part in parts]),
        confidence=confidence,
    )


def _check_choice(attack: str, parameter: str, value: Any, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            f"{suggest(value, allowed)}."
        )


def _check_switch(attack: str, parameter: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            "true or false is allowed."
        )


def _check_samples(attack: str, samples: Any) -> None:
    if samples is not None:
        check_count(attack, "samples", samples)


def _check_restarts(attack: str, parameter: str, value: Any) -> None:
    check_count(attack, parameter, value)
    if value > RESTARTS:
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            f"at most {RESTARTS} are allowed."
        )


def adaptive_schema(shape: Sequence[int]) -> pa.Schema:
    """Return the schema of the records of adaptive attacks on images of one shape (C, H, W)."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("epsilon", pa.float64()),
            ("confidence", pa.float64()),
            ("restart", pa.int64()),
            ("label", pa.int64()),
            ("status", pa.string()),
            ("steps", pa.int64()),
            ("linf", pa.float64()),
            ("l2", pa.float64()),
            ("losses", pa.list_(pa.float32())),
            ("image", store.image_type(shape, "float32")),
        ]
    )


def generate_adaptive(
    defense: Defense,
    attack: AdaptiveAttack,
    batches: Iterable[Batch],
    *,
    seed: int,
    dataset: str,
    model_name: str,
    defense_name: str,
    attack_name: str,
    epsilons: Sequence[float] = (),
) -> Iterator[pa.Table]:
    """Attack a defence and yield the records, a table per batch.

    Rows are ordered by image, epsilon, confidence and restart. Status, by the first that holds:

    * 'nan_gradient': an output or gradient of the defence, or the image found, was not finite, so
      that a defence that seems to hold may only have broken the attack;
    * 'zero_gradient': all gradients taken were 0, and the defence was never wrong meanwhile;
    * 'ok': neither.

    The record holds what the attack came to, within epsilon and [0, 1]; the clean image where that
    is not finite, or where Carlini-Wagner found nothing.

    Args:
        defense: the defence that is attacked. If it draws, its draws must carry another purpose
            than those on which it is judged afterwards.
        attack: as `create_adaptive` returns it.
        batches: image ids, labels, images.
        seed: the configuration's seed; with the names and the image id it keys all noise.
        dataset: name of the dataset, a key of the noise.
        model_name: name of the model, a key of the noise.
        defense_name: name of the defence, a key of the noise.
        attack_name: name of the attack, a key of the noise.
        epsilons: l_inf in [0, 1] pixels; minimal attacks know none.

    Returns:
        Tables of `adaptive_schema`.

    Raises:
        UserError: an epsilon is not allowed or lacks; a label is no class of the defence; the
            attack and the defence do not fit.
        ValueError: images are not N x C x H x W in float32 and [0, 1].
    """
    sizes: list[float | None] = [None]
    if not attack.minimal:
        sizes = [checked_epsilon(epsilon) for epsilon in epsilons]
        if not sizes or len(set(sizes)) < len(sizes):
            raise UserError(
                f"The attack {attack_name!r} needs at least one epsilon and each of them once; "
                f"given are {list(epsilons)}."
            )

    def tables() -> Iterator[pa.Table]:
        device = device_of(defense)
        for image_ids, labels, images in batches:
            if len(image_ids):
                labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
                check_labels(image_ids, labels, defense.classes)
                target = Target(
                    defense,
                    tuple(image_ids),
                    checked_images(images).to(device),
                    labels,
                    seed,
                    (attack_name, defense_name, dataset, model_name),
                )
                with exact_arithmetic():
                    columns = [
                        _columns(trial, target, size)
                        for size in sizes
                        for trial in attack.trials(target, size)
                    ]
                yield _table(target, columns)

    return tables()


def _columns(
    trial: Trial, target: Target, epsilon: float | None
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the rows of one run, without the images, and the images."""
    found = trial.images.detach().float()
    readable = sound(found)
    found = torch.where(readable[:, None, None, None], found, target.images).clamp(0, 1)
    pictures, clean = found.cpu().numpy(), target.images.cpu().numpy()
    broken = (trial.broken | ~readable).tolist()
    flat, steps, labels = trial.flat.tolist(), trial.steps.tolist(), target.labels.tolist()
    losses = trial.losses.float().cpu().numpy()
    rows = []
    for i, image_id in enumerate(target.image_ids):
        linf, l2 = norms(pictures[i], clean[i])
        if epsilon is not None and linf > epsilon + BOX_SLACK:
            raise ValueError(f"image {image_id!r} moved by {linf}, beyond the epsilon {epsilon}")
        rows.append(
            {
                "image_id": image_id,
                "epsilon": epsilon,
                "confidence": trial.confidence,
                "restart": trial.restart,
                "label": labels[i],
                "status": STATUSES[1 if broken[i] else 2 if flat[i] else 0],
                "steps": steps[i],
                "linf": linf,
                "l2": l2,
                "losses": losses[i],
            }
        )
    return rows, pictures


def _table(target: Target, columns: list[tuple[list[dict[str, Any]], np.ndarray]]) -> pa.Table:
    """Interleave all runs, image by image, so that batches leave no trace."""
    order = range(len(target.image_ids))
    rows = [rows[i] for i in order for rows, _ in columns]
    pictures = np.stack([pictures[i] for i in order for _, pictures in columns])
    full = adaptive_schema(target.images.shape[1:])
    table = pa.Table.from_pylist(rows, schema=full.remove(full.get_field_index("image")))
    return table.append_column(full.field("image"), store.image_column(pictures))


def recheck_adaptive(
    path: str | os.PathLike[str], clean: Iterable[Batch], *, size: int = 100
) -> int:
    """Read stored records again and verify what they state, from the images they hold.

    Labels, norms, the box [0, 1] and epsilon are held against the images; what a defence says of
    them is left to its judges.

    Args:
        path: Parquet file of adaptive records.
        clean: the images that were attacked, in the order of the records; more are allowed.
        size: records per batch.

    Returns:
        The number of records.

    Raises:
        UserError: the file can't be read or is of another schema; or a record does not hold,
            and the sentence names the first that does not.
    """
    return verify(path, clean, adaptive_schema, _problem, size=size)


def _problem(
    row: dict[str, Any], image: np.ndarray, label: int, clean: np.ndarray, prediction: None
) -> str | None:
    """Return what is wrong with a record, or None."""
    if row["status"] not in STATUSES:
        return f"its status is {row['status']!r}"
    if wrong := mismatch(row, image, label, clean):
        return wrong
    if row["epsilon"] is not None and row["linf"] > row["epsilon"] + BOX_SLACK:
        return f"its linf is {row['linf']}, above its epsilon {row['epsilon']}"
    return None
