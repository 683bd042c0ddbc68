"""Count, image by image, the hyperplanes that adversarial and random perturbations cross."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models.classifier import Classifier
from bandlimit.studies.bandlimiting import crossings, regions


def crossed(
    classifier: Classifier,
    kind: str,
    rows: pa.Table,
    clean: torch.Tensor,
    *,
    segments: int,
    seed: int,
    dataset_name: str,
    model_name: str,
) -> pa.Table:
    """Return the crossings of adversarial images or of their controls, image by image.

    Args:
        classifier: the network whose hyperplanes are counted.
        kind: of `crossings.KINDS`.
        rows: adversarial records, N, as `pairs` yields them.
        clean: their clean images, N x C x H x W.
        segments: parts of the way from the clean to the perturbed image.
        seed: the configured seed.
        dataset_name: name of the dataset, part of the key of each random draw.
        model_name: name of the model, likewise.

    Raises:
        UserError: the network has no ReLU.
    """
    device = classifier.mean.device
    ids = rows["image_id"].to_pylist()
    clean = clean.to(device)
    perturbed = torch.from_numpy(store.images_of(rows).copy()).to(device)
    if kind != "adversarial":
        perturbed = clean + regions.random_control(
            perturbed - clean,
            kind=kind,
            seed=seed,
            dataset=dataset_name,
            model=model_name,
            image_ids=ids,
        )
    table = regions.count_crossings(classifier, clean, perturbed, image_ids=ids, segments=segments)
    # Rows come image by image, equally many for each.
    layers = len(table["layer"]) // len(ids)
    shared = {
        "epsilon": rows["epsilon"].to_pylist(),
        "linf": rows["linf"].to_pylist(),
        "l2": _lengths(perturbed, clean),
    }
    repeated = {
        name: [value for value in values for _ in range(layers)] for name, values in shared.items()
    }
    return (
        pa.table(
            {**table, **repeated, "kind": [kind] * len(table["layer"])},
        )
        .select(crossings.SCHEMA.names)
        .cast(crossings.SCHEMA)
    )


def pairs(
    adversarial: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    *,
    shard: str,
    size: int,
) -> Iterator[tuple[pa.Table, torch.Tensor]]:
    """Yield adversarial records of successes beside their clean images, in the records' order.

    Args:
        adversarial: file of adversarial records.
        dataset: file of the clean images.
        shard: the part of the dataset that was attacked, such as '2of8'.
        size: images in flight; memory, not results.

    Raises:
        UserError: a file can't be read, or they don't fit each other.
    """
    clean = stream.Beside(dataset, adversarial, size, shard)
    columns = ["image_id", "epsilon", "success", "linf", "image"]
    for table in store.batches(adversarial, size, columns):
        rows = table.filter(pc.field("success"))
        if len(rows):
            yield rows, clean(rows["image_id"].to_pylist())


def _lengths(perturbed: torch.Tensor, clean: torch.Tensor) -> list[float]:
    """Return the L2 norm of each perturbation, computed in float64."""
    difference = perturbed.double().cpu().numpy() - clean.double().cpu().numpy()
    return [math.sqrt(float(np.sum(np.square(image.ravel())))) for image in difference]
