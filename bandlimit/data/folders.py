"""Pictures in folders: one's own, those of ImageNet, samples that a package ships."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bandlimit.data import class_folders, pictures
from bandlimit.data.source import Listing, Source, local_path
from bandlimit.errors import UserError, suggest


def load_imagefolder(source: Source, split: str | None, cache: Path | None) -> Listing:
    """Return the images of a folder with a folder for each class (see `class_folders`).

    Raises:
        UserError: the folder is missing, something in it is not an image of a class, or the labels
            can't be told.
    """
    folder = local_path(source, split)
    found = class_folders.read(folder, source.name, source.classes)
    return _picture_listing(
        source,
        found.names,
        found.labels,
        split or next(iter(source.images), ""),
        [folder / name for name in found.names],
    )


def load_imagenet_val(source: Source, split: str | None, cache: Path | None) -> Listing:
    """Return the images of the validation set of ImageNet, in a folder for each class."""
    # The usual preprocessing of the validation set, unless the source states another.
    source = replace(source, resize=source.resize or 256, crop=source.crop or 224)
    return load_imagefolder(source, split, cache)


def load_foolbox_samples(source: Source, split: str | None, cache: Path | None) -> Listing:
    """Return the samples that the package foolbox ships.

    Raises:
        UserError: the package, or its samples, are missing.
    """
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
        split or next(iter(source.images), ""),
        [path for path, _ in ordered],
    )


def _picture_listing(
    source: Source, image_ids: list[str], labels: list[int], split: str, paths: list[Path]
) -> Listing:
    def read(rows: Sequence[int]) -> Iterator[np.ndarray]:
        channels = source.channels
        if channels is None:
            # All pictures, not those of the subset, so that it is never read otherwise than they.
            channels = 1 if all(map(pictures.is_gray, paths)) else 3
        for row in rows:
            yield pictures.picture(paths[row], channels, source.resize, source.crop)

    return Listing(image_ids, labels, [split] * len(image_ids), read)
