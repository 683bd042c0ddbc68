"""What a training is asked for: its hyper-parameters, checked."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bandlimit.errors import UserError, suggest

AUGMENTATIONS: tuple[str, ...] = ("flip", "shift")
"""The keys of `augmentation`: mirror half of the images; the largest shift in pixels."""

OPTIMIZERS: tuple[str, ...] = ("sgd", "adam")
SCHEDULES: tuple[str, ...] = ("triangle", "constant")
LOSSES: tuple[str, ...] = ("cross_entropy", "mse")


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """PGD within an l_inf bound, run on each batch before its update (Madry et al. 2018).

    Attributes:
        epsilon: the bound, in [0, 1] pixels, above 0 and at most 1.
        steps: gradients taken, at least 1.
        rel_stepsize: length of a step as a share of epsilon, above 0 and at most 2.

    Raises:
        UserError: a number is out of range.
    """

    epsilon: float
    steps: int = 10
    rel_stepsize: float = 0.25

    def __post_init__(self) -> None:
        check("adversarial.epsilon", self.epsilon, "a number above 0, at most 1", above=0, high=1)
        check("adversarial.steps", self.steps, "a whole number of at least 1", whole=True, low=1)
        step = "a number above 0, at most 2"
        check("adversarial.rel_stepsize", self.rel_stepsize, step, above=0, high=2)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of a training; together with data, seed and name they decide the result.

    Attributes:
        epochs: passes over the images, at least 1.
        batch_size: images per step, at least 4.
        learning_rate: the highest, above 0.
        momentum: in [0, 1): of Nesterov's method, 0 being plain gradient descent; with Adam, how
            much of the mean gradient stays (its beta_1; beta_2 is 0.999 and its epsilon 1e-8).
        weight_decay: at least 0, on all trained parameters; with Adam too it is added to the
            gradient.
        augmentation: flip (bool): mirror each image left to right with probability one half;
            shift (int): move each image by up to so many pixels along each axis, uniformly, black
            pixels moving in. What is not named is not done.
        optimizer: sgd or adam.
        schedule: triangle, a learning rate that rises for a quarter of the steps and falls to 0, or
            constant.
        loss: cross_entropy of the logits, or mse, the squared differences between logits and
            one-hot labels summed over the classes; either is a mean over the batch.
        adversarial: if given, PGD changes the pixels of each batch before its update; a mapping
            becomes an `Adversarial`.
        checkpoints: names, with the epochs after which the network is kept; 0 is before the first
            step, and fractions are rounded to a step.
        mixed_precision: whether a card computes features in bfloat16; weights stay in float32.

    Raises:
        UserError: a value is out of range or has no meaning.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    schedule: str = "triangle"
    loss: str = "cross_entropy"
    adversarial: Adversarial | Mapping[str, Any] | None = None
    checkpoints: Mapping[str, float] = field(default_factory=dict)
    mixed_precision: bool = False

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a mapping whose keys are the attributes.

        Raises:
            UserError: a key is unknown or missing, or a value is refused.
        """
        made = _made(cls, mapping, "hyper-parameter")
        assert isinstance(made, cls)
        return made

    def __post_init__(self) -> None:
        check("epochs", self.epochs, "a whole number of at least 1", whole=True, low=1)
        check("batch_size", self.batch_size, "a whole number of at least 4", whole=True, low=4)
        check("learning_rate", self.learning_rate, "a number above 0", above=0)
        check("momentum", self.momentum, "a number of at least 0 and below 1", low=0, below=1)
        check("weight_decay", self.weight_decay, "a number of at least 0", low=0)
        _check_augmentation(self.augmentation)
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("loss", LOSSES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise UserError(f"There is no {name} {value!r}; {suggest(str(value), allowed)}.")
        for name, epochs in self.checkpoints.items():
            allowed_epochs = f"a number of epochs from 0 to {self.epochs}"
            check(f"checkpoints.{name}", epochs, allowed_epochs, low=0, high=self.epochs)
        if not isinstance(self.mixed_precision, bool):
            raise UserError(
                f"The hyper-parameter 'mixed_precision' must be true or false; "
                f"{self.mixed_precision!r} was given."
            )
        if isinstance(self.adversarial, Mapping):
            attack = _made(Adversarial, self.adversarial, "parameter of 'adversarial'")
            object.__setattr__(self, "adversarial", attack)

    @property
    def flip(self) -> bool:
        """Whether half of the images are mirrored."""
        return bool(self.augmentation.get("flip", False))

    @property
    def shift(self) -> int:
        """The largest shift, in pixels."""
        return int(self.augmentation.get("shift", 0))

    def checkpoint_steps(self, steps_per_epoch: int) -> dict[str, int]:
        """Return by name after how many steps the network is kept."""
        return {name: round(at * steps_per_epoch) for name, at in self.checkpoints.items()}

    def as_mapping(self) -> dict[str, Any]:
        """Return the recipe as a mapping that JSON can hold and `of` takes."""
        return dataclasses.asdict(self)


def check(
    name: str,
    value: object,
    allowed: str,
    *,
    whole: bool = False,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Check a hyper-parameter.

    Args:
        name: of it.
        value: what was given.
        allowed: what is, in words.
        whole: whether it must be a whole number.
        low: the least value allowed.
        high: the greatest value allowed.
        above: a bound that it must exceed.
        below: a bound that it must not reach.

    Raises:
        UserError: it is not a finite number, or is out of range.
    """
    kind = numbers.Integral if whole else numbers.Real
    # A bool is a number to Python, but a mistake here.
    number = isinstance(value, kind) and not isinstance(value, bool)
    fits = number and low <= value <= high and above < value < below  # type: ignore[operator]
    if not fits:
        raise UserError(f"The hyper-parameter {name!r} must be {allowed}; {value!r} was given.")


def _made(kind: type[Any], mapping: Mapping[str, Any], what: str) -> Any:
    """Return a dataclass of a mapping of its fields."""
    fields = {own.name: own for own in dataclasses.fields(kind)}
    for name in mapping:
        if name not in fields:
            raise UserError(f"There is no {what} {name!r}; {suggest(name, fields)}.")
    for name, own in fields.items():
        optional = (own.default, own.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        if name not in mapping and not optional:
            raise UserError(
                f"The {what} {name!r} is missing; given were "
                f"{', '.join(map(repr, mapping)) or 'none'}."
            )
    return kind(**mapping)


def _check_augmentation(augmentation: Mapping[str, Any]) -> None:
    """Refuse unknown names and wrong values."""
    for name in augmentation:
        if name not in AUGMENTATIONS:
            raise UserError(f"There is no augmentation {name!r}; {suggest(name, AUGMENTATIONS)}.")
    flip, shift = augmentation.get("flip", False), augmentation.get("shift", 0)
    if not isinstance(flip, bool):
        raise UserError(f"The augmentation 'flip' must be true or false; {flip!r} was given.")
    if not isinstance(shift, int) or isinstance(shift, bool) or shift < 0:
        raise UserError(
            f"The augmentation 'shift' must be a whole number of pixels, at least 0; "
            f"{shift!r} was given."
        )
