"""Pictures with annotated objects, in the format of COCO.

A folder of COCO has a file of annotations, such as `annotations/instances_val2017.json`, and one of
pictures, such as `val2017`. Boxes are x, y of the upper left corner, width and height, in pixels of
the picture as it is stored.

Source: "Microsoft COCO: Common Objects in Context", on which "High-frequency Component Helps
Explain the Generalization of Convolutional Neural Networks" detects objects in section 7.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bandlimit.data import pictures, stream
from bandlimit.data.source import by_times
from bandlimit.errors import UserError

if TYPE_CHECKING:
    import torch

Box = tuple[float, float, float, float]

LISTS: Mapping[str, Sequence[str]] = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
"""What a file of annotations has, and what each entry needs."""


@dataclass(frozen=True)
class Picture:
    """A picture, not yet read.

    Attributes:
        id: by which annotations name it.
        path: of its file.
        width: in pixels.
        height: in pixels.
    """

    id: int
    path: Path
    width: int
    height: int


@dataclass(frozen=True)
class Thing:
    """An annotated object.

    Attributes:
        id: of the annotation.
        image_id: the picture that it is in.
        category_id: what it is.
        box: x, y, width, height in pixels.
        area: in pixels, of its outline where that is known, else of its box.
        crowd: whether it stands for many that are not told apart, which count neither as found nor
            as missed.
    """

    id: int
    image_id: int
    category_id: int
    box: Box
    area: float
    crowd: bool


@dataclass(frozen=True)
class Coco:
    """Pictures and what is in them.

    Attributes:
        pictures: by ascending id.
        things: in the order of the file.
        categories: names by id.
    """

    pictures: tuple[Picture, ...]
    things: tuple[Thing, ...]
    categories: Mapping[int, str]

    def chosen(self, images: int | None, seed: int) -> Coco:
        """Return a seeded choice of the pictures; a larger choice contains a smaller.

        Args:
            images: how many; None for all.
            seed: the configured seed.

        Raises:
            UserError: there are fewer.
        """
        ids = [str(picture.id) for picture in self.pictures]
        rows = stream.subset("COCO", ids, images, seed)
        return self.only([self.pictures[row].id for row in rows])

    def only(self, image_ids: Sequence[int]) -> Coco:
        """Return some of the pictures, by their ids."""
        kept = frozenset(image_ids)
        return replace(
            self,
            pictures=tuple(picture for picture in self.pictures if picture.id in kept),
            things=tuple(thing for thing in self.things if thing.image_id in kept),
        )


def read(annotations: str | os.PathLike[str], pictures: str | os.PathLike[str]) -> Coco:
    """Read annotations, and check that all their pictures are there.

    Args:
        annotations: a file such as `annotations/instances_val2017.json`.
        pictures: a folder such as `val2017`.

    Raises:
        UserError: something is missing, is no annotation of COCO, or contradicts another entry.
    """
    found = _parsed(annotations)
    folder = Path(pictures)
    if not folder.is_dir():
        raise UserError(f"The folder of pictures {str(folder)!r} does not exist.")
    with os.scandir(folder) as entries:
        there = {entry.name for entry in entries}
    missing = [entry["file_name"] for entry in found["images"] if entry["file_name"] not in there]
    if missing:
        raise UserError(
            f"The folder {str(folder)!r} lacks {len(missing)} of the {len(found['images'])} "
            f"pictures that {str(annotations)!r} names, the first of them {missing[0]!r}."
        )
    _check_ids(found, annotations)
    return Coco(
        pictures=tuple(
            Picture(entry["id"], folder / entry["file_name"], entry["width"], entry["height"])
            for entry in sorted(found["images"], key=lambda entry: entry["id"])
        ),
        things=tuple(_thing(entry, annotations) for entry in found["annotations"]),
        categories={entry["id"]: entry["name"] for entry in found["categories"]},
    )


def _parsed(path: str | os.PathLike[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the lists of a file of annotations, whose entries have what they need."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise UserError(
            f"The file of annotations {str(path)!r} can't be read: {error.strerror}."
        ) from error
    except ValueError as error:
        raise UserError(
            f"The file of annotations {str(path)!r} is no JSON ({error}); it is damaged, cut "
            "short or of another format."
        ) from error
    for name, needed in LISTS.items():
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(
                f"The file {str(path)!r} has no list {name!r}, so it holds no annotations of "
                f"COCO; needed are {', '.join(LISTS)}."
            )
        for place, entry in enumerate(entries):
            lacking = [k for k in needed if not isinstance(entry, dict) or k not in entry]
            if lacking:
                raise UserError(
                    f"In the file {str(path)!r} the entry {place} of {name!r} has no "
                    f"{lacking[0]!r}; needed are {', '.join(needed)}."
                )
    return dict(content)


def _thing(entry: Mapping[str, Any], path: str | os.PathLike[str]) -> Thing:
    box = entry["bbox"]
    numbers = isinstance(box, list) and all(isinstance(value, int | float) for value in box)
    if not numbers or len(box) != 4 or not all(map(math.isfinite, box)) or min(box[2:]) < 0:
        raise UserError(
            f"In the file {str(path)!r} the annotation {entry['id']} has the box {box!r}; needed "
            "are four numbers x, y, width, height, the last two not below 0."
        )
    x, y, width, height = map(float, box)
    return Thing(
        entry["id"],
        entry["image_id"],
        entry["category_id"],
        (x, y, width, height),
        float(entry.get("area", width * height)),
        bool(entry.get("iscrowd", 0)),
    )


def _check_ids(found: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Refuse ids that are no whole numbers, are there twice, or name what is not there."""
    for name in LISTS:
        seen: set[int] = set()
        for entry in found[name]:
            own = entry["id"]
            if not isinstance(own, int) or own in seen:
                raise UserError(
                    f"In the file {str(path)!r} an entry of {name!r} has the id {own!r}, which "
                    f"{'is there twice' if isinstance(own, int) else 'is no whole number'}; each "
                    "needs a whole number of its own."
                )
            seen.add(own)
    known = {name: {entry["id"] for entry in found[name]} for name in ("images", "categories")}
    for entry in found["annotations"]:
        for name, key in (("images", "image_id"), ("categories", "category_id")):
            if entry[key] not in known[name]:
                raise UserError(
                    f"In the file {str(path)!r} the annotation {entry['id']} has the {key} "
                    f"{entry[key]!r}, which is none of its {name!r}."
                )


def pixels(picture: Picture) -> torch.Tensor:
    """Return the pixels of a picture, 3 x H x W, float32 in [0, 1].

    Raises:
        UserError: it can't be read, or its size is not that of its annotations.
    """
    import torch

    image = pictures.picture(picture.path, channels=3)
    sides = (picture.height, picture.width)
    if image.shape[1:] != sides:
        raise UserError(
            f"The image {str(picture.path)!r} has {by_times(image.shape[1:])} pixels, where its "
            f"annotations have {by_times(sides)} (height, width)."
        )
    return torch.from_numpy(image).float().div_(255)
