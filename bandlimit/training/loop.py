"""Training of a network from a dataset file, to the same bytes each time.

Each batch is cut into `SHARDS` parts, each computed on a replica of the network, and their
gradients are added up in order. On the CPU a thread computes a part: so the bytes do not depend on
the number of threads, as they would if threads shared the sums inside a kernel, and two threads
seldom wait for each other. A card computes the parts in turn, so that a recipe means the same.
"""

from __future__ import annotations

import copy
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import nn

from bandlimit import keys, progress, stopping
from bandlimit.errors import MachineError, UserError, suggest
from bandlimit.files import store
from bandlimit.models import architectures, memory, weights
from bandlimit.models.device import choose_device
from bandlimit.spectral.components import component
from bandlimit.training import curves, observing, responses, states, trajectories
from bandlimit.training.autoaugment import autoaugment
from bandlimit.training.optimizers import Optimizer
from bandlimit.training.perturbations import Pixels, frozen
from bandlimit.training.recipes import Adversarial, Component, Mixup, Recipe, check

logger = logging.getLogger(__name__)

SHARDS = 2
"""Parts of a batch; part of the recipe, since BatchNorm normalises each part by itself."""

WARMUP = 0.25
"""Share of the steps over which the learning rate rises."""

WARMUP_START = 0.1
"""Learning rate of the first step, as a share of the highest."""


class Trained(NamedTuple):
    """What a training tells of itself.

    Attributes:
        history: a row per network and epoch: seed (int64, the number of the network, from 1), epoch
            (int64, from 1), learning_rate (float64, of the epoch's last
            step), loss and accuracy (float64, means over the training batches, as seen while
            training; of the perturbed images where training is adversarial).
        trajectory: what was measured along the way, with the columns of `trajectories.SCHEMA`, or
            None.
        curves: the same, with the columns of `curves.SCHEMA`, or None.
        responses: the same, with the columns of `responses.SCHEMA`, or None.
    """

    history: pa.Table
    trajectory: pa.Table | None
    curves: pa.Table | None
    responses: pa.Table | None = None


