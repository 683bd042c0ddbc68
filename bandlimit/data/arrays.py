"""Images stored as arrays: in Parquet or IDX files, or in memory."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bandlimit.data.source import (
    COLUMNS,
    IDX_FILES,
    Listing,
    Source,
    by_times,
    known_split,
    local_files,
    local_path,
)
from bandlimit.errors import UserError, suggest
from bandlimit.files import store


def load_parquet(source: Source, split: str | None, cache: Path | None) -> Listing:
    """Return the images of a Parquet file, or of one for each split.

    Raises:
        UserError: a file is missing or damaged, or a column is missing or of another type.
    """
    if "{split}" in str(source.path) and split is None:
        return _joined([load_parquet(source, part, cache) for part in source.images])
    path = local_path(source, split)
    rows = store.read(path, COLUMNS[:-1])
    schema = pq.read_schema(path)
    tests = {
        "image_id": (_is_text, "string"),
        "label": (pa.types.is_integer, "integer"),
        "split": (_is_text, "string"),
        "image": (_is_image, "tensor of uint8, C x H x W in this order in memory,"),
    }
    for column, (test, wanted) in tests.items():
        if column not in schema.names:
            raise UserError(
                f"The file {str(path)!r} has no column {column!r}; it has "
                f"{', '.join(schema.names)}."
            )
        kind = schema.field(column).type
        if not test(kind):
            raise UserError(
                f"The column {column!r} of the file {str(path)!r} is of the type {kind}, "
                f"where {wanted} is needed."
            )
    for column in COLUMNS[:-1]:
        if rows.column(column).null_count:
            raise UserError(f"The column {column!r} of the file {str(path)!r} has empty cells.")
    splits = rows.column("split").to_pylist()
    chosen = np.array([row for row, part in enumerate(splits) if split in (None, part)], np.int64)
    if not len(chosen):
        raise UserError(
            f"The file {str(path)!r} has no row of the split {split!r}; "
            f"{suggest(str(split), set(splits))}."
        )

    def read(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        wanted = chosen[np.asarray(numbers)]
        start = 0
        for batch in store.batches(path, 256, ("image",)):
            inside = (
                wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, start + len(batch))]
                - start
            )
            if len(inside):
                if batch.column("image").null_count:
                    raise UserError(
                        f"The column 'image' of the file {str(path)!r} has empty cells."
                    )
                yield from store.images_of(batch)[inside]
            start += len(batch)

    rows = rows.take(chosen)
    image_ids, labels, parts = (rows.column(column).to_pylist() for column in COLUMNS[:-1])
    return Listing(image_ids, labels, parts, read)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_image(kind: pa.DataType) -> bool:
    return (
        isinstance(kind, pa.FixedShapeTensorType)
        and kind.value_type == pa.uint8()
        and len(kind.shape) == 3
        # Writers disagree on what a permutation of axes means, so none is read.
        and kind.permutation in (None, [0, 1, 2])
    )


def _joined(listings: Sequence[Listing]) -> Listing:
    """Return several listings as one, in their order."""
    ends = np.cumsum([len(listing.labels) for listing in listings])

    def read(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        rows = np.asarray(numbers)
        start = 0
        for listing, end in zip(listings, ends, strict=True):
            inside = rows[(rows >= start) & (rows < end)] - start
            if len(inside):
                yield from listing.read(inside.tolist())
            start = end

    return Listing(
        [image_id for listing in listings for image_id in listing.image_ids],
        [label for listing in listings for label in listing.labels],
        [split for listing in listings for split in listing.splits],
        read,
    )


def load_arrays(parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Listing:
    """Return a listing of arrays in memory: (images N x C x H x W, labels N) by split."""
    return _joined(
        [
            Listing(
                [f"{split}/{row:05d}" for row in range(len(labels))],
                labels.tolist(),
                [split] * len(labels),
                lambda rows, images=images: (images[row] for row in rows),  # type: ignore[misc]
            )
            for split, (images, labels) in parts.items()
        ]
    )


def load_idx(source: Source, split: str | None, cache: Path | None) -> Listing:
    """Return the images of IDX files, the format of MNIST.

    Raises:
        UserError: a file is missing or damaged, or the arrays do not fit.
    """
    files = local_files(source, IDX_FILES, cache)
    pairs = {"train": IDX_FILES[:2], "test": IDX_FILES[2:]}
    parts = {}
    for part in pairs if split is None else [known_split(source, split, pairs)]:
        images, labels = (read_idx(files[name]) for name in pairs[part])
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(
                f"The files {' and '.join(pairs[part])} of the dataset {source.name!r} hold arrays "
                f"of {by_times(images.shape)} and {by_times(labels.shape)} values, where N x H x W "
                "images and N labels are needed."
            )
        parts[part] = (images[:, None], labels)
    return load_arrays(parts)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the array of a gzipped IDX file of bytes (the format of MNIST).

    Raises:
        UserError: the file is missing, damaged or of another format.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise UserError(f"The file {str(path)!r} does not exist.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"The file {str(path)!r} can't be read as gzip ({error}).") from error
    # Two zeros, the code of unsigned bytes, the number of axes, then a big-endian size per axis.
    axes = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    shape = np.frombuffer(content, ">u4", axes, 4).tolist() if len(content) >= 4 + 4 * axes else []
    if not shape or len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise UserError(f"The file {str(path)!r} is not a whole IDX file of unsigned bytes.")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
