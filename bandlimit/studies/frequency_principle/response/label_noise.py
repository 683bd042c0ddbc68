"""Noise of low and of high response frequency on the labels of images.

Source: Rahaman et al. 2019, "On the Spectral Bias of Neural Networks", Figure 4: a network learns
y + beta sin(2 pi k |x|), y being -1 or 1, with all images in each step, and is validated on clean
labels. Noise of high frequency over the norm |x| of an image is learnt late, so that the validation
loss dips before it is.

All cases and replicates are one tensor program. A replicate has images and initial weights of its
own, the same in all cases.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bandlimit.files.tables import Column, Table
from bandlimit.studies.frequency_principle.response import stacks
from bandlimit.studies.frequency_principle.response.label_noise_images import draw
from bandlimit.studies.frequency_principle.response.projections_records import over_seeds
from bandlimit.studies.frequency_principle.response.threads import one_thread

EARLY = 0.2
"""Share of the training in which a dip is looked for, after the start."""

Floats = NDArray[np.float64]


def simulate(
    dataset_parquet: str | os.PathLike[str],
    *,
    classes: Sequence[int],
    images: int,
    validation_images: int,
    frequencies: Sequence[float],
    amplitudes: Sequence[float],
    width: int,
    depth: int,
    learning_rate: float,
    steps: int,
    every: int,
    replicates: int,
    seed: int,
) -> tuple[list[tuple[float, float]], list[int], Floats, Floats]:
    """Return cases (k, beta), steps, and losses on noisy training and clean validation labels.

    The first case has no noise: k and beta are 0. Losses are mean squared errors, cases x
    replicates x steps.

    Raises:
        UserError: the dataset has too few images of the classes.
    """
    samples = draw(
        dataset_parquet,
        classes,
        images=images,
        validation_images=validation_images,
        replicates=replicates,
        seed=seed,
        purpose="label_noise",
    )
    cases = [(0.0, 0.0), *((float(k), float(beta)) for beta in amplitudes for k in frequencies)]
    norms = samples.inputs.norm(dim=2)
    targets = [samples.labels + beta * torch.sin(2 * torch.pi * k * norms) for k, beta in cases]
    recorded = sorted({*range(0, steps + 1, every), steps})
    losses: list[tuple[Floats, Floats]] = []

    def record(_: int, outputs: torch.Tensor) -> None:
        clean = stacks.losses(stack(validation), wanted)
        noisy = stacks.losses(outputs, target)
        losses.append((noisy.double().numpy(), clean.double().numpy()))

    with one_thread():
        stack = stacks.draw(
            seed,
            "label_noise",
            [number for _ in cases for number in range(replicates)],
            [samples.inputs.shape[2], *[width] * (depth - 1), 1],
        )
        target = torch.cat(targets)[..., None]
        validation = samples.validation.repeat(len(cases), 1, 1)
        wanted = samples.validation_labels.repeat(len(cases), 1)[..., None]
        stacks.train(
            stack,
            samples.inputs.repeat(len(cases), 1, 1),
            target,
            steps=steps,
            learning_rate=learning_rate,
            at=recorded,
            record=record,
        )
    training, validated = (
        np.stack(own, axis=1).reshape(len(cases), replicates, -1)
        for own in zip(*losses, strict=True)
    )
    return cases, recorded, training, validated


def tables(dataset_parquet: str | os.PathLike[str], *, source: str, **settings: Any) -> list[Table]:
    """Return the summary, a row per case, and the curves of both losses.

    In the summary, fall is the least validation loss of the first fifth over that at the start, dip
    the loss at the end over that least one, and harm what it is above that of the highest frequency
    at the end, all replicate by replicate. The first fifth begins after the start, so that a loss
    that only rises has a fall above 1, and has the first record after the start at least.

    Args:
        dataset_parquet: file of the images.
        source: where they come from, as registered.
        settings: as of `simulate`.

    Raises:
        UserError: the dataset has too few images of the classes.
    """
    cases, steps, training, validated = simulate(dataset_parquet, **settings)
    highest, lowest = max(settings["frequencies"]), min(settings["frequencies"])
    early = np.array(steps) <= max(EARLY * settings["steps"], steps[1])
    early[0] = False
    ends = dict(zip(cases, validated[:, :, -1], strict=True))
    rows, curves = [], []
    for (k, beta), noisy, clean in zip(cases, training, validated, strict=True):
        harm = ends[(k, beta)] - ends[(highest, beta)] if beta else np.full(len(clean), np.nan)
        roles = {0.0: "none", lowest: "lowest", highest: "highest"}
        told = {"case": _case(k), "frequency": k, "amplitude": beta}
        dipped = clean[:, early].min(axis=1)
        measured = {
            "end": clean[:, -1],
            "least": clean.min(axis=1),
            "fall": dipped / clean[:, 0],
            "dip": clean[:, -1] / dipped,
            "harm": harm,
        }
        row: dict[str, Any] = {**told, "role": roles.get(k, "other"), "source": source}
        for name, values in measured.items():
            row[name], row[f"{name}_low"], row[f"{name}_high"] = over_seeds(values)
        row["least_step"] = float(np.median(np.array(steps)[clean.argmin(axis=1)]))
        row["steps"], row["images"] = settings["steps"], settings["images"]
        row["replicates"] = len(clean)
        rows.append(row)
        for labels, values in (("noisy training", noisy), ("clean validation", clean)):
            curves += [
                {
                    **told,
                    "labels": labels,
                    "step": step,
                    "loss": float(values[:, i].mean()),
                    "loss_low": float(values[:, i].min()),
                    "loss_high": float(values[:, i].max()),
                }
                for i, step in enumerate(steps)
            ]
    return [
        Table(
            pd.DataFrame(rows),
            {
                "case": Column("Noise"),
                "amplitude": Column("beta"),
                "end": Column("Validation loss, end", 3, interval=("end_low", "end_high")),
                "least": Column("Least", 3, interval=("least_low", "least_high")),
                "least_step": Column("At step", 0),
                "fall": Column(
                    "Least of first fifth / start", 2, interval=("fall_low", "fall_high")
                ),
                "dip": Column("End / least of first fifth", 2, interval=("dip_low", "dip_high")),
                "harm": Column("Above highest k, end", 3, interval=("harm_low", "harm_high")),
                "replicates": Column("Networks"),
            },
            "Noise on labels by response frequency",
            "Mean squared error on clean labels of -1 and 1. Noise is beta sin(2 pi k |x|) of the "
            "norm of an image, pixels in [0, 1]. A loss dips that falls below the start in the "
            "first fifth and rises again. Means over networks with images and weights of their "
            "own, 95% intervals (Student's t); 'above highest k' compares networks of equal images "
            "and weights.",
        ),
        Table(
            pd.DataFrame(curves),
            {
                "case": Column("Noise"),
                "amplitude": Column("beta"),
                "labels": Column("Labels"),
                "step": Column("Step"),
                "loss": Column("Loss", 4, interval=("loss_low", "loss_high")),
            },
            "Noise on labels by response frequency: losses along training",
            "Mean squared error: mean over networks, in brackets the least and the greatest.",
        ),
    ]


def _case(k: float) -> str:
    return f"k = {k:g}" if k else "no noise"
