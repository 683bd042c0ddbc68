"""Images of two classes as samples of a function of value -1 and 1."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.files import store


@dataclass(frozen=True, eq=False)
class Samples:
    """R draws of N images to train on and M to validate on, of D pixels.

    Attributes:
        inputs: R x N x D, float32, in [0, 1].
        labels: R x N, -1 or 1.
        validation: R x M x D.
        validation_labels: R x M.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    validation: torch.Tensor
    validation_labels: torch.Tensor


def draw(
    dataset_parquet: str | os.PathLike[str],
    classes: Sequence[int],
    *,
    images: int,
    validation_images: int,
    replicates: int,
    seed: int,
    purpose: str,
) -> Samples:
    """Return images of two classes, drawn anew for each replicate, without repetition in one.

    Args:
        dataset_parquet: file with the columns image and label.
        classes: labels that become -1 and 1.
        images: to train on, N.
        validation_images: M.
        replicates: R.
        seed: of the run.
        purpose: what they are for, part of the key of the draws.

    Raises:
        UserError: the dataset has fewer images of the two classes.
    """
    labels = store.read(dataset_parquet, ["label"])["label"].to_numpy()
    rows = np.flatnonzero(np.isin(labels, list(classes)))
    count = images + validation_images
    if len(rows) < count:
        raise UserError(
            f"The dataset {str(dataset_parquet)!r} must have at least {count} images of the "
            f"classes {' and '.join(map(str, classes))} ('images' and 'validation_images'); it "
            f"has {len(rows)}."
        )
    chosen = np.stack(
        [
            np.random.default_rng(keys.derive(seed, purpose, "images", number)).permutation(rows)
            for number in range(replicates)
        ]
    )[:, :count]
    used, places = np.unique(chosen, return_inverse=True)
    table = store.take(dataset_parquet, used, ["image"])
    pixels = store.images_of(table).reshape(len(used), -1).astype(np.float32) / 255
    places = places.reshape(chosen.shape)
    drawn = torch.from_numpy(pixels[places])
    signs = torch.from_numpy(np.where(labels[chosen] == classes[1], 1, -1).astype(np.float32))
    return Samples(
        drawn[:, :images].contiguous(),
        signs[:, :images].contiguous(),
        drawn[:, images:].contiguous(),
        signs[:, images:].contiguous(),
    )
