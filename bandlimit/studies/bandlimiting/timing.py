"""How long post-averaging takes beside one pass of the network ("Bandlimiting", Table 2).

On a CPU seconds are those of the processor, which other jobs on the machine hardly change; on a
card they are those of the clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bandlimit.claims import reported
from bandlimit.data import stream
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.sweep import Setting, forwards, sweep
from bandlimit.files.tables import Column, Table
from bandlimit.models import classifier as classifiers
from bandlimit.models.batches import MicroBatches
from bandlimit.models.classifier import Classifier
from bandlimit.models.fused import evaluator

MOST_SAMPLES = 4096
"""Samples in one measurement at most, for the sake of memory."""

IMAGES = 256
"""Images that are read, at most; they are used again as often as needed."""

COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "device": Column("Device"),
    "directions": Column("K"),
    "forwards": Column("Forward passes"),
    "seconds_undefended": Column("ms per image", 2, 1000),
    "seconds_defended": Column("ms, defended", 1, 1000),
    "time_ratio": Column("Time ratio", 1),
    "low": Column("Least", 1),
    "high": Column("Greatest", 1),
    "r_squared": Column("R2 of the line", 4),
    "reported_time_ratio": Column("Reported ratio", 1),
}


class Counted:
    """A network that counts the images it is given."""

    def __init__(self, network: MicroBatches) -> None:
        self.network = network
        self.images = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return the logits of standardised images, N x C x H x W."""
        self.images += len(x)
        return self.network(x)


def time_ratios(
    classifier: Classifier,
    images: Tensor,
    *,
    radius: float,
    directions: Sequence[int],
    seed: int,
    repeats: int = 2,
    seconds: float,
) -> pd.DataFrame:
    """Return a row per number of directions: its time per image over that of the bare network.

    Both go through the same engine, without early stop, on about the same number of samples, so
    that padding of the last micro-batch matters little; repeats take turns, so that a slow moment
    of the machine meets all. One image is the least, so that great numbers of directions may take
    longer than `seconds`.

    Args:
        classifier: the model.
        images: pixels in [0, 1], N x C x H x W, N >= 1; used again and again as needed.
        radius: of post-averaging; without effect on time.
        directions: numbers of directions K.
        seed: seed of the draws.
        repeats: measurements of each.
        seconds: time to spend.

    Columns: directions, images (in a measurement), forwards (6 K + 1), counted (images the network
    was given, per image), seconds_undefended, seconds_defended (the least, per image), time_ratio
    (of the two), low and high (least and greatest within a repeat), r_squared (of the line through
    the ratios over K).
    """
    network = evaluator(classifier)
    samples = _affordable(classifier, network, images, seconds / (repeats * (len(directions) + 1)))
    rows: list[dict[str, Any]] = []
    for count in directions:
        setting = Setting(radius, count)
        passes = forwards([setting])
        rows.append(
            {
                "directions": count,
                "images": max(1, samples // passes),
                "forwards": passes,
            }
        )
    bare: list[float] = []
    defended: list[list[float]] = [[] for _ in rows]
    for _ in range(repeats):
        bare.append(_undefended(classifier, network, _cycle(images, samples)))
        for row, times in zip(rows, defended, strict=True):
            counted = Counted(network)
            setting = Setting(radius, row["directions"])
            times.append(
                _defended(classifier, counted, _cycle(images, row["images"]), setting, seed)
            )
            row["counted"] = counted.images / row["images"]
    for row, times in zip(rows, defended, strict=True):
        ratios = np.array(times) / np.array(bare)
        row |= {
            # The least: whatever else the machine does only adds.
            "seconds_undefended": min(bare),
            "seconds_defended": min(times),
            "time_ratio": min(times) / min(bare),
            "low": float(ratios.min()),
            "high": float(ratios.max()),
        }
    frame = pd.DataFrame(rows)
    frame["r_squared"] = None
    if len(frame) > 2:
        from scipy import stats

        line = stats.linregress(frame["directions"], frame["time_ratio"])
        frame["r_squared"] = float(line.rvalue) ** 2
    return frame


def _cycle(images: Tensor, count: int) -> Tensor:
    return images[torch.arange(count) % len(images)]


def _affordable(
    classifier: Classifier, network: MicroBatches, images: Tensor, seconds: float
) -> int:
    """Return how many samples pass in so many seconds: a whole number of micro-batches."""
    batch = _cycle(images, network.size)
    _undefended(classifier, network, batch)
    pace = min(_undefended(classifier, network, batch) for _ in range(2))
    batches = int(seconds / (pace * network.size))
    return network.size * max(1, min(batches, MOST_SAMPLES // network.size))


def _clock(classifier: Classifier) -> Callable[[], float]:
    return time.process_time if classifier.mean.device.type == "cpu" else time.perf_counter


def _undefended(classifier: Classifier, network: MicroBatches, images: Tensor) -> float:
    """Return the seconds that one image takes without a defence."""
    clock = _clock(classifier)
    start = clock()
    with torch.no_grad():
        x = (images.to(classifier.mean.device) - classifier.mean) / classifier.std
        torch.softmax(network(x), dim=1).cpu()
    return (clock() - start) / len(images)


def _defended(
    classifier: Classifier, network: Counted, images: Tensor, setting: Setting, seed: int
) -> float:
    """Return the seconds that one image takes with post-averaging."""
    ids = list(map(str, range(len(images))))
    labels = torch.zeros(len(images), dtype=torch.int64)
    name = DrawName(seed, "timing", "", "")
    clock = _clock(classifier)
    start = clock()
    for _ in sweep(classifier, network, images, ids, labels, [setting], name=name):
        pass
    return (clock() - start) / len(images)


def table(
    experiments: Sequence[Mapping[str, Any]],
    datasets: Sequence[str],
    models: Sequence[str],
    claims: str | os.PathLike[str],
    *,
    device: str,
    name: str,
    seed: int,
    directions: Sequence[int],
    seconds: float,
) -> Table:
    """Return the table of times, measured here and now.

    Args:
        experiments: dataset, model and radius of each.
        datasets: the file of each dataset.
        models: the file of each model.
        claims: the claims file that holds what the document reports.
        device: auto, cpu or cuda.
        name: of the device, as the table shows it.
        seed: of the draws.
        directions: numbers of directions K.
        seconds: to spend on each model.
    """
    document = reported.reported(claims, "table_2")[["directions", "time_ratio"]]
    parts = []
    for e, dataset, path in zip(experiments, datasets, models, strict=True):
        _, _, images = next(stream.batches(dataset, IMAGES))
        ratios = time_ratios(
            classifiers.load(path, device),
            images,
            radius=e["radius"],
            directions=directions,
            seed=seed,
            seconds=seconds,
        )
        ratios = ratios.merge(
            document.rename(columns={"time_ratio": "reported_time_ratio"}),
            how="left",
            on="directions",
        )
        parts.append(ratios.assign(dataset=e["dataset"], model=e["model"], device=name))
    frame = pd.concat(parts, ignore_index=True)
    first = ["dataset", "model", "device"]
    return Table(
        frame[first + [column for column in frame.columns if column not in first]],
        COLUMNS,
        title="Table 2: time of inference by number of directions K",
        note="Time per image with post-averaging over that without, by the same engine and without "
        "early stop: the least of interleaved repeats, with the least and greatest ratio; "
        "processor time on a CPU, clock time on a card. This is the one table that differs between "
        "runs. Reported ratios are the document's, for ResNet-152 on ImageNet.",
    )
