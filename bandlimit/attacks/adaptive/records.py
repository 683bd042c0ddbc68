"""Records of adaptive attacks: made, and re-checked from the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from bandlimit.attacks.adaptive.base import STATUSES, AdaptiveAttack, Target, Trial
from bandlimit.attacks.base import (
    device_of,
    exact_arithmetic,
    sound,
)
from bandlimit.attacks.records import (
    BOX_SLACK,
    Batch,
    check_labels,
    checked_images,
    mismatch,
    norms,
    verify,
)
from bandlimit.attacks.selection import checked_epsilon
from bandlimit.errors import UserError
from bandlimit.files import store

if TYPE_CHECKING:
    from bandlimit.defenses.base import Defense


def schema(shape: Sequence[int]) -> pa.Schema:
    """Return the schema of the records of adaptive attacks on images of one shape (C, H, W)."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("epsilon", pa.float64()),
            ("confidence", pa.float64()),
            ("restart", pa.int64()),
            ("label", pa.int64()),
            ("status", pa.string()),
            ("steps", pa.int64()),
            ("linf", pa.float64()),
            ("l2", pa.float64()),
            ("losses", pa.list_(pa.float32())),
            ("image", store.image_type(shape, "float32")),
        ]
    )


def generate(
    defense: Defense,
    attack: AdaptiveAttack,
    batches: Iterable[Batch],
    *,
    seed: int,
    dataset: str,
    model_name: str,
    defense_name: str,
    attack_name: str,
    epsilons: Sequence[float] = (),
) -> Iterator[pa.Table]:
    """Attack a defence and yield the records, a table per batch.

    Rows are ordered by image, epsilon, confidence and restart. Status, by the first that holds:

    * 'nan_gradient': an output or gradient of the defence, or the image found, was not finite, so
      that a defence that seems to hold may only have broken the attack;
    * 'zero_gradient': all gradients taken were 0, and the defence was not wrong once;
    * 'ok': neither.

    The record holds what the attack arrived at, within epsilon and [0, 1]; the clean image where
    that is not finite, or where Carlini-Wagner found nothing.

    Args:
        defense: the defence that is attacked. If it draws, its draws must carry another purpose
            than those on which it is judged afterwards.
        attack: one of `catalogue.KINDS`, with its hyper-parameters.
        batches: image ids, labels, images.
        seed: the configuration's seed; with the names and the image id it keys all noise.
        dataset: name of the dataset, a key of the noise.
        model_name: name of the model, a key of the noise.
        defense_name: name of the defence, a key of the noise.
        attack_name: name of the attack, a key of the noise.
        epsilons: l_inf in [0, 1] pixels; minimal attacks take none.

    Returns:
        Tables of `schema`.

    Raises:
        UserError: an epsilon is not allowed, or none is given; a label is no class of the defence;
            the attack and the defence do not fit.
        ValueError: images are not N x C x H x W in float32 and [0, 1].
    """
    sizes: list[float | None] = [None]
    if not attack.minimal:
        sizes = [checked_epsilon(epsilon) for epsilon in epsilons]
        if not sizes or len(set(sizes)) < len(sizes):
            raise UserError(
                f"The attack {attack_name!r} needs at least one epsilon, and each only once; "
                f"got {list(epsilons)}."
            )

    def tables() -> Iterator[pa.Table]:
        device = device_of(defense)
        for image_ids, labels, images in batches:
            if len(image_ids):
                labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
                check_labels(image_ids, labels, defense.classes)
                target = Target(
                    defense,
                    tuple(image_ids),
                    checked_images(images).to(device),
                    labels,
                    seed,
                    (attack_name, defense_name, dataset, model_name),
                )
                with exact_arithmetic():
                    columns = [
                        _columns(trial, target, size)
                        for size in sizes
                        for trial in attack.trials(target, size)
                    ]
                yield _table(target, columns)

    return tables()


def _columns(
    trial: Trial, target: Target, epsilon: float | None
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the rows of one run, without the images, and the images."""
    found = trial.images.detach().float()
    readable = sound(found)
    found = torch.where(readable[:, None, None, None], found, target.images).clamp(0, 1)
    pictures, clean = found.cpu().numpy(), target.images.cpu().numpy()
    broken = (trial.broken | ~readable).tolist()
    flat, steps, labels = trial.flat.tolist(), trial.steps.tolist(), target.labels.tolist()
    losses = trial.losses.float().cpu().numpy()
    rows = []
    for i, image_id in enumerate(target.image_ids):
        linf, l2 = norms(pictures[i], clean[i])
        if epsilon is not None and linf > epsilon + BOX_SLACK:
            raise ValueError(f"image {image_id!r} moved by {linf}, beyond the epsilon {epsilon}")
        rows.append(
            {
                "image_id": image_id,
                "epsilon": epsilon,
                "confidence": trial.confidence,
                "restart": trial.restart,
                "label": labels[i],
                "status": STATUSES[1 if broken[i] else 2 if flat[i] else 0],
                "steps": steps[i],
                "linf": linf,
                "l2": l2,
                "losses": losses[i],
            }
        )
    return rows, pictures


def _table(target: Target, columns: list[tuple[list[dict[str, Any]], np.ndarray]]) -> pa.Table:
    """Interleave all runs, image by image, so that batches leave no trace."""
    order = range(len(target.image_ids))
    rows = [rows[i] for i in order for rows, _ in columns]
    pictures = np.stack([pictures[i] for i in order for _, pictures in columns])
    full = schema(target.images.shape[1:])
    table = pa.Table.from_pylist(rows, schema=full.remove(full.get_field_index("image")))
    return table.append_column(full.field("image"), store.image_column(pictures))


def recheck(path: str | os.PathLike[str], clean: Iterable[Batch], *, size: int = 100) -> int:
    """Read stored records again and verify what they state, from the images they hold.

    Labels, norms, the box [0, 1] and epsilon are checked against the images; what a defence says of
    them is judged elsewhere.

    Args:
        path: Parquet file of adaptive records.
        clean: the images that were attacked, in the order of the records; more are allowed.
        size: records per batch.

    Returns:
        The number of records.

    Raises:
        UserError: the file can't be read or is of another schema; or a record does not hold,
            and the sentence names the first that does not.
    """
    return verify(path, clean, schema, _problem, size=size)


def _problem(
    row: dict[str, Any], image: np.ndarray, label: int, clean: np.ndarray, prediction: None
) -> str | None:
    """Return what is wrong with a record, or None."""
    if row["status"] not in STATUSES:
        return f"its status is {row['status']!r}"
    if wrong := mismatch(row, image, label, clean):
        return wrong
    if row["epsilon"] is not None and row["linf"] > row["epsilon"] + BOX_SLACK:
        return f"its linf is {row['linf']}, above its epsilon {row['epsilon']}"
    return None
