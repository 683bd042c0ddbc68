"""The batches of CIFAR-10, read from their archive without running their pickles."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bandlimit.data.arrays import load_arrays
from bandlimit.data.source import (
    DOWNLOADED,
    Listing,
    Source,
    by_times,
    known_split,
    local_files,
    local_path,
)
from bandlimit.errors import UserError

CIFAR10_BATCHES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
"""The files of each split, in order."""


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
            raise ValueError(f"{len(images)} images and {by_times(labels.shape)} labels")
    except UserError:
        raise
    except Exception as error:  # a malformed pickle may raise anything
        raise UserError(f"The batch {where} is not a CIFAR-10 batch ({error}).") from error
    return images, labels


def load_cifar10(source: Source, split: str | None, cache: Path | None) -> Listing:
    """Return the images of the archive of CIFAR-10.

    Raises:
        UserError: the archive is missing, damaged, or not that of CIFAR-10.
    """
    if source.path is not None:
        archive = local_path(source)
    else:
        (archive,) = local_files(source, DOWNLOADED["cifar10"], cache).values()
    splits = (
        list(CIFAR10_BATCHES) if split is None else [known_split(source, split, CIFAR10_BATCHES)]
    )
    wanted = {name for part in splits for name in CIFAR10_BATCHES[part]}
    batches = {}
    try:
        # Members are read, never extracted: no path in the archive can lead anywhere.
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                # A link would be followed within the archive, and a device has no content.
                if name in wanted and member.isreg() and (file := tar.extractfile(member)):
                    batches[name] = _cifar10_batch(file.read(), f"{name!r} in {str(archive)!r}")
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(
            f"The archive {str(archive)!r} can't be read as .tar.gz ({error})."
        ) from error
    if missing := sorted(wanted - set(batches)):
        raise UserError(
            f"The archive {str(archive)!r} is incomplete; missing: {', '.join(missing)}."
        )
    return load_arrays(
        {
            part: (
                np.concatenate([batches[name][0] for name in CIFAR10_BATCHES[part]]),
                np.concatenate([batches[name][1] for name in CIFAR10_BATCHES[part]]),
            )
            for part in splits
        }
    )
