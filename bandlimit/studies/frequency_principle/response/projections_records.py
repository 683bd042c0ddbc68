"""What networks in training answered to images, beside the labels and the pixels of these."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.statistics import quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answers:
    """Outputs of S networks at T steps to N images of C classes.

    Attributes:
        steps: T, updates made before.
        epochs: T, the same in epochs.
        outputs: S x T x N x C.
        labels: N x C, one-hot.
        pixels: N x D, in [0, 1].
    """

    steps: NDArray[np.int64]
    epochs: Floats
    outputs: Floats
    labels: Floats
    pixels: Floats


def read(
    responses_parquet: str | os.PathLike[str], dataset_parquet: str | os.PathLike[str]
) -> Answers:
    """Return the outputs of a record of `bandlimit.training.responses`, and their images.

    Raises:
        UserError: a file is missing or damaged, or the dataset lacks an image of the record.
    """
    table = store.read(responses_parquet)
    seeds = np.unique(table["seed"].to_numpy())
    steps, first = np.unique(table["step"].to_numpy(), return_index=True)
    count = len(table) // (len(seeds) * len(steps))
    image_ids = table["image_id"].slice(0, count).to_pylist()
    values = table["outputs"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    outputs = values.astype(np.float64).reshape(len(seeds), len(steps), count, -1)

    known = store.read(dataset_parquet, ["image_id"])["image_id"].to_pylist()
    places = {name: row for row, name in enumerate(known)}
    missing = [name for name in image_ids if name not in places]
    if missing:
        raise UserError(
            f"The images of {str(dataset_parquet)!r} must have those of "
            f"{str(responses_parquet)!r}; {missing[0]!r} is not there."
        )
    rows = [places[name] for name in image_ids]
    images = store.take(dataset_parquet, rows, ["label", "image"])
    labels = images["label"].to_numpy()
    return Answers(
        steps=steps,
        epochs=table["epoch"].to_numpy()[first],
        outputs=outputs,
        labels=np.eye(outputs.shape[-1])[labels],
        pixels=store.images_of(images).reshape(count, -1) / 255.0,
    )


def read_all(responses: Sequence[str], datasets: Sequence[str]) -> list[Answers]:
    """Return `read` of each record, with its dataset in the same place."""
    return [read(*pair) for pair in zip(responses, datasets, strict=True)]


def over_seeds(values: Floats) -> tuple[float, float | None, float | None]:
    """Return the mean of values of several networks and its 95% interval by Student's t.

    Nulls are left out: the mean of none is NaN, and one value has no interval.
    """
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return (float(known[0]) if len(known) else float("nan")), None, None
    mean = float(known.mean())
    reach = float(quantile(0.95, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
    return mean, mean - reach, mean + reach


def names_of(network: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that say whose rows these are, the same in all tables."""
    return {key: network[key] for key in ("dataset", "model", "case")}
