"""Keyed randomness: each random draw has a name, and its name alone decides its value.

A draw is seeded by a hash of (config seed, purpose, dataset, model, image_id, draw, ...), so it
does not depend on batch size, shards, workers or order. Torch is imported only by `generator`.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *name: str | int) -> int:
    """Return the seed, an integer in [0, 2**63), of the draw called `name` under `seed`.

    The parts of the name are hashed as a JSON list, so ("a", "bc") and ("ab", "c") differ.
    """
    text = json.dumps([seed, *name], ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *name: str | int) -> torch.Generator:
    """Return a CPU generator for the draw called `name` under `seed`.

    Draws are made on the CPU also for a run on a GPU, so that both see the same numbers.
    """
    import torch

    return torch.Generator().manual_seed(derive(seed, *name))
