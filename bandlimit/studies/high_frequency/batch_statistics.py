"""What networks with BatchNorm say when it normalises by the batch, not by running statistics.

The document's released code normalises by the statistics of the batch at test time too, and keeps
no running ones. Then the answer to an image depends on the images that share its batch; everywhere
else in this project it does not. So this is measured once, over all chosen images of a dataset, in
batches that depend on nothing but their number and order.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", sections 3 and 5.2, and its released code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bandlimit.attacks.base import exact_arithmetic, sound
from bandlimit.data import stream
from bandlimit.models import classifier
from bandlimit.models.classifier import Classifier
from bandlimit.models.weights import empty_network, read_safetensors
from bandlimit.spectral.components import PARTS, component
from bandlimit.studies.high_frequency.columns import mean, share

Floats = NDArray[np.float64]
Shown = tuple[str, float | None]
"""A part of images, full, low or high, and its radius in periods per side, none of full."""

FULL = "full"

SIZE = 100
"""Images in a batch, as in the released code."""


def batch_statistics(
    path: str | os.PathLike[str], images: Tensor, *, size: int = SIZE, device: str = "cpu"
) -> Tensor:
    """Return what a network says when BatchNorm normalises each batch by itself.

    Images are cut, in their order, into the fewest batches of at most `size`, as equal as can be,
    so that no batch is left with a few. Computed in float64, where threads change no answer.

    Args:
        path: a model file.
        images: N x C x H x W, in [0, 1] or a part of such images.
        size: images in a batch, at most.
        device: auto, cpu or cuda.

    Returns:
        Logits, N x classes, float64, on the CPU.

    Raises:
        UserError: the model can't be read.
        ValueError: the network has no BatchNorm, or the size is below 1.
    """
    if size < 1:
        raise ValueError(f"size is {size}, at least 1 is needed")
    model = _unfolded(path, device)
    place = model.mean.device
    # As many batches as are needed, the first ones by an image greater.
    batches = torch.tensor_split(images, max(1, ceil(len(images) / size)))
    with exact_arithmetic(), torch.no_grad():
        return torch.cat([model(batch.to(place).double()).cpu() for batch in batches])


def _unfolded(path: str | os.PathLike[str], device: str) -> Classifier:
    """Return the classifier of a model file in float64, its BatchNorm without running statistics.

    `classifier.load` folds BatchNorm into convolutions.
    """
    model = classifier.load(path, device, dtype=torch.float64)
    state, metadata = read_safetensors(Path(path))
    channels, *sides = model.shape
    network = empty_network(
        metadata["architecture"], classes=model.classes, channels=channels, sides=sides
    )
    network.load_state_dict(state, strict=False, assign=True)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        raise ValueError(f"the network of {str(path)!r} has no BatchNorm")
    for norm in norms:
        # Without them a layer takes the statistics of the batch, in eval mode too.
        norm.running_mean = norm.running_var = norm.num_batches_tracked = None
    model.network = network.to(model.mean.device, torch.float64)
    return model.eval().requires_grad_(False)


def batch_statistics_table(
    models: Sequence[str],
    datasets: Sequence[str],
    experiments: Sequence[Mapping[str, Any]],
    *,
    seed: int,
    size: int = SIZE,
    device: str = "cpu",
) -> pd.DataFrame:
    """Return accuracies by running and by batch statistics, of whole images and of their parts.

    A row for each network with BatchNorm and each part; parts are neither scaled nor clipped.
    `running` and `batch` are accuracies, `difference` the second less the first on the same images,
    each with error and 95% interval over networks and images; `batch_size` is the mean number of
    images in a batch.

    Args:
        models: files of each experiment's networks with BatchNorm, in their order, all seeds.
        datasets: a file for each experiment.
        experiments: dataset, model, document, stand_in; radii in periods per side; images, how
            many of the dataset, None for all; networks: name, batchnorm, seeds.
        seed: of the choice of images.
        size: images in a batch, at most.
        device: auto, cpu or cuda.

    Raises:
        UserError: a file can't be read, or a dataset has fewer images or of another shape.
        ValueError: a network has no BatchNorm, or the size is below 1.
    """
    rows: list[dict[str, Any]] = []
    files = iter(models)
    for path, e in zip(datasets, experiments, strict=True):
        labels, images = _images(path, e, seed)
        own = {
            network["name"]: [next(files) for _ in range(network["seeds"])]
            for network in e["networks"]
            if network["batchnorm"]
        }
        for file in chain(*own.values()):
            stream.check_shape(path, classifier.load(file, device).shape)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in own}
        # Each part is made once, for all networks, and not kept.
        for shown, pixels in _parts(images, e["radii"]) if own else ():
            for name, seeds in own.items():
                found[name].append(_row(e, name, seeds, labels, shown, pixels, size, device))
        rows += [row for each in found.values() for row in each]
    return pd.DataFrame(rows)


def _images(path: str, e: Mapping[str, Any], seed: int) -> tuple[Tensor, Tensor]:
    """Return labels and images of an experiment, in the order of its dataset."""
    keep = stream.chosen(path, e["images"], name=e["dataset"], seed=seed)
    found = list(stream.batches(path, 1000, keep=keep))
    return torch.cat([labels for _, labels, _ in found]), torch.cat([x for _, _, x in found])


def _parts(images: Tensor, radii: Sequence[float]) -> Iterator[tuple[Shown, Tensor]]:
    """Yield whole images and their parts, float32."""
    yield (FULL, None), images
    for radius in radii:
        for part in PARTS:
            # In float64, as everywhere in the study.
            found = component(images.double(), part=part, radius=radius, scale="none")
            yield (part, radius), found.float()


def _row(
    e: Mapping[str, Any],
    name: str,
    models: Sequence[str],
    labels: Tensor,
    shown: Shown,
    pixels: Tensor,
    size: int,
    device: str,
) -> dict[str, Any]:
    part, radius = shown
    by_running, by_batch = [], []
    for path in models:
        model = classifier.load(path, device)
        with exact_arithmetic(), torch.no_grad():
            by_running.append(_right(model(pixels.to(model.mean.device)), labels))
        by_batch.append(_right(batch_statistics(path, pixels, size=size, device=device), labels))
    running, batch = np.stack(by_running), np.stack(by_batch)
    return {
        **{key: e[key] for key in ("dataset", "model", "document", "stand_in")},
        "network": name,
        "seeds": len(models),
        "images": len(pixels),
        "batch_size": len(pixels) / ceil(len(pixels) / size),
        "part": part,
        "radius": np.nan if radius is None else radius,
        **share("running", running),
        **share("batch", batch),
        **mean("difference", batch - running),
    }


def _right(logits: Tensor, labels: Tensor) -> Floats:
    """Return what is right, N."""
    right = (logits.argmax(dim=1).cpu() == labels) & sound(logits).cpu()
    return right.numpy().astype(float)
