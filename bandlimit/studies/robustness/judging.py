"""What defences say of images on fresh draws: the records of the study `robustness`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from bandlimit.files import store

JUDGED = pa.schema(
    [
        ("image_id", pa.string()),
        ("against", pa.string()),
        ("attack", pa.string()),
        ("epsilon", pa.float64()),
        ("confidence", pa.float64()),
        ("restart", pa.int64()),
        ("label", pa.int64()),
        ("status", pa.string()),
        ("linf", pa.float64()),
        ("draw", pa.int64()),
        ("prediction", pa.int64()),
        ("correct", pa.bool_()),
    ]
)
"""A row per image, attack (and the defence it was made against), epsilon, restart and draw.

Clean images have the attack 'clean' against 'none' at epsilon 0; minimal attacks a null epsilon.
"""

CONTROLS = pa.schema(
    [
        ("image_id", pa.string()),
        ("inputs", pa.string()),
        ("epsilon", pa.float64()),
        ("control", pa.string()),
        ("label", pa.int64()),
        ("draw", pa.int64()),
        ("prediction", pa.int64()),
        ("correct", pa.bool_()),
    ]
)
"""A row per image, input set ('clean' or an attack), control and draw."""

SCALED = pa.schema(
    [
        ("image_id", pa.string()),
        ("attack", pa.string()),
        ("factor", pa.float64()),
        ("defense", pa.string()),
        ("label", pa.int64()),
        ("linf", pa.float64()),
        ("draw", pa.int64()),
        ("prediction", pa.int64()),
        ("correct", pa.bool_()),
    ]
)
"""A row per image, attack, factor of its perturbation, defence and draw."""

SYMPTOMS = pa.schema(
    [
        ("images", pa.int64()),
        ("random_output", pa.bool_()),
        ("largest_difference", pa.float64()),
        ("probability_output", pa.bool_()),
        ("zero_gradients", pa.int64()),
        ("nan_gradients", pa.int64()),
    ]
)
"""One row, of all images; none, where there are no images."""


def rows(
    schema: pa.Schema,
    predictions: np.ndarray,
    labels: torch.Tensor,
    **columns: Any,
) -> pa.Table:
    """Return records of one schema, image by image and draw by draw.

    Args:
        schema: one of this module's.
        predictions: N x draws, int64.
        labels: N true classes.
        **columns: the other columns, one value for all rows or N values.
    """
    count, draws = predictions.shape
    table: dict[str, Any] = {
        "label": np.repeat(labels.numpy(), draws),
        "draw": np.tile(np.arange(draws), count),
        "prediction": predictions.ravel(),
        "correct": (predictions == labels.numpy()[:, None]).ravel(),
    }
    for name, value in columns.items():
        many = isinstance(value, list | np.ndarray)
        table[name] = np.repeat(np.asarray(value, dtype=object), draws).tolist() if many else None
        if not many:
            table[name] = [value] * (count * draws)
    return pa.table({field.name: table[field.name] for field in schema}, schema=schema)


def batches(
    path: str, size: int, keep: frozenset[str] | None = None, names: Sequence[str] = ()
) -> Iterator[tuple[Mapping[str, list[Any]], torch.Tensor, torch.Tensor]]:
    """Yield (columns, labels, images) of adversarial records, `size` rows at a time.

    Args:
        path: records in Parquet.
        size: rows in a batch.
        keep: ids of the images to yield; None for all.
        names: columns to give besides image_id.
    """
    for table in store.batches(path, size, ["image_id", "label", "image", *names]):
        if keep is not None:
            wanted = [name in keep for name in table["image_id"].to_pylist()]
            table = table.filter(pa.array(wanted, pa.bool_()))
        if len(table):
            columns = {name: table[name].to_pylist() for name in ("image_id", *names)}
            labels = torch.from_numpy(table["label"].to_numpy().copy())
            yield columns, labels, torch.from_numpy(store.images_of(table).copy())
