"""A look at a folder of images and at a weights file: what they are, as far as they tell."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bandlimit.config import registry
from bandlimit.data import class_folders, make, stream
from bandlimit.data import pictures as picture_files
from bandlimit.data.source import Listing, Source, by_times
from bandlimit.errors import UserError, suggest
from bandlimit.models import weights
from bandlimit.models.architectures import ARCHITECTURES, OF_ONE_SIZE

IMAGES_PER_RUN = 200
"""Size of the subset where there are more images and nothing else is asked for."""

SMALL = 64 * 64
"""Up to so many pixels the radius follows that of CIFAR-10 in the document, above of ImageNet."""

SPLITS = ("test", "val", "valid", "validation", "train", "training")
"""Names of splits; those that a network is not trained on stand before the others."""

_RECOGNISED = tuple(name for name in ARCHITECTURES if name not in OF_ONE_SIZE)
"""Architectures found by their tensors; those of the others don't tell the sides of the images."""


@dataclass(frozen=True)
class Pictures:
    """What a look at the images tells.

    Attributes:
        source: where they come from, as the workflow will read them.
        listing: the images, not decoded.
        split: the split taken, or None for all.
        folders: the class folders in the order of their labels; empty for a Parquet file and where
            a classes.csv states labels.
        images: size of the subset to run on, or None for all.
        notes: what a user should know.
    """

    source: Source
    listing: Listing
    split: str | None
    folders: tuple[str, ...]
    images: int | None
    notes: tuple[str, ...]

    @property
    def is_folder(self) -> bool:
        """Whether they are picture files, not rows of a Parquet file."""
        return self.source.loader == "imagefolder"

    @property
    def taken(self) -> int:
        """How many images a run takes."""
        return self.images or len(self.listing.labels)


@dataclass(frozen=True)
class Network:
    """What a look at the weights tells.

    Attributes:
        path: of the weights file, as given.
        state: parameters and buffers.
        architecture: the one that they fit.
        classes: number of logits.
        channels: of its images.
    """

    path: str
    state: Mapping[str, torch.Tensor]
    architecture: str
    classes: int
    channels: int


def network(path: str, architecture: str | None, classes: int | None) -> Network:
    """Return what the weights are of.

    Args:
        path: a .safetensors file or a PyTorch state dict.
        architecture: the one that they must fit; found by the tensors if not given.
        classes: number of logits that is expected.

    Raises:
        UserError: they can't be read, or fit no such network.
    """
    if architecture is not None and architecture not in _RECOGNISED:
        raise UserError(
            f"--architecture: there is no {architecture!r}; {suggest(architecture, _RECOGNISED)}."
        )
    state = weights.read_weights(path)
    if architecture is not None:
        empty, found = _like(architecture, state)
        inner = weights.unwrapped(state, empty, path)
        empty, found = _like(architecture, inner)
        weights.check_fit(inner, empty, architecture, path)
        known = Network(path, inner, architecture, *found)
    else:
        known = _recognised(path, state)
    if classes not in (None, known.classes):
        raise UserError(
            f"--classes is {classes}, but the network of {path!r} has {known.classes} classes, "
            "as its last layer says."
        )
    return known


def _recognised(path: str, state: Mapping[str, torch.Tensor]) -> Network:
    """Return the network whose tensors have these names and shapes."""
    given = _shapes(state)
    nearest: tuple[int, str, dict[str, list[int]]] = (-1, "", {})
    for name in _RECOGNISED:
        empty, (classes, channels) = _like(name, state)
        wanted = _shapes(empty.state_dict())
        if wanted == given:
            return Network(path, state, name, classes, channels)
        inner = weights.unwrapped(state, empty, path)
        if inner is not state:
            return _recognised(path, inner)
        equal = sum(given.get(key) == shape for key, shape in wanted.items())
        nearest = max(nearest, (equal, name, wanted), key=lambda found: found[0])
    equal, name, wanted = nearest
    differs = next(key for key in (*wanted, *given) if wanted.get(key) != given.get(key))
    raise UserError(
        f"The weights in {path!r} fit none of the known architectures, "
        f"{', '.join(map(repr, _RECOGNISED))}; the nearest is {name!r} ({equal} of its "
        f"{len(wanted)} tensors are there), which first differs at {differs!r}: the shape "
        f"{wanted.get(differs, 'none')} is expected, and {given.get(differs, 'none')} was given "
        "(docs/extend.md says how to add an architecture)."
    )


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    return {k: list(v.shape) for k, v in state.items() if not k.endswith(weights.COUNTER)}


def _like(name: str, state: Mapping[str, torch.Tensor]) -> tuple[nn.Module, tuple[int, int]]:
    """Return an architecture without storage, with classes and channels as in some weights.

    Where the weights have no such layers, it has 10 classes and 3 channels.
    """
    network = weights.empty_network(name, classes=10, channels=3)
    layers = list(network.named_modules())
    first = next(key for key, layer in layers if isinstance(layer, nn.Conv2d))
    last = [key for key, layer in layers if isinstance(layer, nn.Linear)][-1]
    kernel, matrix = (state.get(f"{layer}.weight") for layer in (first, last))
    channels = int(kernel.shape[1]) if kernel is not None and kernel.ndim == 4 else 3
    classes = int(matrix.shape[0]) if matrix is not None and matrix.ndim == 2 else 10
    try:
        network = weights.empty_network(name, classes=classes, channels=channels)
    except UserError:  # it takes 3 channels only; the comparison of shapes says so
        network, channels = weights.empty_network(name, classes=classes, channels=3), 3
    return network, (classes, channels)


