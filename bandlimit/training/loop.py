"""Training of a network from a dataset file, on the CPU, to the same bytes each time.

Each batch is cut into `SHARDS` parts, each computed by one thread on a replica of the network, and
their gradients are added up in order. So the bytes do not depend on the number of threads, as they
would if threads shared the sums inside a kernel, and two threads seldom wait for each other.
"""

from __future__ import annotations

import copy
import logging
import math
import numbers
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import nn

from bandlimit import keys, progress
from bandlimit.errors import UserError, suggest
from bandlimit.files import store
from bandlimit.models import architectures, weights

logger = logging.getLogger(__name__)

AUGMENTATIONS: tuple[str, ...] = ("flip", "shift")
"""The keys of `augmentation`: mirror half of the images; the largest shift in pixels."""

SHARDS = 2
"""Parts of a batch; part of the recipe, since BatchNorm normalises each part by itself."""

WARMUP = 0.25
"""Share of the steps over which the learning rate rises."""

WARMUP_START = 0.1
"""Learning rate of the first step, as a share of the highest."""


def train(
    dataset_parquet: str | os.PathLike[str],
    out_safetensors: str | os.PathLike[str],
    *,
    architecture: str,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    augmentation: Mapping[str, Any],
    seed: int,
    model_name: str,
    threads: int = 2,
    certificate: Mapping[str, Any] | None = None,
) -> pa.Table:
    """Train a network on all rows of a dataset file, save it, and return its history.

    The loss is the cross-entropy of the logits, minimised in float32 by stochastic gradient descent
    with Nesterov momentum; the learning rate rises linearly to `learning_rate` over the first
    quarter of the steps, then falls linearly to 0 (`learning_rate_at`). An epoch takes the images
    in a fresh order; those that don't fill the last batch are left out of that epoch.

    BatchNorm normalises each half of a batch by itself (`SHARDS`), and the running statistics that
    are saved are the means of those of the halves.

    Order, augmentation and initial weights are drawn under (seed, model_name). Equal arguments
    give equal bytes whatever `threads`, the number of cores and the caller's settings of torch,
    which are as before afterwards; another kind of CPU or version of torch may round otherwise.

    Args:
        dataset_parquet: file with the columns image (uint8, C x H x W) and label (0 to classes-1).
        out_safetensors: the model file to write (see `bandlimit.models.weights`).
        architecture: a name in `bandlimit.models.architectures.ARCHITECTURES`.
        classes: number of logits.
        mean: of each channel, in [0, 1] pixels, subtracted before the network.
        std: of each channel, in [0, 1] pixels, divided by before the network.
        epochs: passes over the images, at least 1.
        batch_size: images per step, 4 to the number of images.
        learning_rate: the highest, above 0.
        momentum: in [0, 1); 0 is plain gradient descent.
        weight_decay: at least 0, on all parameters.
        augmentation: flip (bool): mirror each image left to right with probability one half;
            shift (int): move each image by up to so many pixels along each axis, uniformly, black
            pixels moving in. What is not named is not done.
        seed: of all draws.
        model_name: names the draws, and the model in messages.
        threads: shards computed at once, at least 1; of more than `SHARDS` the rest is idle.
        certificate: proof of origin, kept in the file's metadata.

    Returns:
        One row per epoch: epoch (int64, from 1), learning_rate (float64, of the epoch's last step),
        loss and accuracy (float64, means over the training batches, as seen while training).

    Raises:
        UserError: a hyper-parameter is out of range, the dataset does not fit the arguments, or
            the loss became NaN or infinite.
    """
    flip, shift = _checked_augmentation(augmentation)
    _check("epochs", epochs, "a whole number of at least 1", whole=True, low=1)
    _check("batch_size", batch_size, "a whole number of at least 4", whole=True, low=4)
    _check("threads", threads, "a whole number of at least 1", whole=True, low=1)
    _check("learning_rate", learning_rate, "a number above 0", above=0)
    _check("momentum", momentum, "a number of at least 0 and below 1", low=0, below=1)
    _check("weight_decay", weight_decay, "a number of at least 0", low=0)
    images, labels = _read(dataset_parquet, classes, mean, std)
    if batch_size > len(images):
        raise UserError(
            f"The hyper-parameter 'batch_size' must be at most the number of training images, "
            f"{len(images)} in {str(dataset_parquet)!r}; {batch_size} was given."
        )
    shape = tuple(images.shape[1:])
    if shift >= min(shape[1:]):
        raise UserError(
            f"The augmentation 'shift' must be less than the image's side, {min(shape[1:])} "
            f"pixels in {str(dataset_parquet)!r}; {shift} was given."
        )

    with _deterministic():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(keys.derive(seed, "initial_weights", model_name))
            network = architectures.build(architecture, classes=classes, channels=shape[0])
        network = network.to(memory_format=torch.channels_last).train()
        history = _fit(
            network,
            images,
            labels,
            centre=torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1),
            scale=torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1),
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            flip=flip,
            shift=shift,
            seed=seed,
            model_name=model_name,
            threads=threads,
        )
    weights.save(
        out_safetensors,
        network.state_dict(),
        architecture=architecture,
        mean=mean,
        std=std,
        shape=shape,
        classes=classes,
        certificate=certificate,
    )
    return history


