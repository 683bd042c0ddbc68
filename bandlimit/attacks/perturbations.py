"""Perturbations along the gradient of every image, whether the network is fooled or not.

What a study of spectra asks is the direction of the gradient, of misclassified images as well: so
nothing is filtered by success here, as it is in the adversarial sets of `attacks.records`.

Source: "A Frequency Domain Analysis of Gradient-Based Adversarial Examples", section 2 (FGM and
PGD by the norm of their bound).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch

from bandlimit import keys
from bandlimit.attacks.base import Watched, device_of, exact_arithmetic, sound
from bandlimit.attacks.records import Batch, check_labels, checked_images, norms
from bandlimit.files import store
from bandlimit.training.perturbations import EACH, Perturbation

OK, ZERO, BROKEN = "ok", "zero_gradient", "nan_gradient"


def schema(shape: Sequence[int]) -> pa.Schema:
    """Return the schema of perturbed images of one shape (C, H, W), a row per image and way.

    `image` is the perturbed image, float32, outside of [0, 1] where a way does not clip; norms are
    those of its difference from the clean image.
    """
    return pa.schema(
        [
            ("perturbation", pa.string()),
            ("image_id", pa.string()),
            ("epsilon", pa.float64()),
            ("label", pa.int64()),
            ("status", pa.string()),
            ("prediction_before", pa.int64()),
            ("prediction_after", pa.int64()),
            ("linf", pa.float64()),
            ("l2", pa.float64()),
            ("image", store.image_type(shape, "float32")),
        ]
    )


def generate(
    model: torch.nn.Module,
    ways: Mapping[str, Perturbation],
    batches: Iterable[Batch],
    *,
    seed: int,
    dataset: str,
    model_name: str,
) -> Iterator[tuple[str, pa.Table, torch.Tensor, torch.Tensor]]:
    """Perturb images and yield their records, a table for each way and batch.

    Status: 'nan_gradient' where a logit, a gradient on the way or what is found is not finite;
    'zero_gradient' where that gradient is 0 throughout; both leave the image as it is. Else 'ok'.

    Args:
        model: maps pixels in [0, 1] to logits, on the device that is to be used.
        ways: by name.
        batches: image ids, labels, images.
        seed: the configuration's seed; with the names and the image id it keys the start of PGD.
        dataset: name of the dataset, a key of the start.
        model_name: name of the model, a key of the start.

    Yields:
        Name of the way, a table of `schema`, and the clean images of its rows with their
        perturbations, N x C x H x W each, float64.

    Raises:
        UserError: a label is no class of the model.
        ValueError: images are not N x C x H x W in float32 and [0, 1].
    """
    device = device_of(model)
    for image_ids, labels, images in batches:
        if not len(image_ids):
            continue
        labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        images = checked_images(images).to(device)

        def start(image_id: str, shape: torch.Size = images.shape[1:]) -> torch.Tensor:
            generator = keys.generator(seed, "perturbation start", dataset, model_name, image_id, 0)
            return torch.rand(shape, generator=generator) * 2 - 1

        unit = torch.stack([start(image_id) for image_id in image_ids]).to(device)
        with exact_arithmetic():
            with torch.no_grad():
                logits = model(images)
            check_labels(image_ids, labels, logits.shape[1])
            gradients = {
                loss: _gradient(model, images, labels, loss)
                for loss in dict.fromkeys(way.loss for way in ways.values())
            }
            for name, way in ways.items():
                # The sign of NaN is 0: PGD would stay where it is, and seem done.
                watched = Watched(model, labels, until_adversarial=False)
                perturbed = way.of(watched, images, labels, unit)
                gradient = gradients[way.loss]
                trusted = sound(logits) & sound(gradient) & sound(perturbed) & ~watched.broken
                # PGD from a random start would leave that start, which is no gradient's.
                unmoved = (gradient == 0).flatten(1).all(dim=1)
                kept = (trusted & ~unmoved)[:, None, None, None]
                perturbed = torch.where(kept, perturbed, images)
                with torch.no_grad():
                    after = model(perturbed).argmax(dim=1)
                status = [
                    BROKEN if not fine else ZERO if zero else OK
                    for fine, zero in zip(trusted.tolist(), unmoved.tolist(), strict=True)
                ]
                table = _table(
                    name, way, image_ids, labels, status, logits, after, images, perturbed
                )
                yield name, table, images.double(), perturbed.double() - images.double()


def _gradient(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, loss: str
) -> torch.Tensor:
    """Return the gradient of the loss that perturbations follow, at the images."""
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(EACH[loss](model(leaf), labels).sum(), leaf)
    return gradient


def _table(
    name: str,
    way: Perturbation,
    image_ids: Sequence[str],
    labels: torch.Tensor,
    status: Sequence[str],
    logits: torch.Tensor,
    after: torch.Tensor,
    images: torch.Tensor,
    perturbed: torch.Tensor,
) -> pa.Table:
    clean, changed = images.cpu().numpy(), perturbed.cpu().numpy()
    lengths = [norms(b, a) for a, b in zip(clean, changed, strict=True)]
    columns: dict[str, Any] = {
        "perturbation": [name] * len(image_ids),
        "image_id": list(image_ids),
        "epsilon": [way.epsilon] * len(image_ids),
        "label": labels.tolist(),
        "status": list(status),
        "prediction_before": logits.argmax(dim=1).tolist(),
        "prediction_after": after.tolist(),
        "linf": [linf for linf, _ in lengths],
        "l2": [l2 for _, l2 in lengths],
    }
    full = schema(clean.shape[1:])
    table = pa.Table.from_pydict(columns, schema=full.remove(full.get_field_index("image")))
    return table.append_column(full.field("image"), store.image_column(changed))
