"""What networks say of corrupted images, and of images with noise of a band of frequencies.

Image frequency, over the positions of pixels. Source: "A Fourier Perspective on Model Robustness in
Computer Vision", Figures 1 (networks behind a filter), 2, 5 and 6; bandwidths are sides of squares
of frequencies around 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from bandlimit import keys
from bandlimit.attacks.base import sound
from bandlimit.attacks.records import Batch
from bandlimit.data.corruptions import corrupt
from bandlimit.models.classifier import Classifier
from bandlimit.spectral.components import PARTS, component
from bandlimit.studies.frequency_principle.image.corruptions_records import (
    BAND,
    CLEAN,
    CORRUPTED,
    SCHEMA,
)


def evaluate(
    models: Sequence[tuple[Classifier, Mapping[str, Any] | None]],
    batches: Iterable[Batch],
    *,
    corruptions: Sequence[str],
    severity: int,
    noise_norm: float,
    bandwidths: Sequence[int],
    high_pass: int,
    seed: int,
    dataset: str,
) -> Iterator[pa.Table]:
    """Yield what networks say of changed images, a table of `SCHEMA` per batch.

    Each image is changed once for all networks. It is clipped to [0, 1]; a network that was trained
    on a component of images sees that component of the changed image.

    Args:
        models: networks on one device, each with the arguments of
            `bandlimit.spectral.components.component` that stand in front of it, or None.
        batches: image ids, labels, images.
        corruptions: names of `bandlimit.data.corruptions`.
        severity: of the corruptions.
        noise_norm: L2 norm of noise of a band in each channel, in [0, 1] pixels.
        bandwidths: of that noise, odd and below the side of the images.
        high_pass: side of the square beyond which frequencies are high, odd and below the side of
            the images.
        seed: the configured one, of all draws.
        dataset: name of the dataset, of all draws.
    """
    device = models[0][0].mean.device
    bare = [own for own in models if own[1] is None]
    for image_ids, labels, images in batches:
        if not len(image_ids):
            continue
        y = torch.as_tensor(labels, dtype=torch.int64).to(device)
        x = images.double()
        rows = [_rows(models, image_ids, y, x, x, high_pass, CLEAN, None, None)]
        for name in corruptions:
            made = [
                torch.from_numpy(
                    corrupt(
                        image.numpy(),
                        name,
                        severity=severity,
                        seed=seed,
                        dataset=dataset,
                        image_id=image_id,
                    )
                )
                for image_id, image in zip(image_ids, x, strict=True)
            ]
            shown = torch.stack(made)
            rows.append(_rows(models, image_ids, y, x, shown, high_pass, CORRUPTED, name, None))
        noise = torch.stack(
            [
                torch.randn(
                    x.shape[1:],
                    generator=keys.generator(seed, "band_noise", dataset, image_id),
                    dtype=torch.float64,
                )
                for image_id in image_ids
            ]
        )
        for bandwidth in bandwidths:
            for part in PARTS:
                shown = (x + band_noise(noise, part, bandwidth, noise_norm)).clamp(0, 1)
                rows.append(_rows(bare, image_ids, y, x, shown, high_pass, BAND, part, bandwidth))
        yield pa.concat_tables(rows)


def band_noise(noise: Tensor, part: str, bandwidth: int, norm: float) -> Tensor:
    """Return what a filter leaves of noise, each channel brought to one L2 norm.

    Args:
        noise: N x C x H x W, floating; independent normal values.
        part: low, what lies in the square of frequencies, or high, the rest.
        bandwidth: side of the square, odd and below the side of the noise: a square of all
            frequencies leaves nothing beyond it but what rounding does.
        norm: L2 norm of each channel.
    """
    left = component(noise, part=part, bandwidth=bandwidth, scale="none")
    energies = _energies(left.flatten(0, 1)).reshape(*left.shape[:2], 1, 1)
    return norm * left / energies.sqrt()


def high_fraction(change: Tensor, high_pass: int) -> Tensor:
    """Return the share of the energy of changes beyond a square of frequencies, N; NaN of none.

    Args:
        change: N x C x H x W, floating.
        high_pass: side of the square, odd.
    """
    high = component(change, part="high", bandwidth=high_pass, scale="none")
    return _energies(high) / _energies(change)


def _energies(values: Tensor) -> Tensor:
    """Return sums of squares, N, of which none depends on the others or on threads.

    Args:
        values: N x ..., on the CPU.
    """
    sums = [float(np.square(own).sum()) for own in values.contiguous().numpy()]
    return torch.tensor(sums, dtype=torch.float64)


@torch.no_grad()
def _rows(
    models: Sequence[tuple[Classifier, Mapping[str, Any] | None]],
    image_ids: Sequence[str],
    labels: Tensor,
    x: Tensor,
    shown: Tensor,
    high_pass: int,
    kind: str,
    name: str | None,
    bandwidth: int | None,
) -> pa.Table:
    change = shown - x
    share = high_fraction(change, high_pass)
    # One filter for all networks that stand behind it.
    behind: dict[str, Tensor] = {"None": shown.float().to(labels.device)}
    correct = []
    for model, filtered in models:
        key = str(filtered)
        if key not in behind:
            behind[key] = component(shown, **(filtered or {})).float().to(labels.device)
        logits = model(behind[key])
        correct.append(((logits.argmax(dim=1) == labels) & sound(logits)).cpu().numpy())
    count = len(image_ids)
    columns = {
        "image_id": list(image_ids),
        "label": labels.tolist(),
        "kind": [kind] * count,
        "name": [name] * count,
        "bandwidth": [bandwidth] * count,
        "l2": _energies(change).sqrt().tolist(),
        "high_fraction": [None if np.isnan(value) else value for value in share.tolist()],
        "correct": np.stack(correct, axis=1).tolist(),
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)
