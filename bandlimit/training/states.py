"""A training that was stopped goes on: its state in one file, kept every so often.

The file is safetensors, with JSON in its metadata; nothing in it can run. It names the training it
belongs to, and a digest of all that it holds, so that neither another training's state nor a
damaged one is taken up.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from bandlimit.errors import UserError
from bandlimit.files import attempts, parts, store
from bandlimit.models import weights

logger = logging.getLogger(__name__)


KEPT = "kept"
"""Begins the names of the tensors of networks that are done, or were kept on the way."""


@dataclass
class Progress:
    """What a training has come to, besides its tensors.

    Attributes:
        seed: number of the network that is trained now, from 1.
        epochs: how many of its epochs are done.
        batches: how many batches of the next epoch are done.
        loss: sum of the mean losses of these.
        right: how many of their images were classified correctly.
        history: a row for each epoch of each network.
        measured: rows of what was measured, by the name of the observer.
        seen: training images of this network since the last measurement of an observer, and how
            many of them were classified correctly.
    """

    seed: int = 1
    epochs: int = 0
    batches: int = 0
    loss: float = 0.0
    right: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    measured: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)

    def begin(self, seed: int) -> None:
        """Go on to a network that is not trained yet."""
        self.seed, self.epochs, self.seen = seed, 0, {}
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Go on to an epoch of which no batch is done."""
        self.batches, self.loss, self.right = 0, 0.0, 0

    def saw(self, observer: str, images: int, correct: int) -> None:
        """Count the images of a step."""
        before = self.seen.get(observer, [0, 0])
        self.seen[observer] = [before[0] + images, before[1] + correct]

    def accuracy(self, observer: str) -> float | None:
        """Return the share that was correct since this was last asked; None of no images."""
        images, correct = self.seen.pop(observer, [0, 0])
        return correct / images if images else None


def networks(tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of the networks that a state has kept, by their names."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == KEPT:
            network, _, name = rest.partition("/")
            found.setdefault(network, {})[name] = tensor
    return found


def of_networks(kept: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the tensors, by name, from which `networks` returns these networks."""
    return {
        f"{KEPT}/{network}/{name}": tensor
        for network, state in kept.items()
        for name, tensor in state.items()
    }


def identity(facts: Mapping[str, Any], certificate: Mapping[str, Any] | None = None) -> str:
    """Return the digest of what determines a training's result, as 64 hexadecimal digits.

    Args:
        facts: what it is of; must be representable as JSON.
        certificate: of the job, if it is one: a state that other code or versions, or another card,
            came to would be finished under the name of these.
    """
    whole = [facts, parts.identity(certificate or {})]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def save(
    path: str | os.PathLike[str],
    identity: str,
    progress: Progress,
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Write a state, atomically.

    Args:
        path: the file.
        identity: of the training.
        progress: what it has come to.
        tensors: by name.

    Raises:
        UserError: the folder can't be written.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # `asdict` would copy each of the many rows.
    text = json.dumps(vars(progress))
    metadata = {"identity": identity, "progress": text, "digest": _digest(identity, text, kept)}
    with store.atomic(path) as temporary:
        safetensors.torch.save_file(kept, temporary, metadata=metadata)


def load(
    path: str | os.PathLike[str], identity: str
) -> tuple[Progress, dict[str, torch.Tensor]] | None:
    """Return the state of a training, or None where there is none, with a word why in the log."""
    path = Path(path)
    store.remove_halves(path)
    if not path.exists():
        return None
    try:
        tensors, metadata = weights.read_safetensors(path)
        found, text = metadata["identity"], metadata["progress"]
        if metadata["digest"] != _digest(found, text, tensors):
            raise ValueError("its content is not what was written")
        progress = Progress(**json.loads(text))
    except (UserError, KeyError, TypeError, ValueError) as error:
        logger.warning("the state of a training in %s is damaged and not used: %s", path, error)
        return None
    if found != identity:
        logger.info("the state in %s is of another training and not used", path)
        return None
    return progress, tensors


def remove(path: str | os.PathLike[str]) -> None:
    """Remove the state of a training of which all is written.

    Raises:
        attempts.Superseded: a newer attempt has begun, whose state it may be.
    """
    with attempts.newest():
        Path(path).unlink(missing_ok=True)


def _digest(identity: str, text: str, tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps([identity, text]).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
