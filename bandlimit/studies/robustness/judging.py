"""What defences say of images on fresh draws: the records of the study `robustness`.

Draws are spent where a verdict is open. An image's draws end when those to come can't change what
most of them say, so that an image on which all agree takes little more than half of them. The
column `draws` says how many were planned; `rates.Cube.shares` is a mean without the bias of ending
early.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.studies.robustness.draws import settled

if TYPE_CHECKING:
    from bandlimit.defenses.base import Defense, Stop

NOT_DRAWN = -1
"""The prediction of a draw that was not needed."""

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
        ("draws", pa.int64()),
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
        ("draws", pa.int64()),
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
        ("draws", pa.int64()),
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


def drawn(
    defense: Defense,
    images: torch.Tensor,
    image_ids: Sequence[str],
    labels: torch.Tensor,
    *,
    draws: int,
    stop: Stop,
    error: float,
) -> np.ndarray:
    """Return what a defence predicts of images, N x draws, int64; `NOT_DRAWN` once it is settled.

    Which draws an image takes depends on itself alone. A defence that does not draw says the same
    in each, and takes one.

    Args:
        defense: the defence, with its draws named for judging.
        images: pixels in [0, 1], N x C x H x W.
        image_ids: N names, keys of the draws.
        labels: N true classes.
        draws: the most that an image takes.
        stop: when a defence that averages samples may end a draw early.
        error: of a sequential end, per image and draw.
    """
    count = draws if defense.random else 1
    right, wrong = settled(count)
    found = np.full((len(images), count), NOT_DRAWN, dtype=np.int64)
    truth = labels.numpy()[:, None]
    least = min(right, wrong, count)
    open_ = np.arange(len(images))
    for numbers in (range(least), *((draw,) for draw in range(least, count))):
        if not len(open_):
            break
        names = [image_ids[int(i)] for i in open_]
        said = defense.predict(images[open_], names, numbers, stop=stop, error=error)
        found[open_, numbers[0] : numbers[-1] + 1] = said
        taken = found[open_]
        hits = (taken == truth[open_]).sum(axis=1)
        misses = (taken != NOT_DRAWN).sum(axis=1) - hits
        open_ = open_[(hits < right) & (misses < wrong)]
    return found


def rows(
    schema: pa.Schema,
    predictions: np.ndarray,
    labels: torch.Tensor,
    **columns: Any,
) -> pa.Table:
    """Return records of one schema, image by image and draw by draw, of the draws that were taken.

    Args:
        schema: one of this module's.
        predictions: N x draws, int64.
        labels: N true classes.
        **columns: the other columns, one value for all rows or N values.
    """
    count, draws = predictions.shape
    table: dict[str, Any] = {
        "label": np.repeat(labels.numpy(), draws),
        "draws": np.full(count * draws, draws),
        "draw": np.tile(np.arange(draws), count),
        "prediction": predictions.ravel(),
        "correct": (predictions == labels.numpy()[:, None]).ravel(),
    }
    for name, value in columns.items():
        many = isinstance(value, list | np.ndarray)
        table[name] = np.repeat(np.asarray(value, dtype=object), draws).tolist() if many else None
        if not many:
            table[name] = [value] * (count * draws)
    full = pa.table({field.name: table[field.name] for field in schema}, schema=schema)
    return full.filter(pa.array(predictions.ravel() != NOT_DRAWN))


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


def successes(
    path: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    size: int,
    *,
    shard: str,
    keep: frozenset[str] | None = None,
) -> Iterator[tuple[list[str], torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield (ids, labels, clean images, adversarial images) of successes, in the records' order.

    Args:
        path: adversarial records in Parquet, of a minimal attack.
        dataset: file of the clean images.
        size: images in flight; memory, not results.
        shard: the part of the dataset that was attacked, such as '2of8'.
        keep: ids of the images to yield; None for all.

    Raises:
        UserError: a file can't be read, or they don't fit each other.
    """
    clean = stream.Beside(dataset, path, size, shard, keep)
    for columns, labels, images in batches(str(path), size, keep, ["success"]):
        won = torch.tensor(columns["success"])
        ids = [name for name, row in zip(columns["image_id"], won, strict=True) if row]
        if ids:
            yield ids, labels[won], clean(ids), images[won]
