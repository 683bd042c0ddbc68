"""Symptoms of masked gradients: what makes an attack's failure say little about robustness.

In the manner of the flags that AutoAttack raises, but counted, once per defence, on all images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from bandlimit.attacks.base import device_of, exact_arithmetic, ordered_sum, sound
from bandlimit.models import memory

if TYPE_CHECKING:
    from bandlimit.defenses.base import Defense

PASSES = 5
"""Outputs of each image that are compared."""

DIFFERENCE = 1e-4
"""L2 distance of two normalised outputs beyond which they are not the same."""

ROUNDING = 1e-5
"""How far outputs may miss [0, 1] and the sum 1 and still count as probabilities."""


@dataclass(frozen=True)
class Symptoms:
    """What is suspicious about a defence, on a set of images.

    Attributes:
        images: how many were looked at.
        random_output: outputs of one image differ from pass to pass. Attacks must then average,
            and their results be judged on fresh draws.
        largest_difference: L2 distance of two passes' outputs, each divided by its L2 norm; the
            largest of all images with finite outputs.
        probability_output: outputs lie in [0, 1] and sum to 1 for all images: probabilities, whose
            gradients vanish by saturation, not logits or their like.
        zero_gradients: images whose gradient of cross-entropy by pixels is exactly 0 throughout.
        nan_gradients: images for which an output or that gradient is not finite.
    """

    images: int
    random_output: bool
    largest_difference: float
    probability_output: bool
    zero_gradients: int
    nan_gradients: int


def symptoms(
    defense: Defense, batches: Iterable[tuple[Sequence[str], Any, torch.Tensor]]
) -> Symptoms:
    """Return what is suspicious about a defence; the gradient is its own, of cross-entropy.

    Args:
        defense: pixels in [0, 1] -> outputs, N x classes.
        batches: images in turn, of which one batch is in memory: N names, keys of the draws, N
            true classes, and N x C x H x W, float32 in [0, 1]. How they are cut does not matter;
            one that does not fit into memory is halved.

    Raises:
        ValueError: there are no images.
        MachineError: the device has no memory for one image.
    """
    work = memory.Halving(partial(_of_batch, defense))
    found: list[Symptoms] = []
    with exact_arithmetic():
        for batch in batches:
            made: Any = work(batch)
            found += [Symptoms(**row) for row in made.to_pylist()]
    images = sum(part.images for part in found)
    if not images:
        raise ValueError("symptoms need at least one image")
    return Symptoms(
        images=images,
        random_output=any(part.random_output for part in found),
        largest_difference=max(part.largest_difference for part in found),
        probability_output=all(part.probability_output for part in found),
        zero_gradients=sum(part.zero_gradients for part in found),
        nan_gradients=sum(part.nan_gradients for part in found),
    )


def _of_batch(defense: Defense, batch: tuple[Sequence[str], Any, torch.Tensor]) -> pa.Table:
    """Return what is suspicious on one batch, as one row: what `memory.Halving` puts together."""
    image_ids, labels, images = batch
    device = device_of(defense)
    x = images.to(device)
    bound = defense.bind(image_ids)
    with torch.no_grad():
        outputs = torch.stack([bound(x) for _ in range(PASSES)])
    finite = sound(outputs.transpose(0, 1))
    readable = outputs[:, finite]
    predictions = readable.argmax(dim=2)
    largest = _largest_difference(readable)
    truth = torch.as_tensor(labels, dtype=torch.int64).to(device)
    gradient, steep = _gradient(bound, x, truth)
    found = Symptoms(
        images=len(images),
        random_output=bool((predictions != predictions[:1]).any()) or largest > DIFFERENCE,
        largest_difference=largest,
        probability_output=bool(finite.all()) and _probabilities(outputs[0]),
        zero_gradients=int((steep & (gradient == 0).flatten(1).all(dim=1)).sum()),
        nan_gradients=int((~(finite & steep)).sum()),
    )
    return pa.Table.from_pylist([asdict(found)])


def _gradient(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of cross-entropy, 0 where there are none, and where all is finite."""
    x = images.clone().requires_grad_()
    outputs = model(x)
    loss = torch.nn.functional.cross_entropy(outputs, labels, reduction="sum")
    gradient = torch.zeros_like(x)
    if loss.requires_grad:
        (found,) = torch.autograd.grad(loss, x, allow_unused=True)
        gradient = gradient if found is None else found
    return gradient, sound(outputs.detach()) & sound(gradient)


def _largest_difference(outputs: torch.Tensor) -> float:
    """Return the largest L2 distance of normalised outputs (passes x N x classes) of an image."""
    if not outputs.shape[1]:
        return 0.0
    norms = ordered_sum(outputs.double().square()).sqrt()
    units = outputs / (norms.unsqueeze(2) + 1e-10)
    distances = [
        ordered_sum((units[i] - units[j]).square()).max()
        for i in range(len(units))
        for j in range(i)
    ]
    return float(torch.stack(distances).max().sqrt())


def _probabilities(outputs: torch.Tensor) -> bool:
    inside = (outputs > -ROUNDING) & (outputs < 1 + ROUNDING)
    return bool(inside.all() and ((outputs.sum(dim=1) - 1).abs() < ROUNDING).all())
