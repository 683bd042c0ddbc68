"""Fourier heat maps: what networks say of images to which a wave of one frequency was added.

Source: "A Fourier Perspective on Model Robustness in Computer Vision", section 3.1 and Figures 3
and 4: X + r v U, with U the real wave of unit L2 norm of a frequency, v the norm in each channel,
and r a random sign for each image, frequency and channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from bandlimit import keys
from bandlimit.attacks.records import Batch
from bandlimit.models.batches import alone_outside, in_threads, micro_batch
from bandlimit.models.classifier import Classifier
from bandlimit.spectral import masks
from bandlimit.spectral.basis import basis_vectors, half_plane

Pairs = Sequence[tuple[int, int]]
"""Frequencies, as offsets from frequency 0: down and to the right."""

Answers = NDArray[np.bool_]

WAVES = 2**24
"""Pixels of all waves that are held at a time, 64 MiB; memory, not results."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("label", pa.int64()),
        ("network", pa.string()),
        ("norm", pa.float64()),
        ("clean", pa.bool_()),
        ("down", pa.list_(pa.int16())),
        ("right", pa.list_(pa.int16())),
        ("correct", pa.list_(pa.bool_())),
    ]
)
"""A row per image, norm and network: whether it is right of the image as it is, and of the image
with each wave of that norm; `down` and `right` are the frequencies of the waves, in
cycles per image."""


