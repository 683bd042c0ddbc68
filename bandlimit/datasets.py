"""Datasets: from archives, folders and packages to one Parquet schema, and from there to tensors.

A dataset file has the columns image_id (string, unique), label (int64), split (string) and image
(fixed-shape tensor C x H x W, uint8). Each loader lists its images first, without their pixels, so
that a subset is drawn before anything is decoded, and then yields them one by one.
"""

from __future__ import annotations

import csv
import gzip
import heapq
import importlib.util
import io
import os
import pickle
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from bandlimit import downloads, keys, store
from bandlimit.errors import UserError, suggest

COLUMNS = ("image_id", "label", "split", "image")
"""The columns of a dataset file, in order."""

IDX_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
"""The files of MNIST and its kin, in the order in which a registry lists their checksums."""

DOWNLOADED = {"idx": IDX_FILES, "cifar10": ("cifar-10-python.tar.gz",)}
"""Files that a loader reads from the network, in the order of their checksums."""

CIFAR10_BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}

REGISTRY_COLUMNS = (
    "name",
    "loader",
    "urls",
    "sha256",
    "bytes",
    "classes",
    "shape",
    "images",
    "licence",
    "reference",
)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_CHUNK_BYTES = 8 << 20
_MODES_OF_8_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")

Triple = tuple[list[str], torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from: a row of the registry, or what a user states about own data.

    Attributes:
        name: the dataset's name; subsets are drawn by it.
        loader: a name in `LOADERS`.
        urls: addresses in order of preference; one that ends in "/" is a folder that holds the
            files of the loader.
        sha256: one checksum per file, in the loader's order.
        bytes: one size per file, likewise.
        classes: number of classes; labels lie in 0..classes-1.
        shape: (C, H, W) of all images; None takes the shape of the first.
        images: number of images of each split, where known; a source with fewer or more is refused.
        path: local file or folder in place of a download; "{split}" stands for the split.
        resize: pixels of the shorter side after bilinear resizing (loaders of picture files).
        crop: pixels of both sides of the square cut from the centre after that.
        licence: terms of use.
        reference: who made the dataset.
    """

    name: str
    loader: str
    urls: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    bytes: tuple[int, ...] = ()
    classes: int | None = None
    shape: tuple[int, int, int] | None = None
    images: Mapping[str, int] = field(default_factory=dict)
    path: str | os.PathLike[str] | None = None
    resize: int | None = None
    crop: int | None = None
    licence: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Listing:
    """The images of a source before any is decoded.

    `read` takes ascending row numbers and yields those images as uint8 arrays, C x H x W.
    """

    image_ids: list[str]
    labels: list[int]
    splits: list[str]
    read: Callable[[Sequence[int]], Iterator[np.ndarray]]


Loader = Callable[[Source, "str | None", "Path | None"], Listing]


def registry(path: str | os.PathLike[str]) -> dict[str, Source]:
    """Read a registry of datasets (CSV, columns `REGISTRY_COLUMNS`) as sources by name.

    Cells with several values separate them by spaces. In `urls`, what is no address is a local
    path, relative to the working folder.

    Raises:
        UserError: the file is missing, or a row is malformed.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != REGISTRY_COLUMNS:
                raise UserError(
                    f"The registry {str(path)!r} has the columns "
                    f"{', '.join(reader.fieldnames or ())}; needed: {', '.join(REGISTRY_COLUMNS)}."
                )
            rows = list(reader)
    except FileNotFoundError as error:
        raise UserError(f"The registry {str(path)!r} does not exist.") from error
    sources: dict[str, Source] = {}
    for row in rows:
        try:
            source = _registered(row)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"The row {row['name']!r} of the registry {str(path)!r} is malformed: {error}."
            ) from error
        if source.name in sources:
            raise UserError(f"The registry {str(path)!r} has two rows named {source.name!r}.")
        sources[source.name] = source
    return sources


