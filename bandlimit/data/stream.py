"""From a dataset file to tensors: whole, in batches, in shards, or a seeded choice of images.

Who only draws takes arrays, which need no torch.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bandlimit import keys
from bandlimit.data.source import COLUMNS
from bandlimit.errors import UserError
from bandlimit.files import store

if TYPE_CHECKING:
    import torch

Triple = tuple[list[str], "torch.Tensor", "torch.Tensor"]
"""Image ids, labels (N, int64), images (N x C x H x W, float32 in [0, 1])."""

Arrays = tuple[list[str], NDArray[np.int64], NDArray[np.float32]]
"""The same, in NumPy."""


def subset(name: str, image_ids: Sequence[str], images: int | None, seed: int) -> Sequence[int]:
    """Return the rows of a seeded choice of images, ascending; a larger choice contains a smaller.

    Raises:
        UserError: there are fewer images.
    """
    there = len(image_ids)
    if images is None:
        return range(there)
    if not 1 <= images <= there:
        raise UserError(
            f"A subset of {images} images of the dataset {name!r} was asked for; "
            f"it has {there}: allowed is 1 to {there}."
        )
    hashes = (
        (keys.derive(seed, "subset", name, image_id), row) for row, image_id in enumerate(image_ids)
    )
    return sorted(row for _, row in heapq.nsmallest(images, hashes))


def load(path: str | os.PathLike[str]) -> Triple:
    """Read a dataset file whole: (image_ids, labels N int64, images N x C x H x W in [0, 1]).

    Raises:
        UserError: the file is missing or damaged, or has a column missing.
    """
    return _tensors(_arrays(store.read(path, COLUMNS)))


def check_shape(path: str | os.PathLike[str], shape: Sequence[int]) -> None:
    """Check that the images of a file are what a model takes.

    Raises:
        UserError: they are of another shape.
    """
    found = store.image_shape(path)
    if found != tuple(shape):
        raise UserError(
            f"The images of {str(path)!r} have the shape {found}, but the model takes "
            f"{tuple(shape)}; resize or crop them, or choose another model."
        )


def chosen(
    path: str | os.PathLike[str], images: int | None, *, name: str, seed: int
) -> frozenset[str] | None:
    """Return the ids of a seeded choice of images of a dataset; None for all of them.

    A larger choice contains a smaller one.

    Args:
        path: a dataset in Parquet.
        images: how many; None for all.
        name: the dataset's name.
        seed: the configured seed.

    Raises:
        UserError: the dataset has fewer images, or can't be read.
    """
    if images is None:
        return None
    image_ids = store.read(path, ["image_id"])["image_id"].to_pylist()
    return frozenset(image_ids[row] for row in subset(name, image_ids, images, seed))


class Beside:
    """The clean images of records that name them in the order of their dataset, a batch at a time.

    An image may be asked for again, until `size` others have come after it: records of one image at
    several bounds, or of a batch perturbed in several ways, follow each other.

    Args:
        dataset: file of the clean images.
        records: file of the records, for what is said where the two don't fit.
        size: images in flight; memory, not results.
        shard: the part of the dataset that the records are of, such as '2of8'.
        keep: ids of the images that they may be of; None for all.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        records: str | os.PathLike[str],
        size: int,
        shard: str = "1of1",
        keep: frozenset[str] | None = None,
    ) -> None:
        self._records, self._size = records, size
        self._coming = (
            single
            for ids, _, images in batches(dataset, size, shard, keep)
            for single in zip(ids, images, strict=True)
        )
        self._held: dict[str, torch.Tensor] = {}

    def __call__(self, ids: Sequence[str]) -> torch.Tensor:
        """Return the images of these ids, of which there is at least one, N x C x H x W.

        Raises:
            UserError: the dataset can't be read, does not have an image, or has another order.
        """
        import torch

        return torch.stack([self._image(image_id) for image_id in ids])

    def _image(self, wanted: str) -> torch.Tensor:
        if wanted not in self._held:
            image = next((image for image_id, image in self._coming if image_id == wanted), None)
            if image is None:
                raise UserError(
                    f"The file {str(self._records)!r} has a record of image {wanted!r}, which its "
                    "dataset does not have, or has in another order."
                )
            # A part of a batch would keep all of it in memory.
            self._held[wanted] = image.clone()
            if len(self._held) > self._size:
                del self._held[next(iter(self._held))]
        return self._held[wanted]


def batches(
    path: str | os.PathLike[str],
    size: int,
    shard: str = "1of1",
    keep: frozenset[str] | None = None,
) -> Iterator[Triple]:
    """Yield triples as `load` gives them, `size` images at a time (the last may be fewer).

    Arguments and errors are those of `arrays`.
    """
    return map(_tensors, arrays(path, size, shard, keep))


def arrays(
    path: str | os.PathLike[str],
    size: int,
    shard: str = "1of1",
    keep: frozenset[str] | None = None,
) -> Iterator[Arrays]:
    """Yield triples of arrays, `size` images at a time (the last may be fewer).

    The shard "kofn" holds the rows i with i mod n = k - 1; together the n shards hold each row
    once. Memory is bounded by `size`, not by the dataset. With `keep`, only these images.

    Raises:
        UserError: the shard is malformed, or the file is missing, damaged or without a column.
        ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}, at least 1 is needed")
    match = re.fullmatch(r"([1-9]\d*)of([1-9]\d*)", shard)
    if not match or int(match[1]) > int(match[2]):
        raise UserError(
            f"The shard {shard!r} is malformed; allowed is 'kofn' with k in 1..n, such as '2of8'."
        )
    return _batches(path, size, int(match[1]) - 1, int(match[2]), keep)


def _batches(
    path: str | os.PathLike[str],
    size: int,
    remainder: int,
    shards: int,
    keep: frozenset[str] | None,
) -> Iterator[Arrays]:
    waiting: list[pa.Table] = []
    count = 0
    row = 0
    for batch in store.batches(path, size, COLUMNS):
        numbers = np.arange(row, row + len(batch))
        row += len(batch)
        wanted = numbers % shards == remainder
        if keep is not None:
            wanted &= np.array([name in keep for name in batch["image_id"].to_pylist()], dtype=bool)
        kept = batch.take(np.flatnonzero(wanted))
        while count + len(kept) >= size:
            waiting.append(kept.slice(0, size - count))
            kept = kept.slice(size - count)
            yield _arrays(pa.concat_tables(waiting))
            waiting, count = [], 0
        waiting.append(kept)
        count += len(kept)
    if count:
        yield _arrays(pa.concat_tables(waiting))


def _arrays(rows: pa.Table) -> Arrays:
    labels = np.array(rows.column("label").to_pylist(), dtype=np.int64)
    images = store.images_of(rows).astype(np.float32)
    images /= 255
    return rows.column("image_id").to_pylist(), labels, images


def _tensors(arrays: Arrays) -> Triple:
    import torch

    image_ids, labels, images = arrays
    return image_ids, torch.from_numpy(labels), torch.from_numpy(images)
