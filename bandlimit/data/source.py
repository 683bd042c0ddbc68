"""Where a dataset comes from, and its images before any is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bandlimit.data import downloads
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


@dataclass(frozen=True)
class Source:
    """Where a dataset comes from: a row of the registry, or what users state about their own data.

    Attributes:
        name: the dataset's name, a key of the draw of subsets.
        loader: a name in `LOADERS`.
        urls: addresses in order of preference; one that ends in "/" is a folder that holds the
            files of the loader.
        sha256: one checksum per file, in the loader's order.
        bytes: one size per file, likewise.
        classes: number of classes; labels lie in 0..classes-1.
        shape: (C, H, W) of all images; None takes the shape of the first.
        gray: whether pictures are read as gray, where no shape says so; None reads them as gray if
            all are, else in colour.
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
    gray: bool | None = None
    images: Mapping[str, int] = field(default_factory=dict)
    path: str | os.PathLike[str] | None = None
    resize: int | None = None
    crop: int | None = None
    licence: str = ""
    reference: str = ""

    @property
    def channels(self) -> int | None:
        """Channels that pictures are read with; None where the pictures decide."""
        if self.shape is not None:
            return self.shape[0]
        return None if self.gray is None else 1 if self.gray else 3


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


def by_times(shape: Sequence[int]) -> str:
    """Return a shape in words, such as 3 x 32 x 32."""
    return " x ".join(map(str, shape))


def local_path(source: Source, split: str | None = None) -> Path:
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


def local_files(source: Source, names: Sequence[str], cache: Path | None) -> dict[str, Path]:
    """Return the files of a loader by name: those under the local path, else downloaded ones."""
    if source.path is not None:
        folder = local_path(source)
        for name in names:
            if not (folder / name).is_file():
                raise UserError(
                    f"The folder {str(folder)!r} of the dataset {source.name!r} has no file "
                    f"{name!r}."
                )
        return {name: folder / name for name in names}
    if cache is None:
        raise ValueError(f"the dataset {source.name!r} has no path: a cache is needed")
    for name, sha256 in zip(names, source.sha256, strict=True):
        downloads.verify(cache / name, sha256)
    return {name: cache / name for name in names}


def known_split(source: Source, split: str, allowed: Mapping[str, Any]) -> str:
    """Return a split that is allowed.

    Raises:
        UserError: it is not.
    """
    if split not in allowed:
        raise UserError(
            f"The dataset {source.name!r} has no split {split!r}; {suggest(split, allowed)}."
        )
    return split
