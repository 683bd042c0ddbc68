"""What a training is asked for: its hyper-parameters, checked."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bandlimit.errors import UserError, suggest
from bandlimit.spectral.components import PARTS, SCALES

AUGMENTATIONS: tuple[str, ...] = ("flip", "shift", "noise", "autoaugment")
"""The keys of `augmentation`: mirror half of the images; the largest shift in pixels; the largest
standard deviation of noise; the policy of AutoAugment."""

POLICIES: tuple[str, ...] = ("cifar10", "imagenet")
"""Policies of AutoAugment, by the data that they were found for."""

OPTIMIZERS: tuple[str, ...] = ("sgd", "adam", "adagrad", "adadelta", "rmsprop")
SCHEDULES: tuple[str, ...] = ("triangle", "constant")
LOSSES: tuple[str, ...] = ("cross_entropy", "mse")
SHARED: tuple[str, ...] = ("batch", "image")
"""What has one share of mix-up: all images of a batch, or each image."""


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
class Mixup:
    """Training on mixtures of two images and of their losses (Zhang et al. 2018, "mixup").

    An image x and its partner x' of the same batch become share * x + (1 - share) * x', and the
    loss is the same mixture of those of both labels. Partners are a permutation of the batch.

    Attributes:
        alpha: the share is drawn from Beta(alpha, alpha); above 0.
        per: batch, one share for all images of a batch, or image, one for each.

    Raises:
        UserError: a value is out of range or has no meaning.
    """

    alpha: float = 0.5
    per: str = "batch"

    def __post_init__(self) -> None:
        check("mixup.alpha", self.alpha, "a number above 0", above=0)
        _check_choice("mixup.per", self.per, SHARED)


@dataclass(frozen=True, kw_only=True)
class Component:
    """Training on a component of each image in its place; see `bandlimit.spectral.components`.

    Attributes:
        part: low or high.
        radius: of the disk of low frequencies, at least 0; None where there is a bandwidth.
        strict: whether the border of the disk is high.
        scale: maximum, each image divided by its own, or none.
        bandwidth: side of the square of low frequencies in place of a disk, an odd number of
            frequencies; None where there is a radius.

    Raises:
        UserError: a value is out of range or has no meaning, or there is not one of radius and
            bandwidth.
    """

    part: str
    radius: float | None = None
    strict: bool = False
    scale: str = "maximum"
    bandwidth: int | None = None

    def __post_init__(self) -> None:
        _check_choice("component.part", self.part, PARTS)
        if (self.radius is None) == (self.bandwidth is None):
            raise UserError(
                "The hyper-parameter 'component' has either a 'radius', of a disk, or a "
                f"'bandwidth', of a square; {self.radius!r} and {self.bandwidth!r} were given."
            )
        if self.radius is not None:
            check("component.radius", self.radius, "a number of at least 0", low=0)
        if self.bandwidth is not None:
            odd = "an odd whole number of at least 1"
            check("component.bandwidth", self.bandwidth, odd, whole=True, low=1)
            if self.bandwidth % 2 == 0 or self.strict:
                raise UserError(
                    f"The hyper-parameter 'component.bandwidth' must be {odd}, without 'strict', "
                    f"which is of a disk; {self.bandwidth!r} was given."
                )
        check_switch("component.strict", self.strict)
        _check_choice("component.scale", self.scale, SCALES)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyper-parameters of a training; together with data, seed and name they decide the result.

    Attributes:
        epochs: passes over the images, at least 1.
        batch_size: images per step, at least 4.
        learning_rate: the highest, above 0.
        momentum: in [0, 1): of Nesterov's method, 0 being plain gradient descent; with Adam, how
            much of the mean gradient stays (its beta_1; beta_2 is 0.999 and its epsilon 1e-8); with
            AdaDelta and RMSprop, how much of the mean squared gradient stays (rho of the one, alpha
            of the other), and steps themselves have no momentum. AdaGrad adds up all squared
            gradients: it has none, and the number is not used.
        weight_decay: at least 0, on all trained parameters; with each optimizer it is added to the
            gradient.
        augmentation: flip (bool): mirror each image left to right with probability one half;
            shift (int): move each image by up to so many pixels along each axis, uniformly, black
            pixels moving in; autoaugment (str): then change each image, of 3 channels, by the
            AutoAugment policy cifar10 or imagenet; noise (float): then add to each image Gaussian
            noise whose standard deviation, in [0, 1] pixels, is drawn uniformly from 0 to this
            number for the image, and clip to [0, 1]. What is not named is not done.
        optimizer: sgd, adam, adagrad, adadelta or rmsprop, as of `torch.optim`.
        schedule: triangle, a learning rate that rises for a quarter of the steps and falls to 0, or
            constant.
        loss: cross_entropy of the logits, or mse, the squared differences between logits and
            one-hot labels summed over the classes; either is a mean over the batch.
        adversarial: if given, PGD changes the pixels of each batch before its update; a mapping
            becomes an `Adversarial`.
        checkpoints: names, with the epochs after which the network is kept; 0 is before the first
            step, and fractions are rounded to a step.
        mixed_precision: whether a card computes features in bfloat16; weights stay in float32.
        dropout: share of the features before the last linear layer that are 0 in a step, in [0, 1);
            the others are divided by one minus it. In training only (Srivastava et al. 2014).
        mixup: if given, each step takes mixtures of images; a mapping becomes a `Mixup`.
        component: if given, it takes the place of each image before the training; a mapping becomes
            a `Component`. Pixels that a shift moves in are 0.
        seeds: networks that are trained alike, each with draws of its own; at least 1.

    Raises:
        UserError: a value is out of range or has no meaning, or PGD, which keeps pixels in [0, 1]
            and follows one label, is asked for on components or mixtures, or noise, which keeps
            them there as well, or AutoAugment, which takes 8-bit images, on components.
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
    dropout: float = 0.0
    mixup: Mixup | Mapping[str, Any] | None = None
    component: Component | Mapping[str, Any] | None = None
    seeds: int = 1

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
            _check_choice(name, getattr(self, name), allowed)
        for name, epochs in self.checkpoints.items():
            allowed_epochs = f"a number of epochs from 0 to {self.epochs}"
            if re.fullmatch(r"seed_\d+", name):
                raise UserError(
                    f"The checkpoint {name!r} of the recipe has a name for networks of other "
                    "draws; another one is allowed."
                )
            check(f"checkpoints.{name}", epochs, allowed_epochs, low=0, high=self.epochs)
        check_switch("mixed_precision", self.mixed_precision)
        check("seeds", self.seeds, "a whole number of at least 1", whole=True, low=1)
        check("dropout", self.dropout, "a number of at least 0 and below 1", low=0, below=1)
        for name, kind in PARTS_OF_A_RECIPE.items():
            given = getattr(self, name)
            if isinstance(given, Mapping):
                object.__setattr__(self, name, _made(kind, given, f"parameter of {name!r}"))
        for name in ("mixup", "component"):
            if self.adversarial is not None and getattr(self, name) is not None:
                raise UserError(
                    f"A recipe has either 'adversarial' or {name!r}, since the attack is on images "
                    "with pixels in [0, 1] and one label each; both were given."
                )
        if self.noise and self.component is not None:
            raise UserError(
                "A recipe has either the augmentation 'noise' or 'component', since noisy images "
                "are clipped to pixels in [0, 1]; both were given."
            )
        if self.autoaugment is not None and self.component is not None:
            raise UserError(
                "A recipe has either the augmentation 'autoaugment' or 'component', since "
                "AutoAugment takes 8-bit images; both were given."
            )

    @property
    def flip(self) -> bool:
        """Whether half of the images are mirrored."""
        return bool(self.augmentation.get("flip", False))

    @property
    def shift(self) -> int:
        """The largest shift, in pixels."""
        return int(self.augmentation.get("shift", 0))

    @property
    def noise(self) -> float:
        """The largest standard deviation of noise, in [0, 1] pixels."""
        return float(self.augmentation.get("noise", 0))

    @property
    def autoaugment(self) -> str | None:
        """The policy of AutoAugment, or None."""
        policy = self.augmentation.get("autoaugment")
        return None if policy is None else str(policy)

    def checkpoint_steps(self, steps_per_epoch: int) -> dict[str, int]:
        """Return by name after how many steps the network is kept."""
        return {name: round(at * steps_per_epoch) for name, at in self.checkpoints.items()}

    def as_mapping(self) -> dict[str, Any]:
        """Return the recipe as a mapping that JSON can hold and `of` takes."""
        return dataclasses.asdict(self)


PARTS_OF_A_RECIPE: Mapping[str, type[Any]] = {
    "adversarial": Adversarial,
    "mixup": Mixup,
    "component": Component,
}
"""What mappings in a recipe become."""


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


def check_switch(name: str, value: object) -> None:
    """Check a hyper-parameter that is on or off.

    Raises:
        UserError: it is no bool.
    """
    if not isinstance(value, bool):
        raise UserError(f"The hyper-parameter {name!r} must be true or false; {value!r} was given.")


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(f"There is no {name} {value!r}; {suggest(str(value), allowed)}.")


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
    check("augmentation.noise", augmentation.get("noise", 0), "a number from 0 to 1", low=0, high=1)
    if "autoaugment" in augmentation:
        _check_choice("augmentation.autoaugment", augmentation["autoaugment"], POLICIES)
