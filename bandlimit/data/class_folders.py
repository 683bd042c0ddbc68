"""Folders with a folder for each class: their pictures and labels, before any is opened.

Labels are guessed from the order of the folders only where nothing else suggests others. Imports
nothing heavy, since every start of the workflow looks at the user's own folders.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bandlimit.data.wnids import WNIDS
from bandlimit.errors import UserError
from bandlimit.files import folders

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")

_WAY_OUT = "a classes.csv in the folder, with the columns wnid,label, can state others"


@dataclass(frozen=True)
class Files:
    """The pictures of a folder with a folder for each class.

    Attributes:
        names: relative to the folder, with '/'; folder by folder, in the order of code points.
        labels: of each.
        classes: the label of each class folder, in order.
        guessed: whether the labels are the order of the folders.
    """

    names: list[str]
    labels: list[int]
    classes: dict[str, int]
    guessed: bool


def read(folder: Path, dataset: str, classes: int | None) -> Files:
    """Return the pictures of a folder, with their labels.

    A classes.csv in it states the labels. Without one they are the order of the folders if there
    are as many as classes, and ImageNet's where the folders are named by its wnids and there are
    1,000 classes.

    Args:
        folder: with a folder for each class.
        dataset: name of the dataset, for errors.
        classes: that there must be; None takes any number.

    Raises:
        UserError: the folder is a file or can't be listed, something in it is not an image of a
            class, a name is not UTF-8, or the labels can't be told.
    """
    if not folder.is_dir():
        raise UserError(
            f"The path {str(folder)!r} of the dataset {dataset!r} is a file, "
            "where a folder with one folder per class is needed."
        )
    found: dict[str, list[str]] = {
        entry.name: []
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and not entry.name.startswith(".")
    }
    loose = []
    for path in folders.files_in(folder):
        name = path.relative_to(folder).as_posix()
        _check_text(name, folder, dataset)
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"The link {str(path)!r} of the dataset {dataset!r} leads to nothing; remove it, "
                "or what it leads to must be there."
            )
        top, _, rest = name.partition("/")
        if rest:
            found[top].append(name)
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            loose.append(name)
    if not found:
        raise UserError(
            f"The folder {str(folder)!r} of the dataset {dataset!r} has no class folder."
        )
    if loose:
        raise UserError(
            f"The image {str(folder / loose[0])!r} of the dataset {dataset!r} lies beside the "
            "class folders, so that it has no label; each must lie in the folder of its class."
        )
    for top, names in found.items():
        for name in names:
            if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
                raise UserError(
                    f"The file {str(folder / name)!r} of the dataset {dataset!r} is no image; "
                    f"allowed: {', '.join(IMAGE_SUFFIXES)}."
                )
        if not names:
            raise UserError(
                f"The class folder {str(folder / top)!r} of the dataset {dataset!r} has no image."
            )
    stated = folder / "classes.csv"
    guessed = False
    if stated.is_file():
        labels = _stated(stated, folder, list(found))
    elif _are_wnids(list(found), classes):
        labels = {name: WNIDS.index(name) for name in found}
    else:
        labels = _guessed(folder, dataset, list(found), classes)
        guessed = True
    return Files(
        [name for names in found.values() for name in sorted(names)],
        [labels[top] for top, names in found.items() for _ in names],
        {top: labels[top] for top in found},
        guessed,
    )


def _check_text(name: str, folder: Path, dataset: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"The name of the file {name!r} in the folder {str(folder)!r} of the dataset "
            f"{dataset!r} is not UTF-8, and names of images are stored as text; rename it."
        ) from error


def _are_wnids(names: Sequence[str], classes: int | None) -> bool:
    return classes == len(WNIDS) and set(names) <= set(WNIDS)


def _stated(path: Path, folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Return the labels that a classes.csv states, of all folders that it names."""
    labels: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [(row["wnid"], int(row["label"])) for row in csv.DictReader(file)]
    except OSError as error:
        raise UserError(f"The file {str(path)!r} can't be read: {error.strerror}.") from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(
            f"The file {str(path)!r} can't be read: the columns wnid and label, an integer, "
            f"are needed ({type(error).__name__}: {error})."
        ) from error
    for name, label in rows:
        if name in labels:
            raise UserError(
                f"The file {str(path)!r} has two rows of the folder {name!r}, with the labels "
                f"{labels[name]} and {label}; one row is allowed for each folder."
            )
        labels[name] = label
    for name in names:
        if name not in labels:
            raise UserError(f"The class folder {str(folder / name)!r} has no row in {str(path)!r}.")
    return labels


def _guessed(
    folder: Path, dataset: str, names: Sequence[str], classes: int | None
) -> dict[str, int]:
    """Return the labels that follow from the order of the folders, if that is no mere guess."""
    if classes not in (None, len(names)):
        unknown = [name for name in names if name not in WNIDS]
        more = ""
        if classes == len(WNIDS) and len(unknown) < len(names):
            more = f"; {unknown[0]!r} is no wnid of ImageNet, whose labels are known"
        raise UserError(
            f"The folder {str(folder)!r} of the dataset {dataset!r} has {len(names)} "
            f"class folders, where {classes} are needed (labels are their order; "
            f"{_WAY_OUT}{more})."
        )
    numbers = [int(found[0]) for name in names if (found := re.match(r"[0-9]+", name))]
    if len(numbers) == len(names) and numbers != sorted(numbers):
        place = next(i for i in range(1, len(numbers)) if numbers[i] < numbers[i - 1])
        raise UserError(
            f"The class folders in {str(folder)!r} of the dataset {dataset!r} are numbered, but "
            f"as text {names[place - 1]!r} comes before {names[place]!r}, so that their labels are "
            f"not clear: {_WAY_OUT.replace('can state others', 'must state them')}."
        )
    return {name: label for label, name in enumerate(names)}
