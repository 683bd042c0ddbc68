"""Where in the spectrum perturbations lie while a network is trained.

Source: "A frequency domain analysis of gradient-based adversarial examples", section 4.1, figures 2
and 11: the LFC ratio of l2 FGM and PGD on a sample of images, before updates of a training. The
images are the same in each measurement here, so that a curve is of the network alone.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import nn

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.spectral import fourier
from bandlimit.spectral.shells import lfc_ratio, shells, uniform_share
from bandlimit.training.observing import Run, as_used
from bandlimit.training.perturbations import EACH, Perturbation, Pixels
from bandlimit.training.recipes import check

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("loss", pa.float64()),
        ("train_accuracy", pa.float64()),
        ("accuracy", pa.float64()),
        ("attack", pa.string()),
        ("radius", pa.float64()),
        ("uniform", pa.float64()),
        ("ratio", pa.float64()),
        ("deviation", pa.float64()),
        ("images", pa.int64()),
        ("zero", pa.float64()),
    ]
)
"""Columns of a trajectory, a row for each step, attack and radius.

step: updates made before. epoch: step over the steps of an epoch. loss: mean cross-entropy of the
images measured on, in nats. train_accuracy: share classified correctly of the training images since
the previous measurement, as they were trained on; null at step 0. accuracy: share of the images
measured on. ratio: mean over images of the LFC ratio of their perturbations. uniform: the ratio of
a flat spectrum. deviation: standard deviation over the images (over n - 1). images: how many these
two are over; they are null where too few. zero: share of the images whose gradient is 0, which are
left out, like those with a gradient or perturbation that is not finite.
"""

PIECE = 64
"""Images perturbed at once on the CPU, at most, so that their features stay near a core."""

PIECE_ON_A_CARD = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurements:
    """What is measured along a training, when, and on which images.

    Attributes:
        image_ids: names of the N images, which key their draws.
        images: N x C x H x W, uint8, not trained on.
        labels: N, int64.
        perturbations: by the name that the table shows; mappings become a `Perturbation`.
        radii: of the disks whose share of the energy is the LFC ratio, in frequencies, above 0.
        every: measure before each step that is a multiple of it; at least 1.
        steps: measure before these steps too, as `first_steps` gives them. Step 0 and the end are
            always measured.

    Raises:
        UserError: there are no images, perturbations or radii, or one of them is out of range.
    """

    image_ids: Sequence[str]
    images: torch.Tensor
    labels: torch.Tensor
    perturbations: Mapping[str, Perturbation | Mapping[str, Any]]
    radii: Sequence[float]
    every: int | None = None
    steps: Sequence[int] = field(default=())

    def __post_init__(self) -> None:
        if not len(self.image_ids) == len(self.images) == len(self.labels) > 0:
            raise UserError(
                "A trajectory needs as many ids and labels as images, at least 1; "
                f"{len(self.image_ids)} ids, {len(self.labels)} labels and {len(self.images)} "
                "images were given."
            )
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise UserError(
                "The images of a trajectory must be uint8, N x C x H x W; they are "
                f"{str(self.images.dtype).removeprefix('torch.')}, {tuple(self.images.shape)}."
            )
        if not self.perturbations or not self.radii:
            raise UserError(
                "A trajectory needs at least one perturbation and one radius; "
                f"{len(self.perturbations)} and {len(self.radii)} were given."
            )
        for radius in self.radii:
            check("trajectory.radii", radius, "numbers above 0", above=0)
        if self.every is not None:
            allowed = "a whole number of at least 1"
            check("trajectory.every", self.every, allowed, whole=True, low=1)
        for step in self.steps:
            check("trajectory.steps", step, "whole numbers of at least 0", whole=True, low=0)
        made = {
            name: one if isinstance(one, Perturbation) else Perturbation(**one)
            for name, one in self.perturbations.items()
        }
        object.__setattr__(self, "perturbations", made)

    @property
    def made(self) -> dict[str, Perturbation]:
        """The perturbations by name."""
        return {n: one for n, one in self.perturbations.items() if isinstance(one, Perturbation)}

    def at(self, total: int) -> frozenset[int]:
        """Return the steps, from 0 to the number of all steps, before which to measure.

        Raises:
            UserError: a step that was asked for is beyond the last.
        """
        for step in self.steps:
            if step > total:
                raise UserError(
                    f"A trajectory's steps must be at most {total}, the steps of the training; "
                    f"{step} was given."
                )
        regular = range(0, total, self.every) if self.every else ()
        return frozenset({0, total, *regular, *map(int, self.steps)})

    def as_mapping(self) -> dict[str, Any]:
        """Return what determines the measurements, as a mapping that JSON can hold."""
        digest = hashlib.sha256(self.images.contiguous().numpy().data)
        return {
            "image_ids": list(self.image_ids),
            "images": [list(self.images.shape), digest.hexdigest()],
            "labels": self.labels.tolist(),
            "perturbations": {name: asdict(one) for name, one in self.made.items()},
            "radii": list(map(float, self.radii)),
            "every": self.every,
            "steps": list(map(int, self.steps)),
        }


def first_steps(below: int) -> list[int]:
    """Return 0 and the powers of two below a step: dense where a training moves fastest."""
    return [0, *(2**power for power in range(max(0, (below - 1).bit_length())))]


class Observer:
    """Takes measurements of a network in training, on a copy of it.

    How images are cut into pieces depends on their number alone.

    Args:
        network: of the architecture that is trained, on its device.
        measurements: what to measure.
        mean: of each channel, in [0, 1] pixels.
        std: of each channel, in [0, 1] pixels.
        seed: of the draws.
        model_name: names the draws.
        run: how pieces are worked on, like `map`, each on one thread.
    """

    def __init__(
        self,
        network: nn.Module,
        measurements: Measurements,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        model_name: str,
        run: Run = map,
    ) -> None:
        self._empty = copy.deepcopy(network).requires_grad_(False)
        self._measurements = measurements
        self._mean, self._std = mean, std
        self._run = run
        device = next(network.parameters()).device
        images = measurements.images
        shape = images.shape[1:]
        unit = torch.stack(
            [
                torch.rand(shape, generator=keys.generator(seed, "trajectory", model_name, name))
                for name in measurements.image_ids
            ]
        )
        count = len(images)
        largest = PIECE if device.type == "cpu" else PIECE_ON_A_CARD
        # Two at least, for two threads, and equal ones, so that none waits.
        pieces = min(count, max(2, math.ceil(count / largest)))
        columns = (images.float() / 255, measurements.labels, unit * 2 - 1)
        self._pieces = list(
            zip(*(column.to(device).tensor_split(pieces) for column in columns), strict=True)
        )

    def at(self, total: int, per_epoch: int) -> frozenset[int]:
        """Return the steps before which to measure."""
        return self._measurements.at(total)

    def measure(
        self, state: Mapping[str, torch.Tensor], *, step: int, epoch: float, train: float | None
    ) -> list[dict[str, Any]]:
        """Return the rows of a measurement, with the columns of `SCHEMA`.

        Args:
            state: parameters and buffers of the network as it is now.
            step: updates made.
            epoch: the same in epochs.
            train: accuracy on the training images since the previous measurement.
        """
        model = Pixels(as_used(self._empty, state), self._mean, self._std).to(
            self._pieces[0][0].device
        )
        parts = list(self._run(lambda piece: self._of(model, *piece), self._pieces))
        loss, right, energies, zero, finite = map(torch.cat, zip(*parts, strict=True))
        of = shells(self._measurements.images.shape[2:])
        rows = []
        for number, name in enumerate(self._measurements.made):
            sound = finite & torch.isfinite(energies[:, number]).all(dim=1)
            kept = energies[sound & ~zero, number]
            for radius in self._measurements.radii:
                ratios = lfc_ratio(kept, of, radius)
                few = len(ratios)
                rows.append(
                    {
                        "step": step,
                        "epoch": epoch,
                        "loss": loss.mean().item(),
                        "train_accuracy": train,
                        "accuracy": right.double().mean().item(),
                        "attack": name,
                        "radius": float(radius),
                        "uniform": uniform_share(of, radius),
                        "ratio": ratios.mean().item() if few else None,
                        "deviation": ratios.std().item() if few > 1 else None,
                        "images": few,
                        "zero": zero.double().mean().item(),
                    }
                )
        return rows

    def _of(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, unit: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return of each image loss, whether it is right, energies, and whether its gradient is 0.

        Energies are N x attacks x shells; last is whether the gradient is finite.
        """
        with torch.enable_grad():
            pixels = images.clone().requires_grad_()
            logits = model(pixels)
            losses = {one.loss for one in self._measurements.made.values()}
            # Each loss has a gradient of its own, which can be 0 where another's is not.
            gradient = torch.stack(
                [
                    torch.autograd.grad(
                        EACH[loss](logits, labels).sum(), pixels, retain_graph=True
                    )[0]
                    for loss in sorted(losses)
                ],
                dim=1,
            ).flatten(2)
            energies = [
                # In float64, so that the rounding of a transform adds nothing to weak frequencies.
                fourier.energies((one.of(model, images, labels, unit) - images).double())
                for one in self._measurements.made.values()
            ]
        logits = logits.detach()
        loss = F.cross_entropy(logits.double(), labels, reduction="none")
        found = (
            loss,
            # The greatest of NaN is the first class.
            (logits.argmax(dim=1) == labels) & torch.isfinite(logits).all(dim=1),
            torch.stack(energies, dim=1),
            (gradient == 0).all(dim=2).any(dim=1),
            torch.isfinite(gradient).flatten(1).all(dim=1),
        )
        return [column.cpu() for column in found]


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the rows of all measurements as a table of `SCHEMA`."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)
