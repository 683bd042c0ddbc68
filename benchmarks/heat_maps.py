"""How fast Fourier heat maps are made here, beside the plain loop over waves and networks.

The plain side takes each network as it is, a PyTorch module in eval mode, and each frequency of the
whole plane in turn: it makes the wave by an inverse transform, adds it to all images with their
signs, clips, standardises, and asks the network for one batch, with PyTorch's own threads. With
--single it asks image by image. This side is a job's: half of the plane, and each image with a wave
made once for all networks, which are folded. Networks have random weights, and statistics of
BatchNorm that fit them; labels are what the first network says of the images. Sides take turns
within each repetition, in one process with the memory settings of a job
(`bandlimit.provenance.job.keep_memory`), which help both.

    python benchmarks/heat_maps.py
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bandlimit.provenance.job import keep_memory
from bandlimit.models import architectures
from bandlimit.models.batches import MicroBatches, fold, micro_batch
from bandlimit.models.classifier import Classifier
from bandlimit.studies.frequency_principle.image import heat_maps

SEED = 1

SIDES = ("plain", "here")

Pair = tuple[int, int]
Errors = dict[Pair, NDArray[np.bool_]]
"""Whether each network gets each image right, networks x N, by frequency."""


def networks(name: str, count: int, shape: Sequence[int], images: torch.Tensor) -> list[nn.Module]:
    """Return networks with weights of their own, and statistics of BatchNorm that fit images."""
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = architectures.build(name, classes=10, channels=shape[0], sides=shape[1:])
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.momentum = None
            network.train()(images)
        found.append(network.eval().requires_grad_(False))
    return found


def wave_of(sides: Sequence[int], i: int, j: int) -> torch.Tensor:
    """Return the wave of a frequency and of its opposite by an inverse transform, of unit norm."""
    height, width = sides
    spectrum = torch.zeros(height, width, dtype=torch.complex128)
    spectrum[i % height, j % width] += np.exp(1j * np.pi / 4)
    wave = torch.fft.ifft2(spectrum).real
    return wave / wave.norm()


def plain(
    modules: Sequence[nn.Module],
    x: torch.Tensor,
    y: torch.Tensor,
    signs: torch.Tensor,
    pairs: Sequence[Pair],
    norm: float,
    batch: int,
) -> Errors:
    """Return the answers of networks, one after the other, at each frequency of the plane."""
    height, width = x.shape[2:]
    found: dict[Pair, list[NDArray[np.bool_]]] = {pair: [] for pair in pairs}
    with torch.no_grad():
        for module in modules:
            for i, j in pairs:
                wave = norm * wave_of((height, width), i, j)
                sign = signs[:, :, i % height, j % width, None, None]
                shown = (x + sign * wave.float()).clamp(0, 1)
                logits = torch.cat([module((part - 0.5) / 0.25) for part in shown.split(batch)])
                found[i, j].append((logits.argmax(dim=1) == y).numpy())
    return {pair: np.stack(answers) for pair, answers in found.items()}


def here(
    models: dict[str, Classifier],
    x: torch.Tensor,
    y: torch.Tensor,
    pairs: Sequence[Pair],
    norm: float,
) -> Errors:
    """Return the answers of networks at each frequency of half of the plane, as a job gets them."""
    ids = [f"image {k}" for k in range(len(x))]

    def batches() -> list[tuple[list[str], torch.Tensor, torch.Tensor]]:
        return [
            (ids[start : start + 128], y[start : start + 128], x[start : start + 128])
            for start in range(0, len(x), 128)
        ]

    correct = [
        np.array(table["correct"].combine_chunks().flatten()).reshape(-1, len(models), len(pairs))
        for table in heat_maps.evaluate(
            models, batches, pairs, norms=[norm], seed=SEED, dataset="random"
        )
    ]
    answers = np.concatenate(correct).transpose(2, 1, 0)
    return dict(zip(pairs, answers, strict=True))


def main() -> None:
    """Time both sides, check that error rates are equal, and print a row of a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", default="small_cnn")
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--shape", type=int, nargs=3, default=[1, 28, 28])
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--norm", type=float, default=4)
    parser.add_argument("--single", action="store_true", help="the plain side asks image by image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    shape = tuple(options.shape)
    torch.manual_seed(SEED)
    x = torch.rand(options.images, *shape)
    modules = networks(options.architecture, options.networks, shape, x)
    with torch.no_grad():
        y = modules[0]((x - 0.5) / 0.25).argmax(dim=1)
    models = {
        f"network {k}": Classifier(
            MicroBatches(fold(copy.deepcopy(module)), micro_batch(shape, "cpu")),
            mean=[0.5] * shape[0],
            std=[0.25] * shape[0],
            shape=shape,
            classes=10,
        )
        for k, module in enumerate(modules)
    }
    signs = torch.stack(
        [heat_maps.signs(shape, SEED, "random", f"image {k}") for k in range(len(x))]
    )
    height, width = shape[1:]
    half = heat_maps.frequencies(shape[1:], stride=options.stride)
    plane = [
        (i, j)
        for i in range(-(height // 2), (height + 1) // 2)
        for j in range(-(width // 2), (width + 1) // 2)
        if i % options.stride == 0 and j % options.stride == 0
    ]
    batch = 1 if options.single else len(x)
    # By processor as well: where others use the cores, the clock counts what they do.
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    times: dict[str, list[float]] = {f"{side} {of}": [] for side in SIDES for of in clocks}
    for repetition in range(options.repetitions + 1):
        start = {of: clock() for of, clock in clocks.items()}
        theirs = plain(modules, x, y, signs, plane, options.norm, batch)
        middle = {of: clock() for of, clock in clocks.items()}
        ours = here(models, x, y, half, options.norm)
        # The first turn warms caches and thread pools.
        for of, clock in clocks.items() if repetition else ():
            times[f"plain {of}"].append(middle[of] - start[of])
            times[f"here {of}"].append(clock() - middle[of])
    answers = np.mean([(theirs[pair] == ours[pair]).mean() for pair in half])
    apart = max(np.abs(theirs[p].mean(axis=1) - ours[p].mean(axis=1)).max() for p in half)
    if not (answers > 0.9999 and apart <= 1 / len(x)):
        raise SystemExit(f"{answers:.6f} of the answers are equal; error rates differ by {apart}")
    cells = []
    for of in clocks:
        sides = [times[f"{side} {of}"] for side in SIDES]
        ratios = [a / b for a, b in zip(*sides, strict=True)]
        cells += [f"{statistics.median(side):.1f}" for side in sides]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"{platform.machine()}, torch {torch.__version__}, {options.repetitions} repetitions")
    print(
        f"| {options.architecture} | {options.networks} | {len(x)} | {len(plane)} | {batch} | "
        f"{options.threads} | {' | '.join(cells)} | {answers:.4%} |"
    )


if __name__ == "__main__":
    main()