def _registered(row: Mapping[str, str]) -> Source:
    if row["loader"] not in LOADERS:
        raise ValueError(f"no loader {row['loader']!r}, {suggest(row['loader'], LOADERS)}")
    places = row["urls"].split()
    channels, height, width = map(int, row["shape"].split())
    counts = (part.rpartition(":") for part in row["images"].split())
    paths = [place for place in places if "://" not in place]
    return Source(
        name=row["name"],
        loader=row["loader"],
        urls=tuple(place for place in places if "://" in place),
        sha256=tuple(row["sha256"].split()),
        bytes=tuple(map(int, row["bytes"].split())),
        classes=int(row["classes"]),
        shape=(channels, height, width),
        images={split: int(count) for split, _, count in counts},
        path=paths[0] if paths else None,
        licence=row["licence"],
        reference=row["reference"],
    )


def make(
    source: Source,
    out: str | os.PathLike[str],
    *,
    split: str | None = None,
    images: int | None = None,
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    certificate: Mapping[str, Any] | None = None,
) -> int:
    """Write the dataset file `out` and return the number of its images.

    Images stream: memory is bounded by a chunk of them (and, for the archives of CIFAR-10 and
    MNIST, by the raw split), not by the dataset.

    Args:
        source: where the images come from.
        out: the Parquet file to write, atomically.
        split: the split to take; None takes all.
        images: size of a seeded subset; None takes all. The subset is that of the smallest keyed
            hashes of image_id, in the original order, so that a larger subset contains a smaller.
        seed: seed of the subset.
        path: local file or folder; takes the place of `source.path`.
        cache: folder of the files that `download` fetched; needed if there is no path and the
            loader downloads.
        certificate: proof of origin, stored in the file.

    Raises:
        UserError: the source is missing, damaged or not as stated; see the tests for the cases.
    """
    if source.loader not in LOADERS:
        raise UserError(
            f"The dataset {source.name!r} asks for the loader {source.loader!r}; "
            f"{suggest(source.loader, LOADERS)}."
        )
    if source.images and split is not None and split not in source.images:
        raise UserError(
            f"The dataset {source.name!r} has no split {split!r}; {suggest(split, source.images)}."
        )
    for name, value in {"resize": source.resize, "crop": source.crop}.items():
        if value is not None and value < 1:
            raise UserError(
                f"The {name} of the dataset {source.name!r} is {value}, where a positive "
                "number of pixels is needed."
            )
    if path is not None:
        source = replace(source, path=path)
    listing = LOADERS[source.loader](source, split, None if cache is None else Path(cache))
    _check(source, listing, split)
    rows = _subset(source.name, listing.image_ids, images, seed)
    _write(source, listing, rows, out, certificate)
    return len(rows)


def download(
    loader: str, urls: Sequence[str], sha256: Sequence[str], folder: str | os.PathLike[str]
) -> None:
    """Fetch the files that a loader reads, each from the first mirror whose file is the right one.

    Args:
        loader: a name in `DOWNLOADED`.
        urls: mirrors in order of preference; one that ends in "/" is a folder of the files.
        sha256: one checksum per file, in the loader's order.
        folder: where to put them; a file that is there and right is kept.

    Raises:
        UserError: no mirror has a file of the right checksum.
    """
    for name, checksum in zip(DOWNLOADED[loader], sha256, strict=True):
        places = [url + name if url.endswith("/") else url for url in urls]
        downloads.fetch(places, checksum, Path(folder) / name)


