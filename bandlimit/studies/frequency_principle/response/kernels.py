"""When a network learns which eigenvector of a Gaussian kernel, and what these look like.

Source: Rahaman et al. 2019, "On the Spectral Bias of Neural Networks", Figures 5 and 6. The
eigenvectors of the matrix of a Gaussian kernel on the images, by falling eigenvalue, are functions
of the images of rising response frequency; on points of an interval they are like sinusoids. A
network learns labels of -1 and 1 with noise on them, and its outputs are projected on the
eigenvectors along the training.

Noise has random coefficients in the basis of eigenvectors, white ones or such that grow as the
square of the index ("eigen-profile"), which is noise of high frequency; its energy is a setting.

Shapes: R replicates, N images, T steps, B bins of eigenvectors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from bandlimit import keys
from bandlimit.studies.frequency_principle.response import products, stacks
from bandlimit.studies.frequency_principle.response.label_noise_images import draw
from bandlimit.studies.frequency_principle.response.threads import one_thread

Floats = NDArray[np.float64]

NOISES = ("white", "eigen-profile")

LEAST = 1e-12
"""Least eigenvalue over the first of which the eigenvector is known."""


def eigenvectors(points: Floats, sigma: float) -> tuple[Floats, Floats]:
    """Return eigenvalues, falling, and eigenvectors, columns of N x N, of a Gaussian kernel.

    Args:
        points: N x D.
        sigma: of exp(-|x - x'|^2 / (2 sigma^2)).
    """
    kernel = np.exp(-cdist(points, points, "sqeuclidean") / (2 * sigma**2))
    values, vectors = products.eigenvectors(kernel)
    return values[::-1], vectors[:, ::-1]


def spectra(points: int, sigma: float) -> Floats:
    """Return the spectrum of each eigenvector on even points of [0, 1], eigenvectors x frequencies.

    Magnitudes at 0, 1, 2 ... periods over the points, by the sum over them, of unit energy each.
    Eigenvectors whose eigenvalue is lost in rounding beside the first (`LEAST`) are left out: what
    is computed of them is arbitrary.

    Args:
        points: how many.
        sigma: of the kernel.
    """
    places = np.linspace(0, 1, points)
    values, vectors = eigenvectors(places[:, None], sigma)
    vectors = vectors[:, values > LEAST * values[0]]
    frequencies = np.arange(points // 2 + 1)
    # A period over the points is one over N of their distances, not N - 1.
    angles = -2 * np.pi * np.outer(frequencies, np.arange(points)) / points
    parts = [products.product(waves, vectors) for waves in (np.cos(angles), np.sin(angles))]
    magnitudes = np.hypot(*parts).T
    found: Floats = magnitudes / np.linalg.norm(magnitudes, axis=1, keepdims=True)
    return found


def noise(count: int, kind: str, generator: np.random.Generator) -> Floats:
    """Return coefficients of noise of unit energy by eigenvector, N.

    Args:
        count: N.
        kind: one of `NOISES`.
        generator: of the draws.
    """
    profile = (np.arange(1, count + 1) / count) ** (0 if kind == "white" else 2)
    drawn = generator.uniform(-1, 1, count) * profile
    found: Floats = drawn / np.linalg.norm(drawn)
    return found


class Learning(NamedTuple):
    """What networks learnt, by kind of noise (axis K) and replicate.

    Attributes:
        steps: T.
        bins: N, of each eigenvector, from 0.
        eigenvalues: R x N.
        labels: R x N, coefficients of the labels by eigenvector.
        targets: K x R x N, the same of labels with noise.
        outputs: K x R x T x N, of outputs.
        validation: K x R x T, mean squared error on clean labels.
    """

    steps: list[int]
    bins: NDArray[np.int64]
    eigenvalues: Floats
    labels: Floats
    targets: Floats
    outputs: Floats
    validation: Floats


def simulate(
    dataset_parquet: str | os.PathLike[str],
    *,
    classes: Sequence[int],
    images: int,
    validation_images: int,
    sigma: float,
    noise_energy: float,
    bins: int,
    width: int,
    depth: int,
    learning_rate: float,
    steps: int,
    every: int,
    replicates: int,
    seed: int,
) -> Learning:
    """Train networks on noisy labels, and project their outputs on eigenvectors.

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
        purpose="kernel",
    )
    found = [eigenvectors(own.double().numpy(), sigma) for own in samples.inputs]
    basis = np.stack([vectors for _, vectors in found])
    labels = np.einsum("rin,ri->rn", basis, samples.labels.double().numpy())
    energy = np.sqrt(noise_energy * images)
    coefficients = np.stack(
        [
            [
                own + energy * noise(images, kind, _generator(seed, kind, number))
                for number, own in enumerate(labels)
            ]
            for kind in NOISES
        ]
    )
    targets = np.einsum("rin,krn->kri", basis, coefficients)
    recorded = sorted({*range(0, steps + 1, every), steps})
    outputs: list[Floats] = []
    losses: list[Floats] = []

    def record(_: int, answers: torch.Tensor) -> None:
        losses.append(stacks.losses(stack(validation), wanted).double().numpy())
        outputs.append(answers[..., 0].double().numpy())

    kinds = len(NOISES)
    with one_thread():
        stack = stacks.draw(
            seed,
            "kernel",
            [number for _ in NOISES for number in range(replicates)],
            [samples.inputs.shape[2], *[width] * (depth - 1), 1],
        )
        validation = samples.validation.repeat(kinds, 1, 1)
        wanted = samples.validation_labels.repeat(kinds, 1)[..., None]
        stacks.train(
            stack,
            samples.inputs.repeat(kinds, 1, 1),
            torch.from_numpy(targets.reshape(kinds * replicates, images, 1)).float(),
            steps=steps,
            learning_rate=learning_rate,
            at=recorded,
            record=record,
        )
    answered = np.stack(outputs, axis=1).reshape(kinds, replicates, len(recorded), images)
    return Learning(
        steps=recorded,
        bins=np.arange(images) * bins // images,
        eigenvalues=np.stack([values for values, _ in found]),
        labels=labels,
        targets=coefficients,
        outputs=np.einsum("rin,krti->krtn", basis, answered),
        validation=np.stack(losses, axis=1).reshape(kinds, replicates, -1),
    )


def binned(coefficients: Floats, bins: NDArray[np.int64]) -> Floats:
    """Return root mean squares by bin, ... x B, of coefficients, ... x N."""
    return np.stack(
        [
            np.sqrt((coefficients[..., bins == own] ** 2).mean(axis=-1))
            for own in range(int(bins.max()) + 1)
        ],
        axis=-1,
    )


def errors(learning: Learning) -> Floats:
    """Return the relative error of outputs against noisy labels by bin, K x R x T x B."""
    missed = learning.outputs - learning.targets[:, :, None]
    found: Floats = (
        binned(missed, learning.bins) / binned(learning.targets, learning.bins)[:, :, None]
    )
    return found


def spectrum_frame(settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return the spectra of eigenvectors on [0, 1], a row per eigenvector and frequency."""
    found = spectra(settings["points"], settings["point_sigma"])
    return pd.DataFrame(
        [
            {"eigenvector": n + 1, "frequency": k, "magnitude": float(value)}
            for n, row in enumerate(found)
            for k, value in enumerate(row)
        ]
    )


def _generator(seed: int, kind: str, number: int) -> np.random.Generator:
    return np.random.default_rng(keys.derive(seed, "kernel", "noise", kind, number))
