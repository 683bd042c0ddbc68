"""Images stored as arrays: in Parquet or IDX files, or in memory."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bandlimit.data.pictures import is_gray, picture
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

    Images are tensors, with columns as in `COLUMNS`, or encoded pictures, as in the layout of
    Hugging Face: `image` (or `img`) is a struct of `bytes` and `path`, or the bytes alone. Beside
    those, `image_id` and `split` may be left out: images are then named by their paths if each has
    one of its own, else by their rows, and all belong to the split that is asked for.

    Raises:
        UserError: a file is missing or damaged, or columns are missing or of another type.
    """
    if "{split}" in str(source.path) and split is None:
        return _joined([load_parquet(source, part, cache) for part in source.images])
    path = local_path(source, split)
    schema = store.schema(path)
    column = "img" if "img" in schema.names and "image" not in schema.names else "image"
    encoded = column in schema.names and _is_encoded(schema.field(column).type)
    _check_columns(path, schema, column, encoded)
    wanted = [name for name in COLUMNS[:-1] if name in schema.names]
    rows = store.read(path, wanted)
    for name in wanted:
        if rows.column(name).null_count:
            raise UserError(f"The column {name!r} of the file {str(path)!r} has empty cells.")
    count = len(rows)
    cells = {name: _cells(path, rows, name) for name in wanted}
    splits = cells.get("split", [split or ""] * count)
    chosen = np.array(
        [row for row, part in enumerate(splits) if split is None or part == split], np.int64
    )
    if not len(chosen):
        if not count:
            raise UserError(f"The file {str(path)!r} has no rows.")
        raise UserError(
            f"The file {str(path)!r} has no row of the split {split!r}; "
            f"{suggest(str(split), set(splits))}."
        )
    image_ids = cells.get("image_id") or _names(path, schema, column, count)
    image_ids, labels, splits = (
        [values[row] for row in chosen] for values in (image_ids, cells["label"], splits)
    )

    def pixels(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        for batch, inside in _parts(path, column, chosen[np.asarray(numbers)]):
            if batch.column(column).null_count:
                raise UserError(f"The column {column!r} of the file {str(path)!r} has empty cells.")
            yield from store.images_of(batch, column)[inside]

    def pictures_of(numbers: Sequence[int]) -> Iterator[np.ndarray]:
        channels = source.channels
        if channels is None:
            every = _encoded(path, column, np.arange(count))
            channels = 1 if all(is_gray(file, name=name) for file, name in every) else 3
        for file, name in _encoded(path, column, chosen[np.asarray(numbers)]):
            yield picture(file, channels, source.resize, source.crop, name=name)

    return Listing(image_ids, labels, splits, pictures_of if encoded else pixels)


def _check_columns(path: Path, schema: pa.Schema, image: str, encoded: bool) -> None:
    """Check that a file has the columns of one of the layouts, each of its type."""
    tests = {
        "image_id": (_is_text, "string"),
        "label": (pa.types.is_integer, "integer"),
        "split": (_is_text, "string"),
        image: (
            lambda kind: encoded or _is_tensor(kind),
            "tensor of uint8, C x H x W in this order in memory, or an encoded picture (a struct "
            "of bytes and path, or the bytes alone),",
        ),
    }
    needed = ("label", image) if encoded else tests
    missing = [name for name in needed if name not in schema.names]
    if missing:
        raise UserError(
            f"The file {str(path)!r} has no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(schema.names)}, where {', '.join(COLUMNS)} are needed, or label and image "
            "with encoded pictures."
        )
    for name, (test, wanted) in tests.items():
        if name in schema.names and not test(schema.field(name).type):
            raise UserError(
                f"The column {name!r} of the file {str(path)!r} is of the type "
                f"{schema.field(name).type}, where {wanted} is needed."
            )


def _cells(path: Path, rows: pa.Table, column: str) -> list[Any]:
    try:
        return rows.column(column).to_pylist()
    except UnicodeDecodeError as error:
        raise UserError(
            f"The column {column!r} of the file {str(path)!r} has text that is not UTF-8 ({error})."
        ) from error


def _names(path: Path, schema: pa.Schema, column: str, count: int) -> list[str]:
    """Return names of encoded pictures: their paths if each has one of its own, else their rows."""
    kind = schema.field(column).type
    if pa.types.is_struct(kind) and _field(kind, "path", _is_text):
        paths = store.read(path, [f"{column}.path"]).column(column).combine_chunks()
        found = paths.field("path").to_pylist()
        if all(found) and len(set(found)) == count:
            return found
    return [f"{row:05d}" for row in range(count)]


def _parts(path: Path, column: str, wanted: np.ndarray) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Yield parts of a file, each with the places in it of the wanted rows, which ascend."""
    start = 0
    for batch in store.batches(path, 256, (column,)):
        end = start + len(batch)
        inside = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, end)] - start
        if len(inside):
            yield batch, inside
        start = end


def _encoded(path: Path, column: str, wanted: np.ndarray) -> Iterator[tuple[bytes, str]]:
    """Yield encoded pictures, each with how errors call it."""
    rows = iter(wanted.tolist())
    for batch, inside in _parts(path, column, wanted):
        for cell in batch.column(column).take(inside).to_pylist():
            content = cell.get("bytes") if isinstance(cell, dict) else cell
            name = f"row {next(rows)} of {path}"
            if content is None:
                raise UserError(
                    f"The picture in {name!r} has no bytes; each must be in the file, since paths "
                    "may lead anywhere."
                )
            yield content, name


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _is_encoded(kind: pa.DataType) -> bool:
    return _is_bytes(kind) or (pa.types.is_struct(kind) and _field(kind, "bytes", _is_bytes))


def _field(kind: pa.StructType, name: str, test: Callable[[pa.DataType], bool]) -> bool:
    """Return whether a struct has a field of this name and type."""
    place = kind.get_field_index(name)
    return place >= 0 and test(kind.field(place).type)


def _is_tensor(kind: pa.DataType) -> bool:
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