def _check(source: Source, listing: Listing, split: str | None) -> None:
    name = source.name
    if not listing.image_ids:
        where = "" if split is None else f" in the split {split!r}"
        raise UserError(f"The dataset {name!r} has no image{where}.")
    image_id, times = Counter(listing.image_ids).most_common(1)[0]
    if times > 1:
        raise UserError(
            f"The image_id {image_id!r} stands {times} times in the dataset {name!r}, "
            "where each must be unique."
        )
    top = np.inf if source.classes is None else source.classes - 1
    for image_id, label in zip(listing.image_ids, listing.labels, strict=True):
        if not 0 <= label <= top:
            allowed = "0 or more" if source.classes is None else f"0..{top}"
            raise UserError(
                f"The label of the image {image_id!r} of the dataset {name!r} is {label}; "
                f"allowed: {allowed}."
            )
    found = Counter(listing.splits)
    for part, wanted in source.images.items():
        if split in (None, part) and found[part] != wanted:
            raise UserError(
                f"The split {part!r} of the dataset {name!r} has {found[part]} images, "
                f"where {wanted} are stated: it is incomplete or another dataset."
            )


def _subset(name: str, image_ids: Sequence[str], images: int | None, seed: int) -> Sequence[int]:
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


def _write(
    source: Source,
    listing: Listing,
    rows: Sequence[int],
    out: str | os.PathLike[str],
    certificate: Mapping[str, Any] | None,
) -> None:
    pixels = listing.read(rows)
    first = next(pixels)
    shape = source.shape or first.shape
    schema = pa.schema(
        [
            ("image_id", pa.string()),
            ("label", pa.int64()),
            ("split", pa.string()),
            ("image", store.image_type(shape, "uint8")),
        ]
    )
    per_chunk = max(1, _CHUNK_BYTES // first.nbytes)
    with store.TableWriter(out, schema, certificate) as writer:
        for start in range(0, len(rows), per_chunk):
            chunk = rows[start : start + per_chunk]
            images = np.empty((len(chunk), *shape), np.uint8)
            for place, row in enumerate(chunk):
                image = first if start + place == 0 else next(pixels)
                if image.shape != tuple(shape):
                    raise UserError(
                        f"The image {listing.image_ids[row]!r} of the dataset {source.name!r} has "
                        f"the shape {_times(image.shape)}, where {_times(shape)} is needed: all "
                        "images must have one shape (resize and crop bring picture files to one)."
                    )
                images[place] = image
            writer.write(
                table(
                    [listing.image_ids[row] for row in chunk],
                    [listing.labels[row] for row in chunk],
                    [listing.splits[row] for row in chunk],
                    images,
                )
            )


def table(
    image_ids: Sequence[str], labels: Sequence[int], splits: Sequence[str], images: np.ndarray
) -> pa.Table:
    """Return rows of a dataset file; images: N x C x H x W, uint8."""
    # Arrow derives the order of axes from strides, which are arbitrary for an axis of size 1 in a
    # view (as N x 1 x H x W often is); a copy has the strides of its shape.
    images = images.copy()
    return pa.table(
        {
            "image_id": pa.array(image_ids, pa.string()),
            "label": pa.array(labels, pa.int64()),
            "split": pa.array(splits, pa.string()),
            "image": store.image_column(images),
        }
    )


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def load(path: str | os.PathLike[str]) -> Triple:
    """Read a dataset file whole: (image_ids, labels N int64, images N x C x H x W in [0, 1]).

    Raises:
        UserError: the file is missing, damaged or lacks a column.
    """
    return _triple(store.read(path, COLUMNS))


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
    return frozenset(image_ids[row] for row in _subset(name, image_ids, images, seed))


def stream(
    path: str | os.PathLike[str],
    size: int,
    shard: str = "1of1",
    keep: frozenset[str] | None = None,
) -> Iterator[Triple]:
    """Yield triples as `load` gives them, `size` images at a time (the last may be fewer).

    The shard "kofn" holds the rows i with i mod n = k - 1; together the n shards hold each row
    once. Memory is bounded by `size`, not by the dataset. With `keep`, only these images.

    Raises:
        UserError: the shard is malformed, or the file is missing, damaged or lacks a column.
        ValueError: size is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}, at least 1 is needed")
    match = re.fullmatch(r"([1-9]\d*)of([1-9]\d*)", shard)
    if not match or int(match[1]) > int(match[2]):
        raise UserError(
            f"The shard {shard!r} is malformed; allowed is 'kofn' with k in 1..n, such as '2of8'."
        )
    return _stream(path, size, int(match[1]) - 1, int(match[2]), keep)


def _stream(
    path: str | os.PathLike[str],
    size: int,
    remainder: int,
    shards: int,
    keep: frozenset[str] | None,
) -> Iterator[Triple]:
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
            yield _triple(pa.concat_tables(waiting))
            waiting, count = [], 0
        waiting.append(kept)
        count += len(kept)
    if count:
        yield _triple(pa.concat_tables(waiting))


def _triple(rows: pa.Table) -> Triple:
    labels = torch.tensor(rows.column("label").to_pylist(), dtype=torch.int64)
    images = torch.from_numpy(store.images_of(rows).astype(np.float32))
    return rows.column("image_id").to_pylist(), labels, images.div_(255)


def _place(source: Source, split: str | None = None) -> Path:
    """Return the local path of a source, which must exist."""
    if source.path is None:
        raise UserError(
            f"The dataset {source.name!r} (loader {source.loader!r}) can't be downloaded: "
            "a path is needed, and none was given."
        )
    path = Path(str(source.path).replace("{split}", split or ""))
    if not path.exists():
        raise UserError(f"The path {str(path)!r} of the dataset {source.name!r} does not exist.")
    return path


def _files(source: Source, names: Sequence[str], cache: Path | None) -> dict[str, Path]:
    """Return the files of a loader by name: those under the local path, else downloaded ones."""
    if source.path is not None:
        folder = _place(source)
        for name in names:
            if not (folder / name).is_file():
                raise UserError(
                    f"The folder {str(folder)!r} of the dataset {source.name!r} lacks {name!r}."
                )
        return {name: folder / name for name in names}
    if cache is None:
        raise ValueError(f"the dataset {source.name!r} has no path: a cache is needed")
    for name, sha256 in zip(names, source.sha256, strict=True):
        downloads.verify(cache / name, sha256)
    return {name: cache / name for name in names}


def _load_parquet(source: Source, split: str | None, cache: Path | None) -> Listing:
    if "{split}" in str(source.path) and split is None:
        return _joined([_load_parquet(source, part, cache) for part in source.images])
    path = _place(source, split)
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


def _load_arrays(parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Listing:
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


def _load_idx(source: Source, split: str | None, cache: Path | None) -> Listing:
    files = _files(source, IDX_FILES, cache)
    pairs = {"train": IDX_FILES[:2], "test": IDX_FILES[2:]}
    parts = {}
    for part in pairs if split is None else [_known(source, split, pairs)]:
        images, labels = (read_idx(files[name]) for name in pairs[part])
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise UserError(
                f"The files {' and '.join(pairs[part])} of the dataset {source.name!r} hold arrays "
                f"of {_times(images.shape)} and {_times(labels.shape)} values, where N x H x W "
                "images and N labels are needed."
            )
        parts[part] = (images[:, None], labels)
    return _load_arrays(parts)


def _known(source: Source, split: str, allowed: Mapping[str, Any]) -> str:
    if split not in allowed:
        raise UserError(
            f"The dataset {source.name!r} has no split {split!r}; {suggest(split, allowed)}."
        )
    return split


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
        raise UserError(f"The file {str(path)!r} is no whole IDX file of unsigned bytes.")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


class _Kind:
    """Stands for numpy.dtype in a pickle of CIFAR-10: keeps the name, runs nothing."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name = name

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for a numpy array in a pickle of CIFAR-10: only plain bytes become pixels."""

    value: np.ndarray

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Kind) or kind.name not in ("u1", b"u1"):
            raise ValueError("an array of another type than uint8")
        self.value = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Batch(pickle.Unpickler):
    """Reads the dict, lists, strings, numbers and byte arrays of a CIFAR-10 batch, nothing else.

    Not even numpy's own constructors are called: stand-ins that hold data take their place.
    """

    allowed = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): _Kind,
    }

    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise UserError(
                f"The batch {self.where} asks for {module}.{name}, which a CIFAR-10 batch has no "
                "use for; it was refused, and nothing of it was run."
            )
        return self.allowed[module, name]


def _cifar10_batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = _Batch(content, where).load()
        images = batch[b"data"].value.reshape(-1, 3, 32, 32)
        labels = np.array(batch[b"labels"], np.int64)
        if labels.shape != images.shape[:1]:
            raise ValueError(f"{len(images)} images and {_times(labels.shape)} labels")
    except UserError:
        raise
    except Exception as error:  # a malformed pickle may raise anything
        raise UserError(f"The batch {where} is no CIFAR-10 batch ({error}).") from error
    return images, labels


def _load_cifar10(source: Source, split: str | None, cache: Path | None) -> Listing:
    if source.path is not None:
        archive = _place(source)
    else:
        (archive,) = _files(source, DOWNLOADED["cifar10"], cache).values()
    splits = list(CIFAR10_BATCHES) if split is None else [_known(source, split, CIFAR10_BATCHES)]
    wanted = {name for part in splits for name in CIFAR10_BATCHES[part]}
    batches = {}
    try:
        # Members are read, never extracted: no path in the archive can lead anywhere.
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                if name in wanted and (file := tar.extractfile(member)) is not None:
                    batches[name] = _cifar10_batch(file.read(), f"{name!r} in {str(archive)!r}")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(
            f"The archive {str(archive)!r} can't be read as .tar.gz ({error})."
        ) from error
    if lacking := sorted(wanted - set(batches)):
        raise UserError(f"The archive {str(archive)!r} lacks {', '.join(lacking)}.")
    return _load_arrays(
        {
            part: (
                np.concatenate([batches[name][0] for name in CIFAR10_BATCHES[part]]),
                np.concatenate([batches[name][1] for name in CIFAR10_BATCHES[part]]),
            )
            for part in splits
        }
    )


def _load_imagefolder(source: Source, split: str | None, cache: Path | None) -> Listing:
    folder = _place(source, split)
    if not folder.is_dir():
        raise UserError(
            f"The path {str(folder)!r} of the dataset {source.name!r} is a file, "
            "where a folder with one folder per class is needed."
        )
    classes = sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != "."
    )
    labels_of = _class_labels(source, folder, classes)
    paths: list[Path] = []
    labels: list[int] = []
    for name in classes:
        files = sorted(
            (
                path
                for path in (folder / name).rglob("*")
                if path.is_file() and not path.name.startswith(".")
            ),
            key=lambda path: path.relative_to(folder).as_posix(),
        )
        for path in files:
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                raise UserError(
                    f"The file {str(path)!r} of the dataset {source.name!r} is no image; "
                    f"allowed: {', '.join(IMAGE_SUFFIXES)}."
                )
        if not files:
            raise UserError(
                f"The class folder {str(folder / name)!r} of the dataset {source.name!r} "
                "has no image."
            )
        paths += files
        labels += [labels_of[name]] * len(files)
    return _picture_listing(
        source,
        [path.relative_to(folder).as_posix() for path in paths],
        labels,
        split or next(iter(source.images), "test"),
        paths,
    )


def _class_labels(source: Source, folder: Path, classes: Sequence[str]) -> dict[str, int]:
    """Return the label of each class folder: by classes.csv if there is one, else by order."""
    if not classes:
        raise UserError(
            f"The folder {str(folder)!r} of the dataset {source.name!r} has no class folder."
        )
    path = folder / "classes.csv"
    if not path.is_file():
        if source.classes not in (None, len(classes)):
            raise UserError(
                f"The folder {str(folder)!r} of the dataset {source.name!r} has {len(classes)} "
                f"class folders, where {source.classes} are needed (labels are their order; a "
                "classes.csv in the folder, with the columns wnid,label, can state others)."
            )
        return {name: label for label, name in enumerate(classes)}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            labels = {row["wnid"]: int(row["label"]) for row in csv.DictReader(file)}
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(
            f"The file {str(path)!r} can't be read: the columns wnid and label, an integer, "
            f"are needed ({type(error).__name__}: {error})."
        ) from error
    for name in classes:
        if name not in labels:
            raise UserError(f"The class folder {str(folder / name)!r} has no row in {str(path)!r}.")
    return labels


def _load_imagenet_val(source: Source, split: str | None, cache: Path | None) -> Listing:
    # The usual preprocessing of the validation set, unless the source states another.
    source = replace(source, resize=source.resize or 256, crop=source.crop or 224)
    return _load_imagefolder(source, split, cache)


def _load_foolbox_samples(source: Source, split: str | None, cache: Path | None) -> Listing:
    found = importlib.util.find_spec("foolbox")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"The dataset {source.name!r} is packaged in foolbox, which is not installed."
        )
    folder = Path(found.submodule_search_locations[0]) / "data"
    kind = source.name.removesuffix("_samples")
    names = {}
    for path in folder.iterdir():
        if match := re.fullmatch(rf"{re.escape(kind)}_(\d+)_(\d+)\.(png|jpg)", path.name):
            names[int(match[1])] = (path, int(match[2]))
    ordered = [names[number] for number in sorted(names)]
    if not ordered:
        raise UserError(
            f"The package foolbox has no samples for the dataset {source.name!r}; "
            f"{suggest(kind, {path.name.split('_')[0] for path in folder.iterdir()})}."
        )
    if kind == "imagenet":
        source = replace(source, resize=source.resize or 256, crop=source.crop or 224)
    return _picture_listing(
        source,
        [path.name for path, _ in ordered],
        [label for _, label in ordered],
        split or next(iter(source.images), "test"),
        [path for path, _ in ordered],
    )


def _picture_listing(
    source: Source, image_ids: list[str], labels: list[int], split: str, paths: list[Path]
) -> Listing:
    # Without a stated shape the first picture of the whole dataset, not of the subset, decides
    # between gray and colour, so that a subset is never read otherwise than the whole.
    channels = source.shape[0] if source.shape else None

    def read(rows: Sequence[int]) -> Iterator[np.ndarray]:
        count = _channels(paths[0]) if channels is None else channels
        for row in rows:
            yield _picture(paths[row], count, source.resize, source.crop)

    return Listing(image_ids, labels, [split] * len(image_ids), read)


def _channels(path: Path) -> int:
    return 1 if _opened(path).mode in ("1", "L", "LA") else 3


def _opened(path: Path) -> Image.Image:
    """Return a picture, decoded."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {str(path)!r} can't be read ({error}).") from error


