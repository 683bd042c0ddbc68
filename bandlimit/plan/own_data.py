"""A look at the user's own images before any job: how many there are, and whether they can be read.

What a job would stumble on after minutes is told here. Imports nothing heavy, unless own data is in
a file of arrays.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bandlimit.config.datasets import Dataset
from bandlimit.config.run import Run, datasets_in_use
from bandlimit.data import class_folders, listings
from bandlimit.errors import UserError


def look(run: Run) -> Run:
    """Return the run that knows how many images the user's own datasets have.

    Those that no experiment or training of the run uses, or that are not there, stay unknown.

    Raises:
        UserError: the images can't be listed, a label is not allowed, or there are fewer images
            than are asked for.
    """
    found = {d.name: _looked(d) for d in datasets_in_use(run) if d.is_own}
    return replace(run, datasets={**run.datasets, **found})


def _looked(dataset: Dataset) -> Dataset:
    path = str(dataset.path).replace("{split}", dataset.split or "{split}")
    if not os.path.exists(path):
        return dataset
    image_ids, labels, splits = _listed(dataset, path)
    listings.check(
        dataset.name,
        image_ids,
        labels,
        splits,
        classes=dataset.classes,
        images={},
        split=dataset.split,
    )
    there = len(image_ids)
    if dataset.images is not None and dataset.images > there:
        raise UserError(
            f"datasets.{dataset.name}.images must be from 1 to {there}, the images in {path!r}, "
            f"got {dataset.images}."
        )
    return replace(dataset, there=there)


def _listed(dataset: Dataset, path: str) -> tuple[Sequence[str], Sequence[int], Sequence[str]]:
    """Return names, labels and splits of the images."""
    if dataset.has_class_folders:
        found = class_folders.read(Path(path), dataset.name, dataset.classes)
        return found.names, found.labels, [dataset.split or ""] * len(found.names)
    # Imported here, since a run without such files needs none of what it imports.
    from bandlimit.data import arrays
    from bandlimit.data.source import Source

    read = {"parquet": arrays.load_parquet, "idx": arrays.load_idx}[dataset.loader]
    source = Source(dataset.name, dataset.loader, classes=dataset.classes, path=dataset.path)
    listing = read(source, dataset.split, None)
    return listing.image_ids, listing.labels, listing.splits
