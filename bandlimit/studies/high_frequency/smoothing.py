"""Networks with smoothed first-layer kernels, clean and attacked.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", section 6.3, eq. 3 and Table 2. The document attacks with FGSM and PGD on the
cross-entropy. Raw smoothing multiplies what the first layer sees of frequency 0 by 1 + 8 rho, and
with it the logits of a network without BatchNorm: its cross-entropy saturates and hides gradients.
So each rho is also asked with kernels divided by that gain, and each PGD also on the margin, which
does not saturate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from eagerpy.astensor import astensor
from foolbox.criteria import Misclassification
from torch import Tensor

from bandlimit import keys
from bandlimit.attacks.adaptive.gradient import margin
from bandlimit.attacks.base import (
    Watched,
    device_of,
    exact_arithmetic,
    foolbox_model,
    loss_gradient,
    sound,
)
from bandlimit.attacks.fixed import FGSM, PGD
from bandlimit.attacks.records import Batch, check_labels
from bandlimit.models.classifier import Classifier
from bandlimit.training.descents import KeyedStart

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.int64()),
        ("rho", pa.float64()),
        ("normalized", pa.bool_()),
        ("attack", pa.string()),
        ("loss", pa.string()),
        ("epsilon", pa.float64()),
        ("prediction", pa.int64()),
        ("correct", pa.bool_()),
        ("zero", pa.bool_()),
    ]
)
"""A row per image, smoothing and attack. `correct`: right as it is and right after the attack; an
attack that met a value that is not finite shows nothing, and its image does not count as right.
`zero`: whether the gradient of the cross-entropy at the image is 0 throughout in float32."""

CLEAN, CROSS_ENTROPY, MARGIN = "clean", "cross_entropy", "margin"


@dataclass(frozen=True)
class Attacks:
    """The attacks on smoothed kernels.

    Attributes:
        epsilons: l_inf bounds, in [0, 1] pixels.
        steps: of PGD.
        rel_stepsize: of a step, in epsilon.
    """

    epsilons: Sequence[float]
    steps: int
    rel_stepsize: float


class _Margin(KeyedStart):
    """PGD on the margin of the logits."""

    def get_loss_fn(self, model: Any, labels: Any) -> Callable[[Any], Any]:
        return lambda inputs: astensor(margin(model(inputs).raw, labels.raw).sum())


def evaluate(
    model: Classifier,
    smoothed: Callable[[float, bool], torch.nn.Module],
    batches: Iterable[Batch],
    rhos: Sequence[float],
    attacks: Attacks,
    *,
    seed: int,
    dataset: str,
    model_name: str,
) -> Iterator[pa.Table]:
    """Yield what networks with smoothed kernels say, a table of `SCHEMA` per batch.

    Args:
        model: the network as it was trained.
        smoothed: returns it with smoothed kernels, of rho and whether they are normalised.
        batches: image ids, labels, images.
        rhos: weights of the neighbours; the network without smoothing comes first.
        attacks: that each of them meets.
        seed: keys the start of PGD, with the names and the image id.
        dataset: name of the dataset.
        model_name: name of the model.

    Raises:
        UserError: a label is no class of the model.
    """
    device = device_of(model)
    networks: list[tuple[float, bool, torch.nn.Module]] = [(0.0, False, model)]
    networks += [(rho, by, smoothed(rho, by)) for rho in rhos for by in (False, True)]
    for image_ids, labels, images in batches:
        if not len(image_ids):
            continue
        labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        images = images.to(device)
        check_labels(image_ids, labels, model.classes)
        unit = torch.stack(
            [_start(seed, (dataset, model_name, name), images) for name in image_ids]
        )
        rows = []
        with exact_arithmetic():
            for rho, by, network in networks:
                network = network.eval()
                zero = _zero(network, images, labels)
                _, clean = _right(network, images, labels)
                for attack, loss, bound, shown, broken in _attacked(
                    network, images, labels, unit, attacks
                ):
                    prediction, right = _right(network, shown, labels)
                    rows.append(
                        pa.Table.from_pydict(
                            {
                                "image_id": list(image_ids),
                                "label": labels.tolist(),
                                "rho": [rho] * len(images),
                                "normalized": [by] * len(images),
                                "attack": [attack] * len(images),
                                "loss": [loss] * len(images),
                                "epsilon": [bound] * len(images),
                                "prediction": prediction.tolist(),
                                "correct": (right & clean & ~broken).tolist(),
                                "zero": zero.tolist(),
                            },
                            schema=SCHEMA,
                        )
                    )
        yield pa.concat_tables(rows)


def _attacked(
    network: torch.nn.Module, images: Tensor, labels: Tensor, unit: Tensor, attacks: Attacks
) -> Iterator[tuple[str, str | None, float | None, Tensor, Tensor]]:
    """Yield attack, loss, bound, images and whether it broke, the images as they are first."""
    yield CLEAN, None, None, images, torch.zeros_like(labels, dtype=torch.bool)

    def noise(i: int, draw: int) -> Tensor:
        return unit[i]

    for bound in attacks.epsilons:
        found = FGSM().perturb(network, images, labels, noise, bound)
        yield "fgsm", CROSS_ENTROPY, bound, found.images, found.broken
        found = PGD(steps=attacks.steps, rel_stepsize=attacks.rel_stepsize).perturb(
            network, images, labels, noise, bound
        )
        yield "pgd", CROSS_ENTROPY, bound, found.images, found.broken
        watched = Watched(network, labels, until_adversarial=False)
        attack = _Margin(unit, steps=attacks.steps, rel_stepsize=attacks.rel_stepsize)
        shown = attack.run(
            foolbox_model(watched, images), images, Misclassification(labels), epsilon=bound
        )
        yield "pgd", MARGIN, bound, shown, watched.broken


def _zero(network: torch.nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    _, gradient = loss_gradient(network, images, labels)
    return (gradient == 0).flatten(1).all(dim=1)


@torch.no_grad()
def _right(network: torch.nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = network(images)
    prediction = logits.argmax(dim=1)
    return prediction, (prediction == labels) & sound(logits)


def _start(seed: int, names: Sequence[str], images: Tensor) -> Tensor:
    """Return the start of PGD on an image, uniform in [-1, 1), of its own key."""
    generator = keys.generator(seed, "smoothing start", *names, 0)
    return (torch.rand(images.shape[1:], generator=generator) * 2 - 1).to(images.device)