def pictures(
    dataset: str,
    path: str,
    images: int | None,
    network: Network,
    published: Sequence[Mapping[str, str]],
    seed: int,
) -> Pictures:
    """Return what a look at the images tells, with what makes them of one size.

    Args:
        dataset: the name that they will have.
        path: a folder with a folder for each class, or a Parquet file.
        images: size of the subset that is asked for.
        network: what they are for.
        published: registry entries of networks of its architecture.
        seed: chooses the subset.

    Raises:
        UserError: there are none, they can't be read, or they do not fit the network.
    """
    is_folder = os.path.isdir(path)
    if not is_folder and not path.endswith(".parquet"):
        raise UserError(
            f"--images must be an existing folder with a folder for each class, or a .parquet file "
            "with the columns image_id, label, split and image, or label and encoded pictures, got "
            f"{path!r}."
        )
    source = Source(
        dataset,
        "imagefolder" if is_folder else "parquet",
        path=path,
        classes=network.classes,
        gray=network.channels == 1,
    )
    notes: list[str] = []
    folders: tuple[str, ...] = ()
    if is_folder and not os.path.isfile(f"{path}/classes.csv"):
        _check_folders(path, network)
        named = class_folders.read(Path(path), dataset, network.classes)
        if named.guessed:
            folders = tuple(named.classes)
        else:
            notes.append(
                "Note: the class folders are named by wnids, and their labels are ImageNet's."
            )
    listing, split = make.LOADERS[source.loader](source, None, None), None
    if not is_folder and len(set(listing.splits)) > 1:
        split = next((part for part in SPLITS if part in listing.splits), None)
        if split is not None:
            listing = make.LOADERS[source.loader](source, split, None)
    there = len(listing.labels)
    if images is not None and not 1 <= images <= there:
        raise UserError(f"--images-per-run must be from 1 to {there}, got {images}.")
    images = images or IMAGES_PER_RUN
    found = Pictures(
        source=source,
        listing=listing,
        split=split,
        folders=folders,
        images=images if images < there else None,
        notes=(),
    )
    if is_folder:
        # The first of each class, and a choice that holds what a small run takes.
        firsts = {label: row for row, label in reversed(list(enumerate(listing.labels)))}.values()
        count = min(there, IMAGES_PER_RUN)
        rows = sorted({*firsts, *stream.subset(dataset, listing.image_ids, count, seed)})
        files = [Path(path) / listing.image_ids[row] for row in rows]
        sizes = Counter(map(picture_files.size, files))
        notes += _converted(files, network.channels)
        framed, said = _framed(found.source, sizes, published)
        notes += said
        found = replace(found, source=framed)
        for _ in make.LOADERS[source.loader](framed, None, None).read(sorted(firsts)):
            pass  # one that can't be read is told
    return replace(found, notes=tuple(notes))


def _check_folders(path: str, network: Network) -> None:
    """Check the folders whose order may decide on the labels."""
    folders = sorted(
        entry.name
        for entry in Path(path).iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )
    if folders and set(map(str.lower, folders)) <= set(SPLITS):
        raise UserError(
            f"The folders in {path!r} are splits ({', '.join(folders)}), where one for each class "
            f"is needed; give one of them, such as --images {path}/{folders[0]}."
        )
    if len(folders) > network.classes:
        raise UserError(
            f"The folder {path!r} has {len(folders)} class folders, but the network of "
            f"{network.path!r} has {network.classes} classes: {folders[network.classes]!r} would "
            f"have the label {network.classes}, and 0..{network.classes - 1} are allowed."
        )


def _converted(files: Sequence[Path], channels: int) -> list[str]:
    """Return a note where pictures are read with other channels than they have."""
    gray = sum(map(picture_files.is_gray, files))
    if channels == 1 and gray < len(files):
        return [
            f"Note: {len(files) - gray} of {len(files)} pictures that were looked at are in "
            "colour; all are read as gray, since the network takes 1 channel."
        ]
    if channels == 3 and gray:
        return [
            f"Note: {gray} of {len(files)} pictures that were looked at are gray; all are read in "
            "colour, with 3 equal channels, since the network takes 3."
        ]
    return []


def _framed(
    source: Source, sizes: Mapping[tuple[int, int], int], published: Sequence[Mapping[str, str]]
) -> tuple[Source, list[str]]:
    """Return the source with what makes pictures of these sizes those of the network, and why.

    Networks of ImageNet are trained at 224 x 224, cut from the centre of a shorter side of 256.
    Those of CIFAR-10 take any size, so that pictures of one size stay as they are.
    """
    side = registry.shape(published[0]["shape"])[1]
    smallest = min(map(min, sizes))
    usual = f"published networks of this architecture take {side} x {side} pixels"
    if set(sizes) == {(side, side)}:
        return source, []
    small = side * side <= SMALL
    if len(sizes) == 1 and small and max(next(iter(sizes))) <= side:
        return source, []
    if len(sizes) == 1 and (small or smallest < side):
        change = f"if yours does, add 'resize: {side}, crop: {side}' to the dataset"
        return source, [f"Note: {usual}; {change}."]
    resize = side if small else side * 8 // 7
    what = (
        f"the images are of {len(sizes)} sizes"
        if len(sizes) > 1
        else f"the images have {by_times(next(iter(sizes)))} pixels"
    )
    note = (
        f"Note: {what}, and {usual}, so they are resized to a shorter side of {resize} and cut "
        f"to {side} x {side}; if yours takes others, change 'resize' and 'crop', and 'shape'."
    )
    return replace(source, resize=resize, crop=side), [note]
