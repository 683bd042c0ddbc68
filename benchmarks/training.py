"""How fast training is here, beside a plain PyTorch loop over the same network.

The plain side is what anyone writes: the network as built, in the default memory layout, batches
by index from a tensor in memory, half of them mirrored, the same optimizer and learning rates,
PyTorch's own threads. The other side is `bandlimit.training.loop.train`, reading and saving
included. Each side has a process of its own, and they take turns within each repetition. A third
side is the plain one with the memory settings of a job (`bandlimit.provenance.job.keep_memory`).

    python benchmarks/training.py
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIDES = ("plain", "plain, memory kept", "here")

IMAGES = {"strided_resnet8": 2560, "cifar_resnet20": 640}
"""Images of a run, so that each takes seconds."""

MEAN, STD = 0.286, 0.353

BATCH, RATE, MOMENTUM, DECAY = 64, 0.05, 0.9, 5e-4


def dataset(path: Path, count: int) -> None:
    """Write a dataset in the shape of Fashion-MNIST: ten classes of noisy stripes, 28 x 28."""
    import numpy as np
    import pyarrow as pa

    from bandlimit.files import store

    draws = np.random.default_rng(0)
    labels = np.arange(count) % 10
    images = draws.integers(0, 60, (count, 1, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 6] += 150
    ids = [f"striped-{row}" for row in range(count)]
    columns = {"image_id": ids, "label": labels, "image": store.image_column(images)}
    store.write(path, pa.table(columns))


def plain(path: Path, architecture: str) -> float:
    """Train for an epoch as plainly as can be, and return the loss."""
    import torch

    from bandlimit.files import store
    from bandlimit.models import architectures
    from bandlimit.training.loop import learning_rate_at

    table = store.read(path)
    images = torch.from_numpy(store.images_of(table).copy())
    labels = torch.from_numpy(table["label"].to_numpy().copy())
    network = architectures.build(architecture, classes=10, channels=1).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    order = torch.randperm(len(images))
    steps, total = len(images) // BATCH, 0.0
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        pixels = images[rows]
        mirrored = torch.rand(BATCH) < 0.5
        pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, steps, RATE)
        optimizer.zero_grad()
        logits = network((pixels.float() / 255 - MEAN) / STD)
        loss = torch.nn.functional.cross_entropy(logits, labels[rows])
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / steps


def here(path: Path, architecture: str, threads: int) -> float:
    """Train for an epoch as a job of the workflow does, and return the loss."""
    from bandlimit.training.loop import train
    from bandlimit.training.recipes import Recipe

    trained = train(
        path,
        path.with_suffix(".safetensors"),
        recipe=Recipe(
            epochs=1,
            batch_size=BATCH,
            learning_rate=RATE,
            momentum=MOMENTUM,
            weight_decay=DECAY,
            augmentation={"flip": True},
        ),
        architecture=architecture,
        classes=10,
        mean=[MEAN],
        std=[STD],
        seed=0,
        model_name="benchmark",
        threads=threads,
    )
    return float(trained.history["loss"][0].as_py())


def work(side: str, threads: int, folder: Path, line: Connection) -> None:
    """Answer an architecture with the seconds of an epoch, and its loss, until told to end."""
    import torch

    from bandlimit.provenance.job import keep_memory

    if side != "plain":
        keep_memory()
    torch.set_num_threads(threads)
    while (architecture := line.recv()) is not None:
        path = folder / f"{architecture}.parquet"
        start = time.perf_counter()
        loss = here(path, architecture, threads) if side == "here" else plain(path, architecture)
        line.send((time.perf_counter() - start, loss))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", nargs="+", default=list(IMAGES), choices=list(IMAGES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for architecture in options.architectures:
            dataset(Path(folder) / f"{architecture}.parquet", IMAGES[architecture])
        lines = {}
        for side in SIDES:
            lines[side], other = context.Pipe()
            arguments = (side, options.threads, Path(folder), other)
            context.Process(target=work, args=arguments, daemon=True).start()

        def ask(side: str, architecture: str) -> Any:
            lines[side].send(architecture)
            return lines[side].recv()

        print(f"{options.threads} threads, {options.repetitions} repetitions, {platform.machine()}")
        print("\n| network | side | images a second (min to max) | times as fast | loss |")
        print("|---|---|--:|--:|--:|")
        for architecture in options.architectures:
            for side in SIDES:
                ask(side, architecture)  # warm
            found: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
            for _ in range(options.repetitions):
                for side in SIDES:
                    found[side].append(ask(side, architecture))
            for side in SIDES:
                seconds = [pair[0] for pair in found[side]]
                rates = sorted(IMAGES[architecture] / value for value in seconds)
                ratios = [a[0] / b for a, b in zip(found["plain"], seconds, strict=True)]
                print(
                    f"| {architecture} | {side} | {statistics.median(rates):.0f} "
                    f"({rates[0]:.0f} to {rates[-1]:.0f}) | {statistics.median(ratios):.2f} "
                    f"({min(ratios):.2f} to {max(ratios):.2f}) | "
                    f"{statistics.median(pair[1] for pair in found[side]):.3f} |",
                    flush=True,
                )
        for line in lines.values():
            line.send(None)


if __name__ == "__main__":
    main()
