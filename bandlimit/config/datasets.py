"""A dataset as configured."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bandlimit.config import registry
from bandlimit.config.schema import member
from bandlimit.errors import UserError

CLASS_FOLDERS = ("imagefolder", "imagenet_val")
"""Loaders of a folder with a folder for each class."""


@dataclass(frozen=True)
class Dataset:
    """A dataset of the run: its registry entry with what the configuration says of it.

    `there` is how many images a look at the user's own found, where there was one; it identifies
    nothing, since a configuration means the same where its data is elsewhere.
    """

    name: str
    source: str
    loader: str
    urls: tuple[str, ...]
    sha256: tuple[str, ...]
    classes: int
    shape: tuple[int, ...] | None
    counts: Mapping[str, int]
    path: str | None
    split: str | None
    images: int | None
    resize: int | None
    crop: int | None
    shuffle_labels: bool = False
    there: int | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is the user's own data, of which the registry knows nothing."""
        return not self.counts and self.path is not None

    @property
    def has_class_folders(self) -> bool:
        """Whether it is a folder with a folder for each class."""
        return self.loader in CLASS_FOLDERS

    @property
    def downloads(self) -> bool:
        """Whether its files come from the network."""
        return bool(self.urls) and self.path is None

    @property
    def size(self) -> int | None:
        """How many images it has, by the configuration; None where only a look would tell."""
        if self.images is not None or not self.counts:
            return self.images
        return self.counts[self.split] if self.split else sum(self.counts.values())

    @property
    def count(self) -> int | None:
        """How many images it has, by the configuration or a look; None where nothing tells."""
        return self.there if self.size is None else self.size

    def means(self, gate: str) -> bool:
        """Whether it is the complete set that a gate of the registry names.

        Such a name is that of a registered source, or of a source and a split, 'cifar10_test'.
        The entry's name says nothing. That no image is missing is checked when it is read. Where
        labels are shuffled, no accuracy of the registry is meant.
        """
        if self.shuffle_labels:
            return False
        changed = (self.images, self.resize, self.crop) != (None, None, None)
        if changed or not self.counts:
            return False
        whole = self.split is None or set(self.counts) == {self.split}
        splits = list(self.counts) if self.split is None else [self.split]
        named = len(splits) == 1 and gate == f"{self.source}_{splits[0]}"
        return named or (whole and gate == self.source)

    def overlaps(self, other: Dataset) -> bool:
        """Whether both take images of one split of one source; subsets count as the whole."""
        # One's own data has no other identity than its place.
        mine, others = (
            d.source if d.counts else os.path.normpath(str(d.path)) for d in (self, other)
        )
        return mine == others and (None in (self.split, other.split) or self.split == other.split)


def resolve(name: str, entry: Mapping[str, Any], known: Mapping[str, Any]) -> Dataset:
    """Return a dataset as configured.

    Args:
        name: in the configuration.
        entry: what the configuration says of it, checked by its schema.
        known: rows of the registry by name.

    Raises:
        UserError: it names neither a registered source nor a loader with a path, a split is not
            among those of the source, or a subset is larger than it.
    """
    place = f"datasets.{name}"
    source, path = entry.get("source"), entry.get("path")
    if source is None and not (entry.get("loader") and path and entry.get("classes")):
        raise UserError(
            f"{place} needs either 'source', a name of the registry, or 'loader', 'path' and "
            f"'classes' of your own data; got {', '.join(sorted(entry)) or 'nothing'}."
        )
    if source is not None and "loader" in entry:
        raise UserError(
            f"{place} has both 'source' {source!r} and 'loader' {entry['loader']!r}; allowed is "
            "either 'source', a name of the registry, or 'loader', for your own data."
        )
    own = "shape" in entry
    if source is not None and own:
        raise UserError(
            f"{place} has both 'source' {source!r}, whose shape is known, and 'shape' "
            f"{entry['shape']}; allowed is 'shape' for your own data."
        )
    row: Mapping[str, str] = {}
    if source is not None:
        member(source, known, "registered datasets", f"{place}.source")
        row = known[source]
    places = row.get("urls", "").split()
    urls = tuple(part for part in places if "://" in part)
    loader = str(entry.get("loader") or row["loader"])
    if path is None and not places and loader == "imagenet_val":
        raise UserError(
            f"{place} needs a 'path': the folder with the images of {source!r}, which can't be "
            "downloaded."
        )
    split, images = entry.get("split"), entry.get("images")
    counts = {part: int(count) for part, count in registry.pairs(row.get("images", ""))}
    if split is not None and counts:
        member(split, counts, f"splits of {source!r}", f"{place}.split")
    there = (counts[split] if split else sum(counts.values())) if counts else None
    if images is not None and there is not None and images > there:
        raise UserError(f"{place}.images must be from 1 to {there}, got {images}.")
    return Dataset(
        name=name,
        source=str(source or name),
        loader=loader,
        urls=urls,
        sha256=tuple(row.get("sha256", "").split()),
        classes=int(entry.get("classes") or row["classes"]),
        shape=registry.shape(row["shape"]) if row else tuple(entry["shape"]) if own else None,
        counts=counts,
        path=path or next((part for part in places if "://" not in part), None),
        split=split,
        images=images,
        resize=entry.get("resize"),
        crop=entry.get("crop"),
        shuffle_labels=entry.get("shuffle_labels", False),
    )
