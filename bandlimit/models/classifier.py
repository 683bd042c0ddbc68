"""Classifiers: pixels in [0, 1] to logits, with equal bits in each call."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches, fold, frozen, micro_batch
from bandlimit.models.device import choose_device
from bandlimit.models.kinds import ARCHITECTURES
from bandlimit.models.weights import (
    COUNTER,
    check_fit,
    check_numbers,
    empty_network,
    read_safetensors,
)

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""How far folding may move logits, as a share of the greatest."""


class Classifier(nn.Module):
    """Pixels in [0, 1], N x C x H x W, to logits, N x classes; the normalisation is inside.

    Attributes:
        network: standardised input -> logits.
        mean: buffer 1 x C x 1 x 1, in pixels.
        std: buffer 1 x C x 1 x 1, in pixels; an L2 radius r in the standardised space of the
            network moves channel c by r * std[c] in pixels.
        shape: channels, height, width of an image.
        classes: number of logits.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        shape: Sequence[int],
        classes: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=dtype).reshape(1, channels, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=dtype).reshape(1, channels, 1, 1))
        self.shape = (channels, height, width)
        self.classes = classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits, N x classes, of pixels in [0, 1], N x C x H x W.

        Raises:
            ValueError: the images have another shape.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"images of shape N x {self.shape} are needed, got {tuple(x.shape)}")
        logits: torch.Tensor = self.network((x - self.mean) / self.std)
        return logits


def load(
    path: str | os.PathLike[str], device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Classifier:
    """Return the classifier of a model file: folded, channels_last, in micro-batches, frozen.

    Args:
        path: a file that `weights.save` or `weights.convert` wrote.
        device: auto, cpu or cuda.
        dtype: of the network; standardisation stays in float32 (float64 for float64).

    Raises:
        UserError: the file is missing or damaged, its metadata is missing, its weights are not of
            the architecture that it names or not finite, the code of that architecture was changed
            since, or the device is not there.
    """
    place = choose_device(device)
    state, metadata = read_safetensors(Path(path))
    try:
        architecture = metadata["architecture"]
        mean, std = json.loads(metadata["mean"]), json.loads(metadata["std"])
        shape, classes = json.loads(metadata["shape"]), int(metadata["classes"])
        known = json.loads(metadata.get("own_code", "null"))
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The file {str(path)!r} is not a model file: {error.args[0]!r} is missing or "
            "malformed in its metadata; the rules of the models make a model file of a weights "
            "file."
        ) from error
    network = empty_network(
        architecture, classes=classes, channels=shape[0], sides=shape[1:], own_code=known
    )
    check_fit(state, network, architecture, path)
    check_numbers(state, path)
    for name in network.state_dict():
        if name.endswith(COUNTER):
            state[name] = torch.tensor(0)
    network.load_state_dict(state, assign=True)
    own = architecture not in ARCHITECTURES
    folded = _like_itself(network, dtype, shape) if own else fold(network, dtype)
    batches = MicroBatches(folded, micro_batch(shape, place), dtype=dtype)
    classifier = Classifier(
        batches,
        mean=mean,
        std=std,
        shape=shape,
        classes=classes,
        dtype=torch.float64 if dtype == torch.float64 else torch.float32,
    )
    return classifier.eval().requires_grad_(False).to(place)


PROBES = 4
"""Images on which a folded network is held against itself."""


def _like_itself(network: nn.Module, dtype: torch.dtype, shape: Sequence[int]) -> nn.Module:
    """Return a network of someone else's folded, or as it is where folding changes its logits."""
    plain = frozen(copy.deepcopy(network), torch.float32)
    folded = fold(network, torch.float32)
    probe = torch.linspace(-2, 2, PROBES * math.prod(shape)).reshape(PROBES, *shape)
    with torch.no_grad():
        wanted, got = plain(probe), folded(probe)
    if wanted.ndim != 2 or len(wanted) != PROBES:
        raise UserError(
            f"A network must return logits, N x classes; of {PROBES} images this one returned "
            f"{tuple(wanted.shape)}."
        )
    reach = wanted.abs().max().item() or 1.0
    if not (wanted - got).abs().max().item() <= TOLERANCE * reach:
        logger.warning("the network runs as it is, since folding BatchNorm changes its logits")
        return plain.to(dtype)
    return folded.to(dtype)
