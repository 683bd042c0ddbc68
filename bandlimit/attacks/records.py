"""Adversarial records: made by an attack, re-checked from the file.

A record is a row per image (minimal attacks, epsilon null) or per image and epsilon (fixed
attacks). Rows follow the order of the images; an image's epsilons follow each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from bandlimit import keys
from bandlimit.attacks.base import (
    Attack,
    FixedAttack,
    Found,
    MinimalAttack,
    Noise,
    device_of,
    exact_arithmetic,
    loss_gradient,
    sound,
)
from bandlimit.attacks.selection import checked_epsilon
from bandlimit.errors import UserError
from bandlimit.files import store

Batch = tuple[Sequence[str], Any, torch.Tensor]
"""Image ids, labels (N integers), images (N x C x H x W, float32 in [0, 1])."""

STATUSES = ("ok", "failed", "nan_gradient", "zero_gradient", "misclassified")
"""What can become of an image; only 'ok' is a success."""

BOX_SLACK = 1e-6
"""How far a fixed attack's l_inf may lie beyond its epsilon by rounding."""


def schema(shape: Sequence[int]) -> pa.Schema:
    """Return the schema of adversarial records of images of one shape (C, H, W)."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("epsilon", pa.float64()),
            ("label", pa.int64()),
            ("status", pa.string()),
            ("success", pa.bool_()),
            ("prediction_before", pa.int64()),
            ("prediction_after", pa.int64()),
            ("linf", pa.float64()),
            ("l2", pa.float64()),
            ("steps", pa.int64()),
            ("image", store.image_type(shape, "float32")),
        ]
    )


def generate(
    model: torch.nn.Module,
    attack: Attack,
    batches: Iterable[Batch],
    *,
    seed: int,
    dataset: str,
    model_name: str,
    epsilons: Sequence[float] = (),
) -> Iterator[pa.Table]:
    """Attack images and yield their records, a table per batch.

    Only images that the model classifies correctly are attacked. Status, by the first that holds:

    * 'nan_gradient': the logits of the clean image are not finite;
    * 'misclassified': the undefended prediction is wrong;
    * 'nan_gradient': the cross-entropy gradient at the clean image is not finite (the attack is
      not run), or a logit or gradient on the way was not and nothing can be trusted: for a fixed
      attack unless it succeeded, for a minimal one in any case, since what it found need not be
      minimal;
    * 'ok': the image found, clipped to [0, 1] and read again as float32, is misclassified;
    * 'zero_gradient': nothing found, and that gradient is 0 throughout;
    * 'failed': nothing found.

    Unless 'ok', the record holds the clean image, norms of 0, and its prediction.

    Args:
        model: maps pixels in [0, 1] to logits, on the device that is to be used.
        attack: one of `catalogue.ATTACKS`, with its hyper-parameters.
        batches: image ids, labels, images.
        seed: the configuration's seed; with the names and the image id it keys all noise.
        dataset: name of the dataset, a key of the noise.
        model_name: name of the model, a key of the noise.
        epsilons: for fixed attacks, l_inf in [0, 1] pixels; minimal attacks take none.

    Returns:
        Tables of `schema`.

    Raises:
        UserError: an epsilon is not allowed, or none is given; a label is no class of the model.
        ValueError: images are not N x C x H x W in float32 and [0, 1].
    """
    sizes: list[float | None] = [None]
    if isinstance(attack, FixedAttack):
        sizes = [checked_epsilon(epsilon) for epsilon in epsilons]
        if not sizes or len(set(sizes)) < len(sizes):
            raise UserError(
                f"The attack {attack.name!r} needs at least one epsilon, and each only once; "
                f"got {list(epsilons)}."
            )

    def noise_of(image_ids: Sequence[str], images: torch.Tensor) -> Noise:
        def noise(i: int, draw: int) -> torch.Tensor:
            generator = keys.generator(
                seed, f"{attack.name} start", dataset, model_name, image_ids[i], draw
            )
            return (torch.rand(images.shape[1:], generator=generator) * 2 - 1).to(images.device)

        return noise

    def tables() -> Iterator[pa.Table]:
        device = device_of(model)
        for image_ids, labels, images in batches:
            if len(image_ids):
                labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
                images = checked_images(images).to(device)
                noise = noise_of(image_ids, images)
                with exact_arithmetic():
                    table = _records(model, attack, image_ids, labels, images, noise, sizes)
                yield table

    return tables()


def _records(
    model: torch.nn.Module,
    attack: Attack,
    image_ids: Sequence[str],
    labels: torch.Tensor,
    images: torch.Tensor,
    noise: Noise,
    epsilons: Sequence[float | None],
) -> pa.Table:
    """Attack one batch; return its records."""
    with torch.no_grad():
        logits = model(images)
    before = logits.argmax(dim=1)
    check_labels(image_ids, labels, logits.shape[1])
    readable = sound(logits)
    status = np.where(
        readable.cpu().numpy(),
        np.where((before == labels).cpu().numpy(), "failed", "misclassified"),
        "nan_gradient",
    ).astype(object)
    right = (readable & (before == labels)).nonzero().flatten()
    if len(right):
        logits, gradient = loss_gradient(model, images[right], labels[right])
        steep = sound(logits) & sound(gradient)
        status[right[~steep].cpu().numpy()] = "nan_gradient"
        flat = (gradient == 0).flatten(1).all(dim=1)
        status[right[flat].cpu().numpy()] = "zero_gradient"
        right = right[steep]

    places = right.tolist()

    def keyed(i: int, draw: int) -> torch.Tensor:
        return noise(places[i], draw)

    rows = len(image_ids)
    columns = []
    for epsilon in epsilons:
        adversarial = images.clone()
        after = before.clone()
        outcome = status.copy()
        steps = torch.zeros(rows, dtype=torch.int64)
        if len(right):
            found = _attack(attack, model, images[right], labels[right], keyed, epsilon)
            changed = found.images.float().clamp(0, 1)
            with torch.no_grad():
                logits = model(changed)
            trusted = sound(logits) & sound(changed)
            moved = (changed != images[right]).flatten(1).any(dim=1)
            won = trusted & moved & (logits.argmax(dim=1) != labels[right])
            lost_trust = found.broken | ~trusted
            if attack.minimal:
                won &= ~lost_trust
            adversarial[right[won]] = changed[won]
            after[right[won]] = logits.argmax(dim=1)[won]
            outcome[right[won].cpu().numpy()] = "ok"
            outcome[right[lost_trust & ~won].cpu().numpy()] = "nan_gradient"
            steps[right.cpu()] = found.steps.cpu()
        columns.append((adversarial.cpu().numpy(), after.tolist(), outcome, steps.tolist()))

    return _table(
        image_ids, epsilons, labels.tolist(), before.tolist(), images.cpu().numpy(), columns
    )


def _attack(
    attack: Attack,
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    noise: Noise,
    epsilon: float | None,
) -> Found:
    if isinstance(attack, FixedAttack) and epsilon is not None:
        return attack.perturb(model, images, labels, noise, epsilon)
    if isinstance(attack, MinimalAttack):
        return attack.search(model, images, labels, noise)
    raise ValueError(f"{type(attack).__name__} is neither a minimal nor a fixed attack")


def _table(
    image_ids: Sequence[str],
    epsilons: Sequence[float | None],
    labels: list[int],
    before: list[int],
    clean: np.ndarray,
    columns: list[tuple[np.ndarray, list[int], np.ndarray, list[int]]],
) -> pa.Table:
    """Interleave the results of all epsilons, image by image, so that batches leave no trace."""
    rows: list[dict[str, Any]] = []
    pictures = []
    for i, image_id in enumerate(image_ids):
        for epsilon, (adversarial, after, status, steps) in zip(epsilons, columns, strict=True):
            linf, l2 = norms(adversarial[i], clean[i])
            rows.append(
                {
                    "image_id": image_id,
                    "epsilon": epsilon,
                    "label": labels[i],
                    "status": status[i],
                    "success": status[i] == "ok",
                    "prediction_before": before[i],
                    "prediction_after": after[i],
                    "linf": linf,
                    "l2": l2,
                    "steps": steps[i],
                }
            )
            pictures.append(adversarial[i])
    full = schema(clean.shape[1:])
    table = pa.Table.from_pylist(rows, schema=full.remove(full.get_field_index("image")))
    return table.append_column(full.field("image"), store.image_column(np.stack(pictures)))


def norms(adversarial: np.ndarray, clean: np.ndarray) -> tuple[float, float]:
    """Return l_inf and L2 of the difference of two float32 images, computed in float64."""
    difference = np.abs(adversarial.astype(np.float64) - clean.astype(np.float64)).ravel()
    return float(difference.max()), math.sqrt(float(np.sum(difference**2)))


def checked_images(images: torch.Tensor) -> torch.Tensor:
    """Return images as they are.

    Raises:
        ValueError: they are not N x C x H x W in float32 and [0, 1].
    """
    if images.dtype != torch.float32 or images.ndim != 4:
        raise ValueError(
            f"expected float32 images N x C x H x W, got {images.dtype} {tuple(images.shape)}"
        )
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise ValueError("expected images in [0, 1], got values outside or NaN")
    return images


def check_labels(image_ids: Sequence[str], labels: torch.Tensor, classes: int) -> None:
    """Check that labels are classes of the model.

    Raises:
        UserError: one is not.
    """
    for image_id, label in zip(image_ids, labels.tolist(), strict=True):
        if not 0 <= label < classes:
            raise UserError(
                f"The label of image {image_id!r} is {label}, but the model has {classes} "
                f"classes: 0 to {classes - 1} is allowed."
            )


def recheck(
    path: str | os.PathLike[str],
    model: torch.nn.Module,
    clean: Iterable[Batch],
    *,
    size: int = 100,
) -> int:
    """Read stored records again and verify what they state, from the images they hold.

    Norms, box, status, labels and predictions are recomputed; a fixed attack's l_inf is compared
    with its epsilon. Run it on the device that made the records: a minimal sample lies so near
    the boundary that another device's rounding may undo it.

    Args:
        path: Parquet file of adversarial records.
        model: the model that was attacked.
        clean: the images that were attacked, in the order of the records; more are allowed.
        size: records per batch.

    Returns:
        The number of records.

    Raises:
        UserError: the file can't be read or is of another schema; or a record does not hold,
            and the sentence names the first that does not.
    """
    device = device_of(model)

    def predict(images: np.ndarray) -> list[int]:
        with exact_arithmetic(), torch.no_grad():
            found: list[int] = model(torch.tensor(images, device=device)).argmax(dim=1).tolist()
        return found

    return verify(path, clean, schema, _problem, predict=predict, size=size)


def verify(
    path: str | os.PathLike[str],
    clean: Iterable[Batch],
    wanted: Callable[[Sequence[int]], pa.Schema],
    problem: Callable[[dict[str, Any], np.ndarray, int, np.ndarray, Any], str | None],
    *,
    predict: Callable[[np.ndarray], Sequence[Any]] = lambda images: [None] * len(images),
    size: int = 100,
) -> int:
    """Check stored records against the images they were made from; return how many there are.

    Args:
        path: Parquet file of records.
        clean: the images that were attacked, in the order of the records; more are allowed.
        wanted: the schema of the records for images of a shape.
        problem: (row, image, label, clean image, prediction) -> what is wrong with it, or None.
        predict: a model's predictions for images, N x C x H x W; by default None for each.
        size: records per batch.

    Raises:
        UserError: the file can't be read or is of another schema; or a record does not hold,
            and the sentence names the first that does not.
    """
    originals = one_by_one(clean)
    original: tuple[str, int, np.ndarray] | None = None
    count = 0
    for table in store.batches(path, size):
        _check_schema(path, table.schema, wanted)
        images = store.images_of(table)
        rows = table.drop_columns(["image"]).to_pylist()
        for row, image, prediction in zip(rows, images, predict(images), strict=True):
            while original is None or original[0] != row["image_id"]:
                original = next(originals, None)
                if original is None:
                    raise UserError(
                        f"The file {str(path)!r} has a record of image {row['image_id']!r}, which "
                        "is missing in its dataset, or stands there in another order."
                    )
            wrong = problem(row, image, original[1], original[2], prediction)
            if wrong:
                raise UserError(
                    f"The record of image {row['image_id']!r} in {str(path)!r} does not hold: "
                    f"{wrong}."
                )
        count += len(rows)
    return count


def one_by_one(batches: Iterable[Batch]) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield id, label and pixels of each image of some batches."""
    for image_ids, labels, images in batches:
        numbers = torch.as_tensor(labels).tolist()
        yield from zip(image_ids, numbers, images.cpu().numpy(), strict=True)


