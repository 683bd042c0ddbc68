"""Pictures in folders: one's own, those of ImageNet, samples that a package ships."""

from __future__ import annotations

import csv
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from bandlimit.data.source import Listing, Source, by_times, local_path
from bandlimit.errors import UserError, suggest

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_MODES_OF_8_BITS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")


def load_imagefolder(source: Source, split: str | None, cache: Path | None) -> Listing:
    """Return the images of a folder with a folder for each class.

    Raises:
        UserError: the folder is missing, or something in it is not an image of a class.
    """
    folder = local_path(source, split)
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
            yield picture(paths[row], count, source.resize, source.crop)

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


def picture(
    path: Path, channels: int, resize: int | None = None, crop: int | None = None
) -> np.ndarray:
    """Return a picture as C x H x W, uint8, resized and cropped as torchvision does with PIL.

    Args:
        path: of the file.
        channels: 1 for gray, 3 for colour.
        resize: pixels of the shorter side; None leaves the size.
        crop: pixels of both sides of the square that is cut from the centre; None for all.

    Raises:
        UserError: it can't be read, has other pixels than of 8 bits, or is smaller than the crop.
    """
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
                f"The image {str(path)!r} has {by_times(image.size)} pixels, fewer than "
                f"the crop of {crop} x {crop}."
            )
        left, top = (round((side - crop) / 2) for side in image.size)
        image = image.crop((left, top, left + crop, top + crop))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
