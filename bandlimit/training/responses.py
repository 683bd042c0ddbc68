"""What networks answer to the same images while they are trained: a record of their responses.

Source: Xu, Zhang, Luo, Xiao and Ma 2019, "Frequency Principle: Fourier Analysis Sheds Light on Deep
Neural Networks", which compares the Fourier transform of a network's outputs with that of the
labels, epoch by epoch. The frequency is that of the function from images to outputs, not that of
the pixels.
"""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches, micro_batch
from bandlimit.training.observing import Run, as_used
from bandlimit.training.recipes import check
from bandlimit.training.trajectories import first_steps

SCHEMA = pa.schema(
    [
        ("seed", pa.int64()),
        ("step", pa.int64()),
        ("epoch", pa.float64()),
        ("image_id", pa.string()),
        ("outputs", pa.list_(pa.float32())),
    ]
)
"""Columns of responses, a row for each network, step and image.

seed: number of the network, from 1. step: updates made before. epoch: step over the steps of an
epoch. image_id: of the image. outputs: what the loss compares with the one-hot label, a number per
class: softmax probabilities under the cross-entropy, the logits themselves under the squared error.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Responses:
    """Which images a network is shown along its training, and when.

    Attributes:
        image_ids: names of the N images.
        images: N x C x H x W, uint8.
        every: epochs between measurements, at least 1. Step 0, the powers of two within the first
            epoch, where a training moves fastest, its end and the end of all are always measured.
        loss: of the training, cross_entropy or mse, which decides what the outputs are. Logits
            under the cross-entropy have no target: they grow for ever, while probabilities come to
            the one-hot labels, so that their difference is an error.

    Raises:
        UserError: there are no images, they are of another kind, or a number is out of range.
    """

    image_ids: Sequence[str]
    images: torch.Tensor
    every: int = 1
    loss: str = "cross_entropy"

    def __post_init__(self) -> None:
        fits = self.images.dtype == torch.uint8 and self.images.dim() == 4
        if not (fits and len(self.images) == len(self.image_ids) > 0):
            raise UserError(
                "Images of responses must be uint8, N x C x H x W, with N ids, at least 1; they "
                f"are {str(self.images.dtype).removeprefix('torch.')}, "
                f"{tuple(self.images.shape)}, with {len(self.image_ids)} ids."
            )
        check("responses.every", self.every, "a whole number of at least 1", whole=True, low=1)

    def as_mapping(self) -> dict[str, Any]:
        """Return what determines the record, as a mapping that JSON can hold."""
        digest = hashlib.sha256(self.images.contiguous().numpy().data)
        return {
            "image_ids": list(self.image_ids),
            "images": [list(self.images.shape), digest.hexdigest()],
            "every": self.every,
            "loss": self.loss,
        }


class Observer:
    """Records the outputs of a network in training, on a copy of it.

    Passes are of one size whatever the number of images, so that the last record is what the saved
    model gives.

    Args:
        network: of the architecture that is trained, on its device.
        responses: what to record.
        mean: of each channel, in [0, 1] pixels.
        std: of each channel, in [0, 1] pixels.
        seed: number of the network.
        run: how pieces are worked on, like `map`, each on one thread.
    """

    def __init__(
        self,
        network: nn.Module,
        responses: Responses,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        run: Run = map,
    ) -> None:
        self._empty = copy.deepcopy(network).requires_grad_(False)
        self._every, self._loss = responses.every, responses.loss
        self._seed, self._run = seed, run
        device = next(network.parameters()).device
        centre, scale = (
            torch.tensor(v, dtype=torch.float32).view(1, -1, 1, 1) for v in (mean, std)
        )
        self._pixels = ((responses.images.float() / 255 - centre) / scale).to(device)
        self._size = micro_batch(responses.images.shape[1:], device)

    def at(self, total: int, per_epoch: int) -> frozenset[int]:
        """Return the steps before which to measure."""
        regular = range(0, total, self._every * per_epoch)
        return frozenset({total, per_epoch, *first_steps(per_epoch), *regular})

    def measure(
        self, state: Mapping[str, torch.Tensor], *, step: int, epoch: float, train: float | None
    ) -> list[dict[str, Any]]:
        """Return one row with the outputs of all images as text, for `table`; see the protocol.

        Text, since the state of a training that was stopped keeps its rows as JSON, in which so
        many numbers would take longer than the training.
        """
        batches = MicroBatches(as_used(self._empty, state), self._size)
        pieces = self._run(batches.run, batches.cut(self._pixels))
        outputs = torch.cat([piece.cpu() for piece in pieces]).double()
        if self._loss == "cross_entropy":
            outputs = outputs.softmax(1)
        packed = base64.b64encode(outputs.numpy().astype("<f4").tobytes()).decode("ascii")
        return [{"seed": self._seed, "step": step, "epoch": epoch, "outputs": packed}]


def table(rows: Sequence[Mapping[str, Any]], image_ids: Sequence[str]) -> pa.Table:
    """Return the rows of all measurements of these images as a table of `SCHEMA`."""
    count = len(image_ids)
    outputs = np.concatenate(
        [np.frombuffer(base64.b64decode(row["outputs"]), dtype="<f4") for row in rows]
    )
    classes = len(outputs) // (len(rows) * count)
    columns: dict[str, Any] = {
        name: np.repeat([row[name] for row in rows], count) for name in ("seed", "step", "epoch")
    }
    columns["image_id"] = list(image_ids) * len(rows)
    offsets = np.arange(0, len(outputs) + 1, classes, dtype=np.int32)
    columns["outputs"] = pa.ListArray.from_arrays(offsets, outputs)
    return pa.table(columns, schema=SCHEMA)