def learning_rate_at(step: int, steps: int, highest: float) -> float:
    """Return the learning rate of a step (0 to steps-1): up for a quarter, then down towards 0.

    It starts at `WARMUP_START` of the highest, and would be 0 at step `steps`.
    """
    warmup = WARMUP * steps
    if step < warmup:
        return highest * (WARMUP_START + (1 - WARMUP_START) * step / warmup)
    return highest * (steps - step) / (steps - warmup)


def augment(
    images: torch.Tensor, mirrored: torch.Tensor, offsets: torch.Tensor, shift: int
) -> torch.Tensor:
    """Return images (N x C x H x W) moved and mirrored, each by its own draw.

    Args:
        images: of any type; 0 is black.
        mirrored: N booleans: whether the moved image is flipped left to right.
        offsets: N x 2 integers in 0..2*shift: an image moves up by offset[0] - shift pixels and
            left by offset[1] - shift, black pixels moving in.
        shift: the largest shift, in pixels.
    """
    count, _, height, width = images.shape
    if shift:
        padded = F.pad(images, (shift, shift, shift, shift))
        rows = offsets[:, 0, None] + torch.arange(height)
        columns = offsets[:, 1, None] + torch.arange(width)
        each = torch.arange(count)[:, None, None]
        # Indices around a slice put the sliced axis, the channels, last.
        images = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def _fit(
    network: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    centre: torch.Tensor,
    scale: torch.Tensor,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    flip: bool,
    shift: int,
    seed: int,
    model_name: str,
    threads: int,
) -> pa.Table:
    """Train the network in place and return the history."""
    replicas = [network, *(copy.deepcopy(network) for _ in range(SHARDS - 1))]
    for replica in replicas[1:]:
        for own, shared in zip(replica.parameters(), network.parameters(), strict=True):
            # One storage, which the optimizer updates; a gradient and running statistics each.
            own.data = shared.data
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=momentum > 0,
    )
    count = len(images)
    per_epoch = count // batch_size
    history = []
    # Kernels of one thread each, also in the backward pass, which runs in the thread that asks.
    with ThreadPoolExecutor(
        min(threads, SHARDS), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        title = f"training {model_name}"
        for epoch in progress.bar(range(epochs), epochs, "epochs", title=title):
            # Drawn for all images at once, so that an image's draw does not depend on the batches.
            draws = keys.generator(seed, "training", model_name, epoch)
            order = torch.randperm(count, generator=draws)
            mirrored = (torch.rand(count, generator=draws) < 0.5) & flip
            offsets = torch.randint(0, 2 * shift + 1, (count, 2), generator=draws)
            loss_sum, correct = 0.0, 0
            for batch in range(per_epoch):
                step = epoch * per_epoch + batch
                rate = learning_rate_at(step, epochs * per_epoch, learning_rate)
                rows = order[batch * batch_size : (batch + 1) * batch_size]
                pixels = augment(images[rows], mirrored[rows], offsets[rows], shift).float() / 255
                inputs = ((pixels - centre) / scale).contiguous(memory_format=torch.channels_last)
                parts = list(
                    pool.map(
                        _forward_and_backward,
                        replicas,
                        inputs.tensor_split(SHARDS),
                        labels[rows].tensor_split(SHARDS),
                    )
                )
                loss = sum(part[0] for part in parts) / batch_size
                if not math.isfinite(loss):
                    raise UserError(
                        f"The training of the model {model_name!r} diverged: the loss became "
                        f"{loss} in epoch {epoch + 1} of {epochs}; a lower learning rate is "
                        f"needed, {learning_rate} was given."
                    )
                _gather_gradients(replicas, batch_size)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
                loss_sum += loss
                correct += sum(part[1] for part in parts)
            row = {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "loss": loss_sum / per_epoch,
                "accuracy": correct / (per_epoch * batch_size),
            }
            history.append(row)
            logger.info(
                "model %s, epoch %d of %d: loss %.4f, training accuracy %.4f",
                model_name,
                row["epoch"],
                epochs,
                row["loss"],
                row["accuracy"],
            )
    for statistics in zip(*(replica.buffers() for replica in replicas), strict=True):
        if statistics[0].is_floating_point():
            statistics[0].copy_(torch.stack(statistics).mean(0))
    return pa.Table.from_pylist(history)


def _forward_and_backward(
    replica: nn.Module, inputs: torch.Tensor, labels: torch.Tensor
) -> tuple[float, int]:
    """Give a replica the gradient of the summed loss; return that loss and the number correct."""
    replica.zero_grad()
    logits = replica(inputs)
    loss = F.cross_entropy(logits, labels, reduction="sum")
    loss.backward()
    return loss.item(), int((logits.argmax(1) == labels).sum())


def _gather_gradients(replicas: Sequence[nn.Module], count: int) -> None:
    """Give the first replica the sum of the gradients of all, in their order, over count."""
    for parameters in zip(*(replica.parameters() for replica in replicas), strict=True):
        first, *others = (parameter.grad for parameter in parameters)
        for other in others:
            first += other
        first /= count


def _read(
    path: str | os.PathLike[str], classes: int, mean: Sequence[float], std: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (uint8, N x C x H x W) and labels (int64) that fit the arguments."""
    table = store.read(path, ["image", "label"])
    if not len(table):
        raise UserError(f"The dataset {str(path)!r} has no rows; training needs at least 2 images.")
    # Copied, since the table's memory is read-only.
    images = torch.from_numpy(store.images_of(table).copy())
    labels = torch.from_numpy(table["label"].to_numpy().copy())
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise UserError(
            f"The images of {str(path)!r} must be uint8, N x C x H x W; they are "
            f"{str(images.dtype).removeprefix('torch.')}, {tuple(images.shape)}."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"The labels of {str(path)!r} must lie in 0 to {classes - 1} (classes: {classes}); "
            f"they reach from {int(labels.min())} to {int(labels.max())}."
        )
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != images.shape[1]:
            raise UserError(
                f"The {name} must have one number per channel, {images.shape[1]} in "
                f"{str(path)!r}; {len(values)} were given."
            )
    if not all(value > 0 for value in std):
        raise UserError(f"The std of each channel must be above 0; {list(std)} was given.")
    return images, labels


def _check(
    name: str,
    value: object,
    allowed: str,
    *,
    whole: bool = False,
    low: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> None:
    """Refuse a hyper-parameter that is not a finite number or is out of range."""
    kind = numbers.Integral if whole else numbers.Real
    # A bool is a number to Python, but a mistake here.
    number = isinstance(value, kind) and not isinstance(value, bool)
    if not (number and low <= value and above < value < below):  # type: ignore[operator]
        raise UserError(f"The hyper-parameter {name!r} must be {allowed}; {value!r} was given.")


def _checked_augmentation(augmentation: Mapping[str, Any]) -> tuple[bool, int]:
    """Return flip and shift; refuse unknown names and wrong values."""
    for name in augmentation:
        if name not in AUGMENTATIONS:
            raise UserError(f"There is no augmentation {name!r}; {suggest(name, AUGMENTATIONS)}.")
    flip, shift = augmentation.get("flip", False), augmentation.get("shift", 0)
    if not isinstance(flip, bool):
        raise UserError(f"The augmentation 'flip' must be true or false; {flip!r} was given.")
    if not isinstance(shift, int) or isinstance(shift, bool) or shift < 0:
        raise UserError(
            f"The augmentation 'shift' must be a whole number of pixels, at least 0; "
            f"{shift!r} was given."
        )
    return flip, shift


@contextmanager
def _deterministic() -> Iterator[None]:
    """Use deterministic kernels and one thread in each; restore both settings afterwards.

    One thread also where no sum depends on it: helpers would wait busily beside the workers.
    """
    before = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
