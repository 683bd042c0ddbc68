"""Datasets made: from archives, folders and packages to one Parquet schema.

A dataset file has the columns image_id (string, unique), label (int64), split (string) and image
(fixed-shape tensor C x H x W, uint8); where labels are shuffled, also original_label (int64). Each
loader lists its images first, without their pixels, so that a subset is drawn before anything is
decoded, and then yields them one by one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bandlimit import keys
from bandlimit.data import downloads, listings
from bandlimit.data.arrays import load_idx, load_parquet
from bandlimit.data.cifar10 import load_cifar10
from bandlimit.data.folders import load_foolbox_samples, load_imagefolder, load_imagenet_val
from bandlimit.data.source import DOWNLOADED, Listing, Loader, Source, by_times
from bandlimit.data.stream import subset
from bandlimit.errors import UserError, suggest
from bandlimit.files import store

_CHUNK_BYTES = 8 << 20
"""Pixels that are held in memory at once."""


def make_dataset(
    source: Source,
    out: str | os.PathLike[str],
    *,
    split: str | None = None,
    images: int | None = None,
    shuffled: str | None = None,
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
        shuffled: if given, labels are permuted once among the images of the file, by a draw of this
            name, and the column original_label keeps them as they were.
        seed: seed of the subset and of this draw.
        path: local file or folder; takes the place of `source.path`.
        cache: folder of the files that `download_files` fetched; needed if there is no path and the
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
    listings.check(
        source.name,
        listing.image_ids,
        listing.labels,
        listing.splits,
        classes=source.classes,
        images=source.images,
        split=split,
    )
    rows = subset(source.name, listing.image_ids, images, seed)
    labels = [listing.labels[row] for row in rows]
    if shuffled is not None:
        import torch

        draws = keys.generator(seed, "shuffled labels", shuffled)
        labels = [labels[place] for place in torch.randperm(len(rows), generator=draws).tolist()]
    _write(source, listing, rows, labels, out, certificate, original=shuffled is not None)
    return len(rows)


def download_files(
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


def _write(
    source: Source,
    listing: Listing,
    rows: Sequence[int],
    labels: Sequence[int],
    out: str | os.PathLike[str],
    certificate: Mapping[str, Any] | None,
    *,
    original: bool,
) -> None:
    """Write the images of some rows with these labels, and with their original ones if asked."""
    pixels = listing.read(rows)
    first = next(pixels)
    shape = source.shape or first.shape
    schema = pa.schema(
        [
            ("image_id", pa.string()),
            ("label", pa.int64()),
            *([("original_label", pa.int64())] if original else []),
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
                    # Pictures are read with the channels that are needed, so that sizes differ.
                    way = " (resize and crop bring pictures to one)" * (image.shape[0] == shape[0])
                    raise UserError(
                        f"The image {listing.image_ids[row]!r} of the dataset {source.name!r} has "
                        f"the shape {by_times(image.shape)}, where {by_times(shape)} is "
                        f"needed: all images must have one shape, that of the model{way}."
                    )
                images[place] = image
            found = table(
                [listing.image_ids[row] for row in chunk],
                labels[start : start + per_chunk],
                [listing.splits[row] for row in chunk],
                images,
            )
            if original:
                before = pa.array([listing.labels[row] for row in chunk], pa.int64())
                found = found.add_column(2, "original_label", before)
            writer.write(found)


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


LOADERS: dict[str, Loader] = {
    "parquet": load_parquet,
    "cifar10": load_cifar10,
    "idx": load_idx,
    "imagefolder": load_imagefolder,
    "imagenet_val": load_imagenet_val,
    "foolbox_samples": load_foolbox_samples,
}
"""All loaders by name: (source, split or None, cache folder or None) -> listing."""