def _picture(path: Path, channels: int, resize: int | None, crop: int | None) -> np.ndarray:
    """Return a picture as C x H x W, uint8, resized and cropped as torchvision does with PIL."""
    image = _opened(path)
    if image.mode not in _MODES_OF_8_BITS:
        raise UserError(
            f"The image {str(path)!r} has pixels of the type {image.mode!r}, "
            "where 8 bits per channel are needed."
        )
    image = image.convert("L" if channels == 1 else "RGB")
    if resize is not None:
        short = min(image.size)
        # The shorter side becomes exactly `resize`; the longer is rounded down.
        width, height = (int(resize * side / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if crop is not None:
        if min(image.size) < crop:
            raise UserError(
                f"The image {str(path)!r} has {_times(image.size)} pixels, fewer than the crop of "
                f"{crop} x {crop}."
            )
        left, top = (round((side - crop) / 2) for side in image.size)
        image = image.crop((left, top, left + crop, top + crop))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


LOADERS: dict[str, Loader] = {
    "parquet": _load_parquet,
    "cifar10": _load_cifar10,
    "idx": _load_idx,
    "imagefolder": _load_imagefolder,
    "imagenet_val": _load_imagenet_val,
    "foolbox_samples": _load_foolbox_samples,
}
"""All loaders by name: (source, split or None, cache folder or None) -> listing."""