def _check_schema(
    path: str | os.PathLike[str], found: pa.Schema, wanted: Callable[[Sequence[int]], pa.Schema]
) -> None:
    image = found.field("image").type if "image" in found.names else None
    full = wanted(image.shape if isinstance(image, pa.FixedShapeTensorType) else (1, 1, 1))
    for name in full.names:
        given = found.field(name).type if name in found.names else "no such column"
        if given != full.field(name).type:
            raise UserError(
                f"The file {str(path)!r} holds no adversarial records of this kind: its column "
                f"{name!r} should be {full.field(name).type}, but is {given}."
            )


def mismatch(row: dict[str, Any], image: np.ndarray, label: int, clean: np.ndarray) -> str | None:
    """Return how label, box or norms of a record disagree with its images, or None."""
    if row["label"] != label:
        return f"its label is {row['label']}, but {label} in the dataset"
    if image.shape != clean.shape:
        return f"its image has shape {image.shape}, but {clean.shape} in the dataset"
    if not np.all((image >= 0) & (image <= 1)):
        return "its image leaves the box [0, 1]"
    for name, computed in zip(("linf", "l2"), norms(image, clean), strict=True):
        if not math.isclose(row[name], computed, rel_tol=1e-9, abs_tol=1e-12):
            return f"its {name} is {row[name]}, but {computed} by its image"
    return None


