"""Evaluate post-averaging for many radii and numbers of directions in one pass.

Directions are nested (the first K of more directions are those of a smaller K) and radii share
their steps (r = 30 steps by 10, 20 and 30; r = 15 by 5, 10 and 15), so each distinct sample enters
the network once and serves every setting that holds it. Samples of several images fill one
micro-batch; the network makes sure that an image's result does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bandlimit.defenses.base import DrawName, check_finite
from bandlimit.defenses.directions import FRACTIONS, random_directions
from bandlimit.errors import UserError
from bandlimit.models import batches
from bandlimit.models.batches import MicroBatches

if TYPE_CHECKING:
    from bandlimit.models.classifier import Classifier

GROUP_BYTES = {"cpu": 128 << 20, "cuda": 2 << 30}
"""Memory for the directions and probabilities of the images in flight."""

PASS = 256
"""Samples that enter a network at once where it does not say how many it takes."""


@dataclass(frozen=True, order=True)
class Setting:
    """One setting of post-averaging: radius r (standardised L2), K directions, draws of them."""

    radius: float
    directions: int
    draws: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.radius < float("inf") or self.directions < 1 or self.draws < 1:
            raise UserError(
                "A setting of post-averaging needs a finite radius >= 0, directions >= 1 and "
                f"draws >= 1, got {self.radius}, {self.directions} and {self.draws}."
            )


@dataclass(frozen=True)
class Judgement:
    """What one setting says of a group of images; arrays have one entry per image.

    Attributes:
        setting: the setting.
        draw: number of the draw, from 0.
        prediction: class of greatest averaged probability.
        p_true: averaged probability of the true class.
        margin: p_true minus the greatest averaged probability of another class, in [-1, 1].
    """

    setting: Setting
    draw: int
    prediction: np.ndarray
    p_true: np.ndarray
    margin: np.ndarray


def steps(radius: float) -> tuple[float, ...]:
    """Return the steps r/3, 2r/3, r, rounded so that equal steps of different radii are one."""
    return tuple(round(fraction * radius, 9) for fraction in FRACTIONS)


@dataclass(frozen=True)
class Plan:
    """The distinct samples that a set of settings needs in one draw, the centre first.

    Attributes:
        coefficient: signed step of each sample, float32, 0 for the centre.
        direction: number of the direction of each sample.
        members: for each setting, the positions of its samples.
    """

    coefficient: Tensor
    direction: Tensor
    members: dict[Setting, Tensor]

    def __len__(self) -> int:
        return len(self.coefficient)

    @property
    def directions(self) -> int:
        """How many directions are drawn."""
        return int(self.direction.max()) + 1


def plan(settings: Sequence[Setting]) -> Plan:
    """Return the distinct samples of all settings, ordered by direction, step and sign."""
    needed = sorted(
        {
            (k, step, sign)
            for setting in settings
            for k in range(setting.directions)
            for step in steps(setting.radius)
            for sign in (1.0, -1.0)
        }
    )
    position = {sample: i + 1 for i, sample in enumerate(needed)}
    members = {
        setting: torch.tensor(
            [0]
            + [
                position[k, step, sign]
                for k in range(setting.directions)
                for step in steps(setting.radius)
                for sign in (1.0, -1.0)
            ]
        )
        for setting in settings
    }
    return Plan(
        coefficient=torch.tensor([0.0] + [step * sign for _, step, sign in needed]),
        direction=torch.tensor([0] + [k for k, _, _ in needed]),
        members=members,
    )


class Samples:
    """The samples around a group of images, made where and when a micro-batch needs them.

    Rows are kept flat and channels-last, so a gathered micro-batch is laid out as the kernels
    want it without a copy.
    """

    def __init__(
        self,
        classifier: Classifier,
        network: Callable[[Tensor], Tensor],
        images: Tensor,
        directions: Tensor,
    ) -> None:
        """Take images in [0, 1], N x C x H x W, and directions, N x K x C x H x W."""
        self.run = network.run if isinstance(network, MicroBatches) else network
        self.size = network.size if isinstance(network, MicroBatches) else PASS
        self.shape = tuple(images.shape[1:])
        device = classifier.mean.device
        u = (images.to(device) - classifier.mean) / classifier.std
        self.u = u.permute(0, 2, 3, 1).reshape(len(images), -1)
        self.per_image = directions.shape[1]
        self.v = (
            directions.to(device)
            .flatten(0, 1)
            .permute(0, 2, 3, 1)
            .reshape(len(images) * self.per_image, -1)
        )

    def probabilities(self, image: Tensor, direction: Tensor, coefficient: Tensor) -> Tensor:
        """Return softmax outputs, S x classes, of S samples given by image, direction and step."""
        device = self.u.device
        image, direction = image.to(device), direction.to(device)
        coefficient = coefficient.to(device).unsqueeze(1)
        channels, height, width = self.shape

        def outputs(rows: slice) -> Tensor:
            with torch.no_grad():
                x = self.u[image[rows]]
                x.addcmul_(
                    coefficient[rows], self.v[image[rows] * self.per_image + direction[rows]]
                )
                x = x.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
                return torch.softmax(self.run(x), dim=1)

        pieces = [slice(start, start + self.size) for start in range(0, len(image), self.size)]
        # Each thread makes the samples of its micro-batch, which stay in its cache.
        if device.type == "cpu":
            return torch.cat(batches.in_threads(outputs, pieces))
        return torch.cat([outputs(rows) for rows in pieces])


def draw_directions(
    images: Tensor, image_ids: Sequence[str], count: int, name: DrawName, draw: int
) -> Tensor:
    """Return the directions of each image for one draw, N x count x C x H x W."""
    return torch.stack(
        [
            random_directions(
                images.shape[1:], count, seed=name.seed, name=name.parts(image_id, draw)
            )
            for image_id in image_ids
        ]
    )


def sweep(
    classifier: Classifier,
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    image_ids: Sequence[str],
    labels: Tensor,
    settings: Sequence[Setting],
    *,
    name: DrawName,
) -> Iterator[Judgement]:
    """Yield what each setting and draw says of the images (softmax vote, centre included).

    Args:
        classifier: gives mean, std, classes and device.
        network: standardised input -> logits, as `fused.evaluator` makes it.
        images: pixels in [0, 1], N x C x H x W.
        image_ids: N names, keys of the draws.
        labels: N true classes.
        settings: each radius and number of directions once.
        name: seed and purpose of the draws.
    """
    for draw in range(max(setting.draws for setting in settings)):
        active = [setting for setting in settings if setting.draws > draw]
        samples = plan(active)
        totals = _average(classifier, network, images, image_ids, samples, name, draw)
        for setting, probability in zip(active, totals, strict=True):
            yield Judgement(setting, draw, *judge(probability, labels, image_ids))


def _average(
    classifier: Classifier,
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    image_ids: Sequence[str],
    samples: Plan,
    name: DrawName,
    draw: int,
) -> list[Tensor]:
    """Return the averaged probabilities of each setting of the plan, N x classes, float64."""
    bytes_per_image = 4 * (
        samples.directions * images[0].numel() + len(samples) * classifier.classes
    )
    group = max(1, GROUP_BYTES[classifier.mean.device.type] // bytes_per_image)
    averages: list[list[Tensor]] = [[] for _ in samples.members]
    for start in range(0, len(images), group):
        part = images[start : start + group]
        directions = draw_directions(
            part, image_ids[start : start + group], samples.directions, name, draw
        )
        around = Samples(classifier, network, part, directions)
        probability = around.probabilities(
            torch.arange(len(part)).repeat_interleave(len(samples)),
            samples.direction.repeat(len(part)),
            samples.coefficient.repeat(len(part)),
        ).reshape(len(part), len(samples), -1)
        for i, positions in enumerate(samples.members.values()):
            chosen = probability[:, positions.to(probability.device)]
            averages[i].append(chosen.double().mean(dim=1).cpu())
    return [torch.cat(parts) for parts in averages]


def judge(
    probability: Tensor, labels: Tensor, image_ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return prediction, p_true and margin of probabilities, N x classes, float64.

    Raises:
        UserError: one is not finite.
    """
    check_finite(probability, image_ids)
    true = probability.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = probability.scatter(1, labels.unsqueeze(1), -1.0).amax(dim=1)
    return probability.argmax(dim=1).numpy(), true.numpy(), (true - others).numpy()


def forwards(settings: Sequence[Setting]) -> int:
    """Return how many forward passes an image takes for all settings and draws."""
    return sum(
        len(plan([setting for setting in settings if setting.draws > draw]))
        for draw in range(max(setting.draws for setting in settings))
    )
