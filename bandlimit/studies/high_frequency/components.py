"""What a network says of images and of their parts: low and high frequencies, singular values.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", sections 3 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from bandlimit.attacks.base import device_of, sound
from bandlimit.attacks.records import Batch
from bandlimit.spectral.components import PARTS, component
from bandlimit.spectral.svd import svd_split
from bandlimit.studies.high_frequency.components_records import (
    CONVENTIONS,
    FOURIER,
    IMAGE,
    SCHEMA,
    SVD,
)

TINY = 1e-300


def evaluate(
    model: torch.nn.Module, batches: Iterable[Batch], radii: Sequence[float]
) -> Iterator[pa.Table]:
    """Yield what a model says of images and of their parts, a table of `SCHEMA` per batch.

    Singular values are compared at equal energy: as many lead, channel by channel, as come nearest
    to the share that the low frequencies of that radius hold. The fewest that hold at least as much
    would hold more on average, and a strong part with more energy is more often right.

    Args:
        model: pixels in [0, 1] to logits, on the device that is to be used.
        batches: image ids, labels, images.
        radii: of the parts, in periods per side.
    """
    device = device_of(model)
    for image_ids, labels, images in batches:
        if not len(image_ids):
            continue
        labels = torch.as_tensor(labels, dtype=torch.int64).to(device)
        # In float64, so that a part and the rest add up to the image.
        x = images.to(device).double()
        rows = [_rows(model, image_ids, labels, x, x, IMAGE, None, None, None)]
        for radius in radii:
            for convention in CONVENTIONS:
                for part in PARTS:
                    shown = component(
                        x,
                        part=part,
                        radius=radius,
                        strict=convention == "strict",
                        scale="maximum" if convention == "maximum" else "none",
                    )
                    if convention == "clipped":
                        shown = shown.clamp(0, 1)
                    rows.append(
                        _rows(model, image_ids, labels, x, shown, FOURIER, part, radius, convention)
                    )
            low = component(x, part="low", radius=radius, scale="none")
            held = (_energy(low) / _energy(x).clamp_min(TINY)).clamp(0, 1)
            for part, shown in zip(PARTS, _singular(x, held), strict=True):
                rows.append(_rows(model, image_ids, labels, x, shown, SVD, part, radius, "text"))
        yield pa.concat_tables(rows)


def _singular(x: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Return what leading and trailing singular values give, image by image, as `component` is."""
    pairs = [
        svd_split(image.clone(), share, nearest=True) for image, share in zip(x, held, strict=True)
    ]
    leading, trailing = (torch.stack(part) for part in zip(*pairs, strict=True))
    return leading, trailing


def _energy(x: Tensor) -> Tensor:
    """Return the energy of each channel, N x C."""
    return x.square().sum(dim=(2, 3))


@torch.no_grad()
def _rows(
    model: torch.nn.Module,
    image_ids: Sequence[str],
    labels: Tensor,
    x: Tensor,
    shown: Tensor,
    kind: str,
    part: str | None,
    radius: float | None,
    convention: str | None,
) -> pa.Table:
    logits = model(shown.float())
    probabilities = torch.softmax(logits.double(), dim=1)
    probability, prediction = probabilities.max(dim=1)
    away = (shown - x).flatten(1)
    count = len(image_ids)
    columns: dict[str, Any] = {
        "image_id": list(image_ids),
        "label": labels.tolist(),
        "kind": [kind] * count,
        "part": [part] * count,
        "radius": [radius] * count,
        "convention": [convention] * count,
        "prediction": prediction.tolist(),
        "probability": probability.tolist(),
        "correct": ((prediction == labels) & sound(logits)).tolist(),
        "l2": away.norm(dim=1).tolist(),
        "linf": away.abs().amax(dim=1).tolist(),
        "energy": (shown.flatten(1).square().sum(1) / x.flatten(1).square().sum(1)).tolist(),
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)
