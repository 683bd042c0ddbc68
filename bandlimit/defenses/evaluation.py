"""Records of what a model or a defence says of each image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from bandlimit.data import stream
from bandlimit.defenses.sweep import Judgement, judge
from bandlimit.files import store
from bandlimit.models.classifier import Classifier

Inputs = tuple[list[str], list[float | None], torch.Tensor, torch.Tensor]
"""Image ids, epsilons, labels (N, int64), images (N x C x H x W, float32 in [0, 1])."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("epsilon", pa.float64()),
        ("label", pa.int64()),
        ("radius", pa.float64()),
        ("directions", pa.int64()),
        ("draw", pa.int64()),
        ("prediction", pa.int64()),
        ("p_true", pa.float64()),
        ("margin", pa.float64()),
        ("correct", pa.bool_()),
    ]
)
"""A row per image, epsilon (null where the attack is minimal or the image clean), setting, draw.

p_true is the (averaged) probability of the true class, margin is that minus the greatest of another
class. Without a defence radius, directions and draw are 0.
"""


def undefended(image_ids: Sequence[str], labels: torch.Tensor, p: torch.Tensor) -> pa.Table:
    """Return the records of a model without defence; p are probabilities, N x classes, float64.

    Raises:
        UserError: one is not finite.
    """
    prediction, p_true, margin = judge(p, labels, image_ids)
    return _table(image_ids, [None] * len(image_ids), labels, 0.0, 0, 0, prediction, p_true, margin)


def predicted(classifier: Classifier, batches: Iterable[stream.Triple]) -> pa.Table:
    """Return the records of a classifier without defence on images, of which there may be none.

    Args:
        classifier: the network with its normalisation.
        batches: image ids, labels and images, as `stream.batches` yields them.
    """
    ids: list[str] = []
    labels = [torch.empty(0, dtype=torch.int64)]
    outputs = [torch.empty(0, classifier.classes, dtype=torch.float64)]
    with torch.no_grad():
        for names, truth, images in batches:
            ids += names
            labels.append(truth)
            logits = classifier(images.to(classifier.mean.device))
            outputs.append(torch.softmax(logits, dim=1).double().cpu())
    return undefended(ids, torch.cat(labels), torch.cat(outputs))


def defended(
    image_ids: Sequence[str],
    epsilons: Sequence[float | None],
    labels: torch.Tensor,
    judgement: Judgement,
) -> pa.Table:
    """Return the records of one setting and draw of post-averaging."""
    setting = judgement.setting
    return _table(
        image_ids,
        epsilons,
        labels,
        setting.radius,
        setting.directions,
        judgement.draw,
        judgement.prediction,
        judgement.p_true,
        judgement.margin,
    )


def _table(
    image_ids: Sequence[str],
    epsilons: Sequence[float | None],
    labels: torch.Tensor,
    radius: float,
    directions: int,
    draw: int,
    prediction: np.ndarray,
    p_true: np.ndarray,
    margin: np.ndarray,
) -> pa.Table:
    count = len(image_ids)
    return pa.table(
        {
            "image_id": list(image_ids),
            "epsilon": pa.array(epsilons, pa.float64()),
            "label": labels.numpy(),
            "radius": np.full(count, radius),
            "directions": np.full(count, directions),
            "draw": np.full(count, draw),
            "prediction": prediction,
            "p_true": p_true,
            "margin": margin,
            "correct": prediction == labels.numpy(),
        },
        schema=SCHEMA,
    )


def write(
    path: str | os.PathLike[str], table: pa.Table, certificate: Mapping[str, Any] | None
) -> None:
    """Write records, in their order."""
    store.write(path, in_order(table), certificate)


def in_order(table: pa.Table) -> pa.Table:
    """Return records by setting, draw, epsilon and image, so that batches leave no trace."""
    order = [(key, "ascending") for key in ("radius", "directions", "draw", "epsilon", "image_id")]
    return table.sort_by(order)


def inputs(path: str | os.PathLike[str], size: int, shard: str, clean: bool) -> Iterator[Inputs]:
    """Yield (image ids, epsilons, labels, images) of a dataset, or of the successes of an attack.

    Args:
        path: a dataset (clean) or a set of adversarial records.
        size: images in a batch.
        shard: part of the dataset, such as '2of8'; adversarial records are already a part.
        clean: whether `path` is a dataset.
    """
    if clean:
        for ids, labels, images in stream.batches(path, size, shard):
            yield ids, [None] * len(ids), labels, images
        return
    names = ["image_id", "epsilon", "label", "success", "image"]
    for table in store.batches(path, size, names):
        rows = table.filter(pc.field("success"))
        if len(rows):
            yield (
                rows["image_id"].to_pylist(),
                rows["epsilon"].to_pylist(),
                torch.from_numpy(rows["label"].to_numpy().copy()),
                torch.from_numpy(store.images_of(rows).copy()),
            )
