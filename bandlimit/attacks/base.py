"""What all attacks share: two kinds, `create`, checks of hyper-parameters, a watch for NaN."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch.nn.functional import cross_entropy

from bandlimit.errors import UserError, suggest
from bandlimit.models.batches import alone_outside

if TYPE_CHECKING:
    from foolbox.models.pytorch import PyTorchModel

Noise = Callable[[int, int], torch.Tensor]
"""noise(i, draw): C x H x W, uniform in [-1, 1), of the i-th image of a batch; keyed by image."""


@dataclass(frozen=True)
class Found:
    """What an attack returns for N images; its caller judges whether they are adversarial.

    Attributes:
        images: N x C x H x W, the perturbed images.
        steps: N, int64, what was spent; each attack says in which unit.
        broken: N, bool, whether a logit or gradient on the way was not finite.
    """

    images: torch.Tensor
    steps: torch.Tensor
    broken: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """An attack with its hyper-parameters."""

    name: ClassVar[str]
    minimal: ClassVar[bool]


Kind = TypeVar("Kind", bound=Attack)


class MinimalAttack(Attack):
    """An attack that minimises the perturbation; it takes no epsilon."""

    minimal = True

    @abstractmethod
    def search(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, noise: Noise
    ) -> Found:
        """Attack images (N x C x H x W, float32 in [0, 1]) that the model classifies correctly."""


class FixedAttack(Attack):
    """An attack that may perturb each pixel by epsilon."""

    minimal = False

    @abstractmethod
    def perturb(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        noise: Noise,
        epsilon: float,
    ) -> Found:
        """Attack images (N x C x H x W, float32 in [0, 1]) that the model classifies correctly."""


def check_count(attack: str, parameter: str, value: Any, least: int = 1) -> None:
    """Check a hyper-parameter that counts.

    Raises:
        UserError: the value is not an integer, or is below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            f"an integer of at least {least} is allowed."
        )


def check_number(
    attack: str, parameter: str, value: Any, *, above: float = -math.inf, most: float = math.inf
) -> None:
    """Check a hyper-parameter that is a finite number, above one limit and at most the other.

    Raises:
        UserError: the value is not such a number.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not above < value <= most:
        limit = "" if most == math.inf else f" and at most {most:g}"
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            f"a number above {above:g}{limit} is allowed."
        )


def check_not_negative(attack: str, parameter: str, value: Any) -> None:
    """Check a hyper-parameter that is zero or a positive number.

    Raises:
        UserError: the value is neither.
    """
    if value != 0 or isinstance(value, bool):
        check_number(attack, parameter, value, above=0)


def check_switch(attack: str, parameter: str, value: Any) -> None:
    """Check that a hyper-parameter is true or false.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, bool):
        raise UserError(
            f"The parameter {parameter!r} of the attack {attack!r} is {value!r}; "
            "true or false is allowed."
        )


def device_of(model: torch.nn.Module) -> torch.device:
    """Return the device that holds a model; the CPU for one without weights."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def foolbox_model(model: torch.nn.Module, images: torch.Tensor) -> PyTorchModel:
    """Return the model as Foolbox sees it; it normalises inside, so Foolbox must not."""
    # Half a second to import: paid only by attacks.
    from foolbox.models.pytorch import PyTorchModel

    return PyTorchModel(model, bounds=(0, 1), device=images.device)


def sound(values: torch.Tensor) -> torch.Tensor:
    """Return per row (N x ... -> N) whether all values are finite."""
    return torch.isfinite(values).flatten(1).all(dim=1)


def loss_gradient(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits and, for each image, the gradient of its cross-entropy in its pixels."""
    x = images.detach().clone().requires_grad_()
    logits = model(x)
    # A sum, not a mean: an image's gradient must not shrink with the size of its batch.
    (gradient,) = torch.autograd.grad(cross_entropy(logits, labels, reduction="sum"), x)
    return logits.detach(), gradient


def ordered_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum over the last axis by adding halves, so that the order of additions is fixed.

    PyTorch's own sums add in an order that depends on batch size, threads and device, which changes
    the last bit.
    """
    while values.shape[-1] > 1:
        if values.shape[-1] % 2:
            values = torch.nn.functional.pad(values, (0, 1))
        half = values.shape[-1] // 2
        values = values[..., :half] + values[..., half:]
    return values[..., 0]


class Watched(torch.nn.Module):
    """A model under attack that notes, per image, gradients spent and values that are not finite.

    An attack that computes sign(NaN) goes on with 0, and the model would seem robust.

    Attributes:
        gradients: N, int64, gradients taken.
        broken: N, bool, whether a logit or gradient was not finite.
    """

    def __init__(
        self, model: torch.nn.Module, labels: torch.Tensor, *, until_adversarial: bool
    ) -> None:
        """Watch a model; with `until_adversarial`, an image is watched up to its first success.

        That is for attacks that go on taking gradients of finished images while others of the batch
        are unfinished: neither count nor verdict may depend on those others.
        """
        super().__init__()
        self.model = model
        self.training = model.training
        self.labels = labels
        self.until_adversarial = until_adversarial
        self.gradients = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
        self.broken = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
        self._done = torch.zeros_like(self.broken)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the model's logits; a gradient that flows back through them is noted."""
        if not x.requires_grad:
            return self.model(x)
        # A view of its own, so that what an attack adds to the loss besides the logits is not seen.
        x = x.view_as(x)
        x.register_hook(self._note)
        logits = self.model(x)
        finite = sound(logits.detach())
        if self.until_adversarial:
            self._done |= finite & (logits.argmax(dim=1) != self.labels)
        self.broken |= ~finite & ~self._done
        self.gradients += ~self._done
        return logits

    def _note(self, gradient: torch.Tensor) -> None:
        self.broken |= ~sound(gradient) & ~self._done


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Compute in true float32 with deterministic convolutions, gradients on, threads for networks.

    Minimal samples lie some 0.03 logits beyond the boundary, less than what TF32 rounds away;
    and cuDNN uses TF32 unless told otherwise.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ),
            torch.enable_grad(),
            alone_outside(),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def create(kinds: Mapping[str, type[Kind]], name: str, **parameters: Any) -> Kind:
    """Return the attack of this name with these hyper-parameters, the others at their defaults.

    Args:
        kinds: classes by name, `catalogue.ATTACKS` or `adaptive.catalogue.KINDS`.
        name: one of them.
        **parameters: of the attack.

    Raises:
        UserError: there is no such attack or hyper-parameter, or a value is not allowed.
    """
    if name not in kinds:
        raise UserError(f"There is no attack {name!r}; {suggest(name, kinds)}.")
    known = kinds[name].__dataclass_fields__
    for parameter in parameters:
        if parameter not in known:
            raise UserError(
                f"The attack {name!r} has no parameter {parameter!r}; {suggest(parameter, known)}."
            )
    return kinds[name](**parameters)