def frequencies(
    sides: Sequence[int], *, stride: int = 1, bandwidth: int | None = None
) -> list[tuple[int, int]]:
    """Return the frequencies of a heat map without their opposites, as offsets from frequency 0.

    The opposite of a frequency has the same wave but for its phase, of which the sign is random.

    Args:
        sides: H and W.
        stride: each so many of a row and of a column, 0 among them.
        bandwidth: side of the square around frequency 0 that they lie in, odd; None for all.

    Raises:
        ValueError: there is no such square.
    """
    inside = masks.square(sides, bandwidth) if bandwidth else torch.ones(tuple(sides)).bool()
    height, width = sides
    return [
        (i, j)
        for i, j in half_plane(sides)
        if i % stride == 0 and j % stride == 0 and inside[i + height // 2, j + width // 2]
    ]


def signs(shape: Sequence[int], seed: int, dataset: str, image_id: str) -> Tensor:
    """Return r of an image for each channel and frequency, C x H x W, int8, 1 or -1.

    The frequency (i, j) is at [:, i % H, j % W], so that its sign is the same whichever frequencies
    are shown.
    """
    generator = keys.generator(seed, "wave sign", dataset, image_id)
    return torch.randint(2, tuple(shape), generator=generator, dtype=torch.int8) * 2 - 1


def evaluate(
    models: Mapping[str, Classifier],
    batches: Callable[[], Iterable[Batch]],
    pairs: Pairs,
    *,
    norms: Sequence[float],
    seed: int,
    dataset: str,
) -> Iterator[pa.Table]:
    """Yield what networks say of images with waves, a table of `SCHEMA` per batch.

    Each wave is made once for all images and networks, and each image with a wave once for all
    networks; it is clipped to [0, 1] before the networks standardise it. Memory holds one batch, a
    few waves, and the answers.

    Args:
        models: by name, on one device and of images of one shape, all of which get the same images.
        batches: returns the image ids, labels and images, batch by batch; asked anew for each part
            of the waves where they are too many to be held.
        pairs: frequencies, as offsets from frequency 0.
        norms: v, each an L2 norm in each channel, in [0, 1] pixels.
        seed: configured seed of the signs.
        dataset: name of the dataset, for the signs.

    Raises:
        ValueError: there is no such frequency.
    """
    first = next(iter(models.values()))
    device, sides = first.mean.device, first.shape[1:]
    held = max(1, WAVES // (sides[0] * sides[1]))
    clean: list[tuple[Sequence[str], Tensor, Answers]] = []
    correct: list[list[Answers]] = []
    for start in range(0, len(pairs), held):
        part = pairs[start : start + held]
        waves = basis_vectors(sides, part)
        waves = torch.cat([(norm * waves).float() for norm in norms]).to(device)
        down, right = torch.tensor(part).T
        for number, (image_ids, labels, images) in enumerate(batches()):
            x, y = images.to(device), labels.to(device)
            if not start:
                clean.append((image_ids, labels, _answers(models, len(x), _as_they_are(x, y))))
                correct.append([])
            drawn = torch.stack([signs(first.shape, seed, dataset, name) for name in image_ids])
            r = drawn[:, :, down % sides[0], right % sides[1]].to(device)
            shown = _with_waves(x, y, waves, r.repeat(1, 1, len(norms)))
            # Of each norm in turn come all waves, and of each wave all images.
            shape = (len(models), len(norms), len(part), len(x))
            correct[number].append(_answers(models, len(waves) * len(x), shown).reshape(shape))
    for (image_ids, labels, own), found in zip(clean, correct, strict=True):
        waved = np.concatenate(found, axis=2).transpose(3, 1, 0, 2)
        yield _table(list(models), norms, image_ids, labels, own.T, waved, pairs)


Shown = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Returns the images and labels of some places."""


def _as_they_are(x: Tensor, y: Tensor) -> Shown:
    return lambda places: (x[places], y[places])


def _with_waves(x: Tensor, y: Tensor, waves: Tensor, r: Tensor) -> Shown:
    """Return what gives images with waves: all images with the first, then with the second.

    Args:
        x: N x C x H x W.
        y: N.
        waves: P x H x W, of the norm wanted.
        r: N x C x P, 1 or -1.
    """

    def shown(places: Tensor) -> tuple[Tensor, Tensor]:
        wave, image = places // len(x), places % len(x)
        sign = r[image, :, wave][..., None, None]
        return (x[image] + sign * waves[wave][:, None]).clamp_(0, 1), y[image]

    return shown


def _answers(models: Mapping[str, Classifier], count: int, shown: Shown) -> Answers:
    """Return which images each network gets right, networks x count; on the CPU in threads."""
    first = next(iter(models.values()))
    device = first.mean.device

    def ask(places: Tensor) -> Tensor:
        with torch.no_grad():  # the mode of the caller does not reach a new thread
            images, labels = shown(places)
            logits = torch.stack([model(images) for model in models.values()])
            return (logits.argmax(dim=2) == labels) & torch.isfinite(logits).all(dim=2)

    # One pass of a network each, so that an image with a wave stays in the cache for the next one.
    pieces = torch.arange(count, device=device).split(micro_batch(first.shape, device))
    with alone_outside():
        found = in_threads(ask, pieces) if device.type == "cpu" else [ask(own) for own in pieces]
    return torch.cat(found, dim=1).cpu().numpy()


def _table(
    networks: Sequence[str],
    norms: Sequence[float],
    image_ids: Sequence[str],
    labels: Tensor,
    clean: Answers,
    correct: Answers,
    pairs: Pairs,
) -> pa.Table:
    """Return the rows of a batch: image by image, norm by norm, network by network.

    Args:
        networks: names.
        norms: V norms.
        image_ids: of N images.
        labels: N.
        clean: N x networks.
        correct: N x V x networks x P.
        pairs: P frequencies.
    """
    each = len(norms) * len(networks)
    rows = len(image_ids) * each
    ends = pa.array(np.arange(rows + 1, dtype=np.int32) * len(pairs))

    def lists(values: NDArray[np.generic]) -> pa.Array:
        return pa.ListArray.from_arrays(ends, pa.array(values))

    down, right = (np.array(offsets, dtype=np.int16) for offsets in zip(*pairs, strict=True))
    columns = {
        "image_id": np.repeat(np.array(image_ids, dtype=object), each),
        "label": np.repeat(labels.numpy(), each),
        "network": list(networks) * (len(norms) * len(image_ids)),
        "norm": np.tile(np.repeat(norms, len(networks)), len(image_ids)),
        "clean": np.repeat(clean[:, None], len(norms), axis=1).ravel(),
        "down": lists(np.tile(down, rows)),
        "right": lists(np.tile(right, rows)),
        "correct": lists(correct.ravel()),
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)
