"""The tables of a kernel's eigenvectors, and of when a network learns them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pandas as pd

from bandlimit.files.tables import Column, Table
from bandlimit.studies.frequency_principle.response import kernels
from bandlimit.studies.frequency_principle.response.projections import (
    first_steps_below,
    order,
    passage,
)
from bandlimit.studies.frequency_principle.response.projections_records import over_seeds

THRESHOLD = 0.3
"""Relative error below which a bin of eigenvectors counts as learnt, as the largest of Xu et al."""


def tables(dataset_parquet: str | os.PathLike[str], *, source: str, **settings: Any) -> list[Table]:
    """Return bins of eigenvectors, summary, curves, and eigenvectors on an interval.

    Args:
        dataset_parquet: file of the images.
        source: where they come from, as registered.
        settings: of the simulation.

    Raises:
        UserError: the dataset has too few images of the classes.
    """
    own = dict(settings)
    points = {name: own.pop(name) for name in ("points", "point_sigma")}
    noise_energy = own.pop("noise")
    learning = kernels.simulate(dataset_parquet, noise_energy=noise_energy, **own)
    steps = np.array(learning.steps)
    missed = kernels.errors(learning)
    eigenvalues = kernels.binned(learning.eigenvalues, learning.bins).mean(axis=0)
    labels = kernels.binned(learning.labels, learning.bins).mean(axis=0)
    bins: list[dict[str, Any]] = []
    summary: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    for k, kind in enumerate(kernels.NOISES):
        first = first_steps_below(missed[k], steps, THRESHOLD)
        target = kernels.binned(learning.targets[k], learning.bins).mean(axis=0)
        answered = kernels.binned(learning.outputs[k], learning.bins).mean(axis=0)
        for b, value in enumerate(eigenvalues):
            told = {"case": f"{kind} noise", "frequency": b + 1}
            bins.append(
                {
                    **told,
                    "threshold": THRESHOLD,
                    "eigenvalue": float(value),
                    "labels": float(labels[b]),
                    "target": float(target[b]),
                    **passage(first[:, b], steps[-1]),
                }
            )
            curves += [
                {
                    **told,
                    "step": int(step),
                    "outputs": float(answered[i, b]),
                    "error": float(missed[k, :, i, b].mean()),
                }
                for i, step in enumerate(steps)
            ]
        validation = learning.validation[k]
        # Of what was learnt: a loss that only rises has no dip, and its start is none.
        after = validation[:, 1:]
        places = np.arange(missed.shape[-1], dtype=float)
        measured = {
            "correlation": np.array([order(places, row, steps[-1]) for row in first]),
            "end": validation[:, -1],
            "least": after.min(axis=1),
            "fall": after.min(axis=1) / validation[:, 0],
            "dip": validation[:, -1] / after.min(axis=1),
        }
        row: dict[str, Any] = {"case": f"{kind} noise", "source": source}
        for name, values in measured.items():
            row[name], row[f"{name}_low"], row[f"{name}_high"] = over_seeds(values)
        row["least_step"] = float(np.median(steps[1:][after.argmin(axis=1)]))
        row["steps"], row["images"] = int(steps[-1]), settings["images"]
        row["replicates"] = len(validation)
        summary.append(row)
    losses = [
        {
            "case": f"{kind} noise",
            "step": int(step),
            "loss": float(learning.validation[k, :, i].mean()),
            "loss_low": float(learning.validation[k, :, i].min()),
            "loss_high": float(learning.validation[k, :, i].max()),
        }
        for k, kind in enumerate(kernels.NOISES)
        for i, step in enumerate(steps)
    ]
    noise = {"case": Column("Noise")}
    return [
        Table(
            pd.DataFrame(bins),
            {
                **noise,
                "frequency": Column("Bin of eigenvectors"),
                "eigenvalue": Column("Eigenvalue", 3),
                "labels": Column("Labels", 3),
                "target": Column("Labels with noise", 3),
                "step": Column("First step", 0, interval=("step_low", "step_high")),
                "learnt": Column("Networks that learnt it"),
                "seeds": Column("Networks"),
            },
            "Eigenvectors of a Gaussian kernel: when each bin is learnt",
            f"First step at which the relative error against noisy labels is below {THRESHOLD:g}: "
            "median over networks, in brackets the least and the greatest; a dash is a network "
            "that never came so far. Bins are of falling eigenvalue, and so of rising response "
            "frequency. Values are root mean squares of coefficients.",
        ),
        Table(
            pd.DataFrame(summary),
            {
                **noise,
                "correlation": Column(
                    "Rank correlation of bin and first step",
                    2,
                    interval=("correlation_low", "correlation_high"),
                ),
                "end": Column("Validation loss, end", 3, interval=("end_low", "end_high")),
                "least": Column("Least", 3, interval=("least_low", "least_high")),
                "least_step": Column("At step", 0),
                "fall": Column("Least / start", 2, interval=("fall_low", "fall_high")),
                "dip": Column("End / least", 2, interval=("dip_low", "dip_high")),
                "replicates": Column("Networks"),
            },
            "Eigenvectors of a Gaussian kernel: order of learning, and validation",
            "Spearman's rank correlation; bins that are never learnt come last. Validation is the "
            "mean squared error on clean labels of -1 and 1; it dips where its least value after "
            "the start is below start and end. Means over networks with 95% intervals "
            "(Student's t).",
        ),
        Table(
            pd.DataFrame(curves),
            {
                **noise,
                "frequency": Column("Bin of eigenvectors"),
                "step": Column("Step"),
                "outputs": Column("Outputs", 3),
                "error": Column("Relative error", 3),
            },
            "Eigenvectors of a Gaussian kernel: outputs along training",
            "Root mean square of the coefficients of outputs in each bin, and their error relative "
            "to noisy labels; means over networks.",
        ),
        Table(
            pd.DataFrame(losses),
            {
                **noise,
                "step": Column("Step"),
                "loss": Column("Loss", 4, interval=("loss_low", "loss_high")),
            },
            "Eigenvectors of a Gaussian kernel: validation along training",
            "Mean squared error on clean labels: mean over networks, in brackets the least and the "
            "greatest.",
        ),
        Table(
            kernels.spectrum_frame(points),
            {
                "eigenvector": Column("Eigenvector"),
                "frequency": Column("Frequency"),
                "magnitude": Column("Magnitude", 4),
            },
            "Eigenvectors of a Gaussian kernel on [0, 1]: their spectra",
            "Magnitudes of the discrete Fourier transform, in periods over the points, of unit "
            "energy for each eigenvector.",
        ),
    ]
