"""Records of perturbed images: their spectra by shell, and mean maps over images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.spectral import fourier, records

BATCH = 256

MAPS = ("magnitudes", "log_magnitudes", "clean_magnitudes", "log_difference", "relative")
"""Mean maps over images, as `bandlimit.spectral.fourier.Maps` names them."""


def schema(sides: Sequence[int]) -> pa.Schema:
    """Return the schema of spectra: that of `bandlimit.spectral.records`, with the perturbation."""
    return records.schema(sides).insert(0, pa.field("perturbation", pa.string()))


def spectra(name: str, ids: Sequence[str], x: Tensor, d: Tensor) -> pa.Table:
    """Return the spectra of a batch.

    Args:
        name: of the perturbation.
        ids: of the images, N.
        x: images, N x C x H x W, in [0, 1].
        d: their perturbations.
    """
    table = records.spectra(ids, x, d)
    names = pa.array([name] * len(table), pa.string())
    return table.add_column(0, pa.field("perturbation", pa.string()), names)


def averaged(
    dataset: str | os.PathLike[str], paths: Sequence[str | os.PathLike[str]]
) -> dict[str, fourier.Maps]:
    """Return the mean maps of perturbed images, by perturbation; the same for any shards.

    Args:
        dataset: file of the clean images.
        paths: files of `bandlimit.attacks.perturbations`, of all shards.

    Raises:
        UserError: a file can't be read, or they don't fit each other.
    """
    maps: dict[str, fourier.Maps] = {}
    for path in paths:
        # Of a batch of fewer images than these, all ways come before the next batch.
        beside = stream.Beside(dataset, path, BATCH)
        for table in store.batches(path, BATCH, ["perturbation", "image_id", "image"]):
            names = np.array(table["perturbation"].to_pylist())
            images, clean = store.images_of(table), beside(table["image_id"].to_pylist())
            for name in dict.fromkeys(names.tolist()):
                here = names == name
                x = clean[here].double()
                d = torch.from_numpy(images[here]).double() - x
                found = maps.setdefault(name, fourier.Maps(x.shape[2:]))
                found.add(fourier.bins(x, d))
    return maps


def maps_table(maps: Mapping[str, fourier.Maps]) -> pa.Table:
    """Return the mean maps, a row per perturbation; one without images has none.

    Columns: perturbation, images, height, width, and `MAPS`, H W values each, row by row, centred.
    """
    rows = []
    for name, found in maps.items():
        if found.images:
            height, width = found.sides
            means = {key: value.flatten().tolist() for key, value in found.means().items()}
            rows.append(
                {
                    "perturbation": name,
                    "images": found.images,
                    "height": height,
                    "width": width,
                    **{key: means[key] for key in MAPS},
                }
            )
    types = [("perturbation", pa.string())]
    types += [(key, pa.int64()) for key in ("images", "height", "width")]
    types += [(key, pa.list_(pa.float64())) for key in MAPS]
    return pa.Table.from_pylist(rows, schema=pa.schema(types))