def train(
    dataset_parquet: str | os.PathLike[str],
    out_safetensors: str | os.PathLike[str],
    *,
    recipe: Recipe,
    architecture: str,
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    model_name: str,
    threads: int = 2,
    device: str = "cpu",
    own_code: Mapping[str, str] | None = None,
    certificate: Mapping[str, Any] | None = None,
    out_checkpoints: Mapping[str, str | os.PathLike[str]] | None = None,
    out_seeds: Sequence[str | os.PathLike[str]] = (),
    resume: str | os.PathLike[str] | None = None,
    measurements: trajectories.Measurements | None = None,
    followed: curves.Curves | None = None,
    recorded: responses.Responses | None = None,
) -> Trained:
    """Train networks on all rows of a dataset file, and save them and the first one's checkpoints.

    One network, unless the recipe asks for several: the first has the name of the model, the
    further ones are called MODEL_seed_2, MODEL_seed_3 and so on, and each is what a training of one
    network under its name would have given.

    An epoch takes the images in a fresh order; those that don't fill the last batch are left out of
    that epoch. Sums are in float32, unless the recipe asks for mixed precision.

    BatchNorm normalises each half of a batch by itself (`SHARDS`), and the running statistics that
    are saved, and measured with, are the means of those of the halves. Adversarial training
    perturbs a half by the gradient of the cross-entropy, with the network in eval mode and that
    half's own running statistics.

    Order, augmentation, initial weights and starts of attacks are drawn under (seed, model_name).
    Equal arguments give equal bytes whatever `threads`, the number of cores and the caller's
    settings of torch, which are as before afterwards, and whatever is measured; another kind of CPU
    or card or version of torch may round otherwise.

    Args:
        dataset_parquet: file with the columns image (uint8, C x H x W) and label (0 to classes-1).
        out_safetensors: the model file to write (see `bandlimit.models.weights`).
        recipe: the hyper-parameters.
        architecture: a name in `bandlimit.models.architectures.ARCHITECTURES`.
        classes: number of logits.
        mean: of each channel, in [0, 1] pixels, subtracted before the network.
        std: of each channel, in [0, 1] pixels, divided by before the network.
        seed: of all draws.
        model_name: names the draws, and the model in messages.
        threads: shards computed at once on the CPU, at least 1; of more than `SHARDS` the rest is
            idle.
        device: cpu, cuda, or auto for the card if there is one.
        own_code: the sha256 of the files of the user's own code that the architecture is.
        certificate: proof of origin, kept in the metadata of each file.
        out_checkpoints: a model file to write for each checkpoint of the recipe, by its name.
        out_seeds: a model file to write for each network after the first, in order.
        resume: a file that keeps the state, from time to time and where the training is stopped,
            until the caller has written what is returned, and calls `states.remove`. If it holds
            the state of this very training, by what the certificate says of code, versions and
            device and by `own_code`, that goes on from there, to the bytes that it would have had
            without a stop; any other is replaced.
        measurements: of a trajectory, along the way of the first network.
        followed: what curves of accuracy are of, along the way of each network.
        recorded: the images whose outputs are recorded, along the way of each network.

    Raises:
        UserError: the arguments do not fit each other or the dataset, there is no such device, or
            the loss became NaN or infinite.
        MachineError: the device has no memory for a batch.
        stopping.Stopped: the process was asked to stop, and the state is kept.
    """
    check("threads", threads, "a whole number of at least 1", whole=True, low=1)
    place = choose_device(device)
    if recipe.mixed_precision and place.type == "cpu":
        raise UserError(
            "The hyper-parameter 'mixed_precision' needs a card, and the model "
            f"{model_name!r} is trained on the CPU (device: {device})."
        )
    out_checkpoints = out_checkpoints or {}
    for name in {**recipe.checkpoints, **out_checkpoints}:
        if name not in recipe.checkpoints:
            raise UserError(
                f"The recipe has no checkpoint {name!r}; {suggest(name, recipe.checkpoints)}."
            )
        if name not in out_checkpoints:
            raise UserError(f"The checkpoint {name!r} of the recipe has no file to be kept in.")
    if len(out_seeds) != recipe.seeds - 1:
        raise UserError(
            f"The recipe has {recipe.seeds} networks ('seeds'), so that {recipe.seeds - 1} files "
            f"are needed besides that of the model; {len(out_seeds)} were given."
        )
    images, labels = _read(dataset_parquet, classes, mean, std)
    if recipe.batch_size > len(images):
        raise UserError(
            f"The hyper-parameter 'batch_size' must be at most the number of training images, "
            f"{len(images)} in {str(dataset_parquet)!r}; {recipe.batch_size} was given."
        )
    shape = tuple(images.shape[1:])
    if recipe.shift >= min(shape[1:]):
        raise UserError(
            f"The augmentation 'shift' must be less than the image's side, {min(shape[1:])} "
            f"pixels in {str(dataset_parquet)!r}; {recipe.shift} was given."
        )
    if recipe.autoaugment is not None and shape[0] != 3:
        raise UserError(
            f"The augmentation 'autoaugment' needs colour images of 3 channels; those in "
            f"{str(dataset_parquet)!r} have {shape[0]}."
        )
    for what, given in (
        ("a trajectory", measurements),
        ("curves", followed),
        ("responses", recorded),
    ):
        if given is not None and tuple(given.images.shape[1:]) != shape:
            raise UserError(
                f"The images of {what} must be like those in {str(dataset_parquet)!r}, {shape}; "
                f"they are {tuple(given.images.shape[1:])}."
            )
    identity = ""
    if resume is not None:
        identity = states.identity(
            {
                "dataset": store.content(dataset_parquet),
                "recipe": recipe.as_mapping(),
                "architecture": architecture,
                "own_code": dict(own_code or {}),
                "classes": classes,
                "mean": list(map(float, mean)),
                "std": list(map(float, std)),
                "seed": seed,
                "model_name": model_name,
                "device": place.type,
                "torch": torch.__version__,
                "measurements": None if measurements is None else measurements.as_mapping(),
                "curves": None if followed is None else followed.as_mapping(),
                "responses": None if recorded is None else recorded.as_mapping(),
            },
            certificate,
        )

    workers = 1 if place.type == "cuda" else min(threads, SHARDS)
    # Kernels of one thread each, also in the backward pass, which runs in the thread that asks.
    with (
        _deterministic(place),
        nullcontext() if resume is None else stopping.deferred(),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        found = None if resume is None else states.load(resume, identity)
        pace = stopping.Pace()
        done, tensors = (states.Progress(), {}) if found is None else found
        kept, resumed = states.networks(tensors), done.seed
        if isinstance(recipe.component, Component):
            images = component(images.float() / 255, **vars(recipe.component))
        images, labels = images.to(place), labels.to(place)
        sets = None if followed is None else curves.Sets(followed, mean, std, place)

        for number in range(resumed, recipe.seeds + 1):
            name = model_name if number == 1 else f"{model_name}_seed_{number}"
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(keys.derive(seed, "initial_weights", name))
                network = architectures.build(
                    architecture,
                    classes=classes,
                    channels=shape[0],
                    sides=shape[1:],
                    own_code=own_code,
                )
            network = network.to(memory_format=torch.channels_last).to(place).train()
            observers: dict[str, observing.Observer] = {}
            if measurements is not None and number == 1:
                observers["trajectory"] = trajectories.Observer(
                    network,
                    measurements,
                    mean=mean,
                    std=std,
                    seed=seed,
                    model_name=name,
                    run=pool.map,
                )
            if sets is not None:
                observers["curves"] = curves.Observer(network, sets, seed=number, run=pool.map)
            if recorded is not None:
                observers["responses"] = responses.Observer(
                    network, recorded, mean=mean, std=std, seed=number, run=pool.map
                )
            training = _Training(
                network,
                images,
                labels,
                recipe=recipe if number == 1 else replace(recipe, checkpoints={}),
                mean=mean,
                std=std,
                seed=seed,
                model_name=name,
                run=pool.map,
                observers=observers,
                progress=done,
                kept=kept,
            )
            if found is not None and number == resumed:
                training.restore(tensors)
                logger.info(
                    "model %s goes on after epoch %d of %d%s",
                    name,
                    done.epochs,
                    recipe.epochs,
                    f" and {done.batches} batches" if done.batches else "",
                )

            def keep(training: _Training = training) -> None:
                if resume is not None and (stopping.asked() or pace.due()):
                    with pace.keeping():
                        states.save(resume, identity, done, training.tensors())
                    if stopping.asked():
                        raise stopping.Stopped(
                            f"its state after {done.epochs} epochs and {done.batches} batches of "
                            "the next is kept"
                        )

            training.fit(keep)
            kept[f"seed_{number}"] = training.weights()
            done.begin(number + 1)

        if resumed > recipe.seeds:
            logger.info("model %s was trained to the end by an earlier attempt", model_name)
        elif resume is not None and Path(resume).exists():
            # What comes after only writes. A training of seconds leaves nothing behind.
            states.save(resume, identity, done, states.of_networks(kept))

    files = {name: (path, kept[name]) for name, path in out_checkpoints.items()}
    further = {f"seed_{k}": path for k, path in enumerate(out_seeds, start=2)}
    files |= {name: (path, kept[name]) for name, path in further.items()}
    for path, state in [*files.values(), (out_safetensors, kept["seed_1"])]:
        weights.save(
            path,
            state,
            architecture=architecture,
            mean=mean,
            std=std,
            shape=shape,
            classes=classes,
            own_code=own_code,
            certificate=certificate,
        )
    return Trained(
        pa.Table.from_pylist(done.history),
        None if measurements is None else trajectories.table(done.measured["trajectory"]),
        None if followed is None else curves.table(done.measured["curves"]),
        None
        if recorded is None
        else responses.table(done.measured["responses"], recorded.image_ids),
    )


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
        device = images.device
        rows = offsets[:, 0, None] + torch.arange(height, device=device)
        columns = offsets[:, 1, None] + torch.arange(width, device=device)
        each = torch.arange(count, device=device)[:, None, None]
        # Indices around a slice put the sliced axis, the channels, last.
        images = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


class _Draws(NamedTuple):
    """What is drawn for an epoch.

    For all images at once, so that an image's draw does not depend on how a batch is cut.

    Attributes:
        epoch: from 0.
        order: N, rows of the images.
        mirrored: N, bool.
        offsets: N x 2; see `augment`.
        kept: N x features that are not dropped, bool, or None.
        partners: N, rows of the images that are mixed in, or None.
        shares: N, of each image in its mixture, or None.
    """

    epoch: int
    order: torch.Tensor
    mirrored: torch.Tensor
    offsets: torch.Tensor
    kept: torch.Tensor | None
    partners: torch.Tensor | None
    shares: torch.Tensor | None


class _Training:
    """A network in training: its replicas and its optimizer.

    What it comes to goes into `progress`, and networks that are kept on its way into `kept`.
    """

    def __init__(
        self,
        network: nn.Module,
        images: torch.Tensor,
        labels: torch.Tensor,
        *,
        recipe: Recipe,
        mean: Sequence[float],
        std: Sequence[float],
        seed: int,
        model_name: str,
        run: observing.Run,
        observers: Mapping[str, observing.Observer],
        progress: states.Progress,
        kept: dict[str, dict[str, torch.Tensor]],
    ) -> None:
        self._progress, self._kept = progress, kept
        self._images, self._labels = images, labels
        self._recipe, self._seed, self._name, self._run = recipe, seed, model_name, run
        self._per_epoch = len(images) // recipe.batch_size
        self._steps = recipe.epochs * self._per_epoch
        self._kept_at = recipe.checkpoint_steps(self._per_epoch)
        self._replicas = [network, *(copy.deepcopy(network) for _ in range(SHARDS - 1))]
        for replica in self._replicas[1:]:
            for own, shared in zip(replica.parameters(), network.parameters(), strict=True):
                # One storage, which the optimizer updates; a gradient and running statistics each.
                own.data = shared.data
        self._models = [
            Pixels(replica, mean, std).to(images.device).train() for replica in self._replicas
        ]
        trained = [own for own in network.parameters() if own.requires_grad]
        self._optimizer = Optimizer(recipe, trained)
        self._observers = {
            name: (observer, observer.at(self._steps, self._per_epoch))
            for name, observer in observers.items()
        }

    def fit(self, keep: Callable[[], None]) -> None:
        """Train up to the last epoch; `keep` is called after each batch."""
        recipe, done = self._recipe, self._progress.epochs
        title = f"training {self._name}"
        for epoch in progress.bar(
            range(done, recipe.epochs), recipe.epochs - done, "epochs", title=title
        ):
            self._epoch(epoch, keep)
        self._look(self._steps)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers, the running statistics as means of the replicas'."""
        buffers = [dict(replica.named_buffers()) for replica in self._replicas]
        return {
            name: torch.stack([own[name] for own in buffers]).mean(0)
            if name in buffers[0] and tensor.is_floating_point()
            else tensor.clone()
            for name, tensor in self._replicas[0].state_dict().items()
        }

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that going on needs besides the progress, by name."""
        found: dict[str, torch.Tensor] = {}
        for name, parameter in self._replicas[0].named_parameters():
            found[f"weights/{name}"] = parameter
        for number, replica in enumerate(self._replicas):
            for name, buffer in replica.named_buffers():
                found[f"buffers/{number}/{name}"] = buffer
        for number, state in enumerate(self._optimizer.state):
            for name, value in state.items():
                found[f"optimizer/{number}/{name}"] = value
        return found | states.of_networks(self._kept)

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take up the state of this network that `tensors` returned."""
        own = self.tensors()
        # Each in its own layout of memory: kernels round a value by its place in it.
        for key, tensor in tensors.items():
            if not key.startswith(f"{states.KEPT}/"):
                own[key].data.copy_(tensor)

    def _epoch(self, epoch: int, keep: Callable[[], None]) -> None:
        recipe, done = self._recipe, self._progress
        size = recipe.batch_size
        draws = self._drawn(epoch)
        for batch in range(done.batches, self._per_epoch):
            step = epoch * self._per_epoch + batch
            self._look(step)
            rate = recipe.learning_rate
            if recipe.schedule == "triangle":
                rate = learning_rate_at(step, self._steps, rate)
            rows = draws.order[batch * size : (batch + 1) * size]
            parts = self._gradients(rows, draws)
            loss = sum(part[0].item() for part in parts) / size
            if not math.isfinite(loss):
                raise UserError(
                    f"The training of the model {self._name!r} diverged: the loss became "
                    f"{loss} in epoch {epoch + 1} of {recipe.epochs}; a lower learning rate is "
                    f"needed, {recipe.learning_rate} was given."
                )
            _gather_gradients(self._replicas, size)
            self._optimizer.step(rate)
            correct = sum(int(part[1]) for part in parts)
            done.batches, done.loss, done.right = batch + 1, done.loss + loss, done.right + correct
            for name in self._observers:
                done.saw(name, size, correct)
            if done.batches == self._per_epoch:
                self._end_epoch(epoch, rate)
            keep()

    def _gradients(
        self, rows: torch.Tensor, draws: _Draws
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Give all replicas their gradients; return the summed loss and the number right of each.

        Raises:
            MachineError: there is no memory for that. Smaller parts would be another recipe.
        """
        try:
            return list(
                self._run(
                    self._forward_and_backward,
                    self._models,
                    rows.tensor_split(SHARDS),
                    [draws] * SHARDS,
                )
            )
        except Exception as error:
            if memory.is_out_of_memory(error):
                raise MachineError(
                    f"The memory of the device does not suffice to train the model {self._name!r} "
                    f"on batches of {len(rows)} images: free it of other programs, take a device "
                    "with more, or set a smaller 'batch_size', which is another recipe."
                ) from error
            raise

    def _end_epoch(self, epoch: int, rate: float) -> None:
        done = self._progress
        row = {
            "seed": done.seed,
            "epoch": epoch + 1,
            "learning_rate": rate,
            "loss": done.loss / self._per_epoch,
            "accuracy": done.right / (self._per_epoch * self._recipe.batch_size),
        }
        done.history.append(row)
        done.epochs = epoch + 1
        done.begin_epoch()
        logger.info(
            "model %s, epoch %d of %d: loss %.4f, training accuracy %.4f",
            self._name,
            row["epoch"],
            self._recipe.epochs,
            row["loss"],
            row["accuracy"],
        )

    def _look(self, step: int) -> None:
        """Keep the checkpoints, and measure, that are due after so many steps."""
        for name, at in self._kept_at.items():
            if at == step:
                self._kept[name] = self.weights()
        for name, (observer, at_steps) in self._observers.items():
            if step in at_steps:
                rows = observer.measure(
                    self.weights(),
                    step=step,
                    epoch=step / self._per_epoch,
                    train=self._progress.accuracy(name),
                )
                self._progress.measured.setdefault(name, []).extend(rows)

    def _drawn(self, epoch: int) -> _Draws:
        """Return what is drawn for an epoch."""
        recipe, count = self._recipe, len(self._images)
        draws = keys.generator(self._seed, "training", self._name, epoch)
        order = torch.randperm(count, generator=draws)
        mirrored = (torch.rand(count, generator=draws) < 0.5) & recipe.flip
        offsets = torch.randint(0, 2 * recipe.shift + 1, (count, 2), generator=draws)
        kept = None
        if recipe.dropout:
            draws = keys.generator(self._seed, "dropout", self._name, epoch)
            features = _last_linear(self._replicas[0]).in_features
            kept = torch.rand(count, features, generator=draws) >= recipe.dropout
        partners = shares = None
        if isinstance(recipe.mixup, Mixup):
            partners, shares = self._mixed(epoch, order, recipe.mixup)
        return _Draws(epoch, order, mirrored, offsets, kept, partners, shares)

    def _mixed(
        self, epoch: int, order: torch.Tensor, mixup: Mixup
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return each image's partner and its own share, N each, of an epoch in this order."""
        size, count = self._recipe.batch_size, len(order)
        draws = keys.generator(self._seed, "mixup_partners", self._name, epoch)
        # Those that are left out of this epoch stay alone.
        partners, shares = torch.arange(count), torch.ones(count)
        # Torch has no distribution that draws from a generator of one's own.
        rng = np.random.default_rng(keys.derive(self._seed, "mixup_shares", self._name, epoch))
        if mixup.per == "image":
            shares = torch.from_numpy(rng.beta(mixup.alpha, mixup.alpha, count)).float()
        for rows in order[: self._per_epoch * size].split(size):
            partners[rows] = rows[torch.randperm(size, generator=draws)]
            if mixup.per == "batch":
                shares[rows] = rng.beta(mixup.alpha, mixup.alpha)
        return partners, shares

    def _forward_and_backward(
        self, model: Pixels, rows: torch.Tensor, draws: _Draws
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give a replica the gradient of the summed loss; return that loss and the number right."""
        recipe, device = self._recipe, self._images.device
        pixels, labels = self._augmented(rows, draws), self._labels[rows.to(device)]
        if isinstance(recipe.adversarial, Adversarial):
            starts = [self._start(draws.epoch, row) for row in rows.tolist()]
            pixels = _perturbed(
                model, pixels, labels, torch.stack(starts).to(device), recipe.adversarial
            )
        others = shares = None
        if draws.partners is not None and draws.shares is not None:
            partners, shares = draws.partners[rows], draws.shares[rows].to(device)
            others = self._labels[partners.to(device)]
            own = shares[:, None, None, None]
            pixels = own * pixels + (1 - own) * self._augmented(partners, draws)
        factors = None
        if draws.kept is not None:
            factors = draws.kept[rows].to(device) / (1 - recipe.dropout)
        model.zero_grad()
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=recipe.mixed_precision),
            _dropped(model, factors),
        ):
            logits = model(pixels).float()
        if others is None or shares is None:
            loss = _loss(recipe.loss, logits, labels)
        else:
            # With the gradient of a sum in which each image counts by its share.
            loss = _loss(recipe.loss, logits, labels, shares)
            loss = loss + _loss(recipe.loss, logits, others, 1 - shares)
            labels = torch.where(shares >= 0.5, labels, others)
        loss.backward()
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def _augmented(self, rows: torch.Tensor, draws: _Draws) -> torch.Tensor:
        """Return the pixels of training images, float32, each changed by its own draws."""
        device = self._images.device
        mirrored, offsets = draws.mirrored[rows].to(device), draws.offsets[rows].to(device)
        images = augment(self._images[rows.to(device)], mirrored, offsets, self._recipe.shift)
        if self._recipe.autoaugment is not None:
            name = (self._seed, "autoaugment", self._name, draws.epoch)
            seeds = [keys.derive(*name, row) for row in rows.tolist()]
            images = autoaugment(images, self._recipe.autoaugment, seeds)
        images = images if images.is_floating_point() else images.float() / 255
        if self._recipe.noise:
            noise = [self._noise(draws.epoch, row) for row in rows.tolist()]
            images = (images + torch.stack(noise).to(device)).clamp(0, 1)
        return images

    def _noise(self, epoch: int, row: int) -> torch.Tensor:
        """Return the noise of an image, C x H x W, of a standard deviation of its own."""
        draws = keys.generator(self._seed, "gaussian_augmentation", self._name, epoch, row)
        deviation = self._recipe.noise * torch.rand(1, generator=draws)
        return deviation * torch.randn(self._images.shape[1:], generator=draws)

    def _start(self, epoch: int, row: int) -> torch.Tensor:
        """Return where the attack on an image starts, C x H x W, uniform in [-1, 1)."""
        draws = keys.generator(self._seed, "adversarial_start", self._name, epoch, row)
        return torch.rand(self._images.shape[1:], generator=draws) * 2 - 1


def _loss(
    name: str, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the sum over images of their losses, each times its weight if there are any."""
    reduction = "sum" if weights is None else "none"
    if name == "mse":
        wanted = F.one_hot(labels, logits.shape[1]).float()
        loss = F.mse_loss(logits, wanted, reduction=reduction)
        return loss if weights is None else (loss.sum(1) * weights).sum()
    loss = F.cross_entropy(logits, labels, reduction=reduction)
    return loss if weights is None else (loss * weights).sum()


def _last_linear(network: nn.Module) -> nn.Linear:
    """Return the linear layer that comes last; all architectures end in one."""
    return [module for module in network.modules() if isinstance(module, nn.Linear)][-1]


@contextmanager
def _dropped(network: nn.Module, factors: torch.Tensor | None) -> Iterator[None]:
    """Multiply the features before the last linear layer by factors, N x features, if any."""
    if factors is None:
        yield
        return
    handle = _last_linear(network).register_forward_pre_hook(
        lambda _, inputs: (inputs[0] * factors,)
    )
    try:
        yield
    finally:
        handle.remove()


def _perturbed(
    model: Pixels,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    unit: torch.Tensor,
    adversarial: Adversarial,
) -> torch.Tensor:
    """Return adversarial images of the network as it is, from noise `unit` times epsilon."""
    # Half a second to import, with Foolbox: paid only by networks trained against an attack.
    from bandlimit.training import descents

    attack = descents.KeyedStart(
        unit, rel_stepsize=adversarial.rel_stepsize, steps=adversarial.steps
    )
    with frozen(model):
        return descents.run(attack, model, pixels, labels, adversarial.epsilon)


def _gather_gradients(replicas: Sequence[nn.Module], count: int) -> None:
    """Give the first replica the sum of the gradients of all, in their order, over count."""
    for parameters in zip(*(replica.parameters() for replica in replicas), strict=True):
        first, *others = (parameter.grad for parameter in parameters)
        if first is None:  # a layer that is not trained
            continue
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


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Use deterministic kernels and one thread in each; restore all settings afterwards.

    One thread also where no sum depends on it: helpers would wait busily beside the workers.
    """
    before = torch.get_num_threads()
    mode = torch.get_deterministic_debug_mode()
    # Deterministic mode fills fresh memory with NaN, which takes a tenth of the time. That guards
    # against kernels that read it before they write; a NaN would stop the training.
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.set_num_threads(1)
    # `use_deterministic_algorithms` does the same and imports PyTorch's compiler, for seconds.
    torch.set_deterministic_debug_mode("error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        # What cuBLAS asks for before its sums are the same each time.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
