"""Accuracy on images and on their low and high frequencies while a network is trained.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", sections 4 to 6: the curves of training and test accuracy, on images and on their
components at several radii, of figures 3 to 6.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import nn

from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches, micro_batch
from bandlimit.spectral.components import PARTS, component
from bandlimit.training.observing import Run, as_used
from bandlimit.training.recipes import Component, check

SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("images", pa.string()),
        ("part", pa.string()),
        ("radius", pa.float64()),
        ("count", pa.int64()),
        ("accuracy", pa.float64()),
        ("loss", pa.float64()),
        ("chosen", pa.string()),
        ("correct", pa.list_(pa.bool_())),
    ]
)
"""Columns of curves, a row for each network, step and set of images.

seed: number of the network, from 1. step: updates made before. epoch: step over the steps of an
epoch. images: train or test. part: full, low or high. radius: of the disk of low frequencies; null
for full. count: images in the set. accuracy: share of them classified correctly. loss: mean
cross-entropy, in nats. chosen: digest of the whole images, in order: sets of one digest are of the
same images, whatever their labels. correct: whether each is classified correctly, in that order, so
that networks can be compared image by image.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """What curves are of: images as their dataset files hold them, and radii of components.

    Attributes:
        images: N x C x H x W, uint8, not trained on.
        labels: N, int64.
        train_images: M x C x H x W, uint8, of the training images.
        train_labels: M, int64.
        radii: of the components of the test images.
        train_radii: of those of the training images.
        every: epochs between measurements, at least 1; step 0, the first epoch and the end are
            always measured.
        strict: whether the border of a disk is high.
        scale: of components, maximum or none.

    Raises:
        UserError: there are no images, they are of another kind, or a number is out of range.
    """

    images: torch.Tensor
    labels: torch.Tensor
    train_images: torch.Tensor
    train_labels: torch.Tensor
    radii: Sequence[float]
    train_radii: Sequence[float] = ()
    every: int = 1
    strict: bool = False
    scale: str = "maximum"

    def __post_init__(self) -> None:
        sets = ((self.images, self.labels), (self.train_images, self.train_labels))
        for images, labels in sets:
            fits = images.dtype == torch.uint8 and images.dim() == 4
            if not (fits and len(images) == len(labels) > 0):
                raise UserError(
                    "Images of curves must be uint8, N x C x H x W, with N labels, at least 1; "
                    "they are "
                    f"{str(images.dtype).removeprefix('torch.')}, {tuple(images.shape)}, with "
                    f"{len(labels)} labels."
                )
        allowed = "a whole number of at least 1"
        check("curves.every", self.every, allowed, whole=True, low=1)
        for radius in (*self.radii, *self.train_radii):
            # Radius, switch and scale are checked as those of a recipe are.
            Component(part=PARTS[0], radius=radius, strict=self.strict, scale=self.scale)

    def as_mapping(self) -> dict[str, Any]:
        """Return what determines the curves, as a mapping that JSON can hold."""
        digest = hashlib.sha256()
        for images in (self.images, self.train_images):
            digest.update(images.contiguous().numpy().data)
        return {
            "images": [list(self.images.shape), list(self.train_images.shape), digest.hexdigest()],
            "labels": [self.labels.tolist(), self.train_labels.tolist()],
            "radii": [list(map(float, self.radii)), list(map(float, self.train_radii))],
            "every": self.every,
            "strict": self.strict,
            "scale": self.scale,
        }


class _Set(NamedTuple):
    """A set of images: train or test, digest, its part and radius, labels, standardised pixels."""

    images: str
    chosen: str
    part: str
    radius: float | None
    labels: torch.Tensor
    pixels: torch.Tensor


class Sets:
    """The images of curves and their components, made once for all networks and measurements.

    Args:
        curves: what they are of.
        mean: of each channel, in [0, 1] pixels.
        std: of each channel, in [0, 1] pixels.
        device: where they are measured on.

    Attributes:
        every: epochs between measurements.
        size: images in each pass of a network.
    """

    def __init__(
        self, curves: Curves, mean: Sequence[float], std: Sequence[float], device: torch.device
    ) -> None:
        self.every = curves.every
        self.size = micro_batch(curves.images.shape[1:], device)
        self._sets: list[_Set] = []
        centre, scale = (
            torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (mean, std)
        )
        for name, images, labels, radii in (
            ("train", curves.train_images, curves.train_labels, curves.train_radii),
            ("test", curves.images, curves.labels, curves.radii),
        ):
            pixels = images.float() / 255
            chosen = hashlib.sha256(images.contiguous().numpy().data)
            made: list[tuple[str, float | None, torch.Tensor]] = [("full", None, pixels)]
            for part in PARTS:
                for radius in radii:
                    found = component(
                        pixels, part=part, radius=radius, strict=curves.strict, scale=curves.scale
                    )
                    made.append((part, float(radius), found))
            self._sets += [
                _Set(
                    name,
                    chosen.hexdigest(),
                    part,
                    radius,
                    labels,
                    ((own - centre) / scale).to(device),
                )
                for part, radius, own in made
            ]

    def measured(self, batches: MicroBatches, run: Run) -> list[dict[str, Any]]:
        """Return a row for each set, without what tells of the network."""
        pieces = [piece for one in self._sets for piece in batches.cut(one.pixels)]
        logits = torch.cat([part.cpu() for part in run(batches.run, pieces)]).double()
        rows = []
        for one, own in zip(
            self._sets, logits.split([len(one.labels) for one in self._sets]), strict=True
        ):
            # The greatest of NaN is the first class.
            correct = (own.argmax(1) == one.labels) & torch.isfinite(own).all(dim=1)
            rows.append(
                {
                    "images": one.images,
                    "part": one.part,
                    "radius": one.radius,
                    "count": len(one.labels),
                    "accuracy": correct.double().mean().item(),
                    "loss": F.cross_entropy(own, one.labels).item(),
                    "chosen": one.chosen,
                    # A letter for each image, in a state of a training that is saved each epoch.
                    "correct": "".join("1" if is_right else "0" for is_right in correct.tolist()),
                }
            )
        return rows


class Observer:
    """Measures a network in training on all sets, on a copy of it.

    Passes are those of `bandlimit.models.classifier.load`, of one size whatever the number of
    images, so that the last measurement is what the saved model gives.

    Args:
        network: of the architecture that is trained, on its device.
        sets: what to measure on.
        seed: number of the network.
        run: how pieces are worked on, like `map`, each on one thread.
    """

    def __init__(self, network: nn.Module, sets: Sets, *, seed: int, run: Run = map) -> None:
        self._empty = copy.deepcopy(network).requires_grad_(False)
        self._sets, self._seed, self._run = sets, seed, run

    def at(self, total: int, per_epoch: int) -> frozenset[int]:
        """Return the steps before which to measure."""
        # The first epoch is what the document speaks of, however seldom later ones are measured.
        return frozenset({total, per_epoch, *range(0, total, self._sets.every * per_epoch)})

    def measure(
        self, state: Mapping[str, torch.Tensor], *, step: int, epoch: float, train: float | None
    ) -> list[dict[str, Any]]:
        """Return the rows of a measurement, which `table` takes; see the protocol."""
        batches = MicroBatches(as_used(self._empty, state), self._sets.size)
        told = {"seed": self._seed, "step": step, "epoch": epoch}
        return [told | row for row in self._sets.measured(batches, self._run)]


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the rows of all measurements as a table of `SCHEMA`."""
    each = [{**row, "correct": [letter == "1" for letter in row["correct"]]} for row in rows]
    return pa.Table.from_pylist(each, schema=SCHEMA)