def _problem(
    row: dict[str, Any], image: np.ndarray, label: int, clean: np.ndarray, prediction: int
) -> str | None:
    """Return what is wrong with a record, or None."""
    if row["status"] not in STATUSES or row["success"] != (row["status"] == "ok"):
        return f"its status is {row['status']!r} and its success {row['success']}"
    if wrong := mismatch(row, image, label, clean):
        return wrong
    linf, _ = norms(image, clean)
    if row["prediction_after"] != prediction:
        return f"its prediction_after is {row['prediction_after']}, but {prediction} by its image"
    if row["success"]:
        if prediction == label:
            return f"it counts as adversarial, but the model still predicts {label}"
        if row["prediction_before"] != label:
            return f"it counts as adversarial, but was predicted {row['prediction_before']} before"
        if row["epsilon"] is not None and linf > row["epsilon"] + BOX_SLACK:
            return f"its linf is {linf}, above its epsilon {row['epsilon']}"
    elif linf:
        return f"its status is {row['status']!r}, but its image is not the clean one"
    elif row["prediction_before"] != prediction:
        return f"its prediction_before is {row['prediction_before']}, but {prediction} by its image"
    elif row["status"] != "nan_gradient" and (row["status"] == "misclassified") != (
        prediction != label
    ):
        return f"its status is {row['status']!r}, but its clean image is predicted {prediction}"
    return None
