"""How readers see the tables of the study."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bandlimit.files.tables import Column, Table

CELL = {
    "dataset": Column("Dataset"),
    "network": Column("Network"),
    "batchnorm": Column("BatchNorm"),
    "training": Column("Training"),
    "loss": Column("Loss"),
    "checkpoint": Column("Checkpoint"),
    "perturbation": Column("Perturbation"),
}

TABLES: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "lifts": (
        CELL
        | {
            "radius": Column("Radius", 0),
            "images": Column("N"),
            "uniform": Column("Uniform share", 3),
            "ratio": Column("LFC ratio", 3, interval=("low", "high")),
            "lift": Column("Lift", 2, interval=("lift_low", "lift_high")),
            "clean_ratio": Column("LFC ratio of images", 3),
            "below_clean": Column("Below its image", 3),
            "below_clean_without_mean": Column("Below its image, without the mean", 3),
            "clean_accuracy": Column("Clean accuracy", 3),
            "attacked_accuracy": Column("Attacked accuracy", 3),
        },
        "Share of low frequencies in perturbations, network by network",
        "The LFC ratio is the share of a perturbation's energy within the radius, in periods per "
        "side; the uniform share is that of a flat spectrum, and the lift is the ratio over it. "
        "Means over N images of each image's own ratio, with 95% intervals by Student's t; images "
        "with a gradient of 0 are left out. 'Below its image' is the share of images whose own "
        "ratio is greater than that of their perturbation; most energy of an image is its mean, "
        "frequency 0, which the column after it leaves out on both sides.",
    ),
    "contradiction": (
        CELL
        | {
            "radius": Column("Radius", 0),
            "images": Column("N"),
            "lift": Column("Lift", 2, interval=("lift_low", "lift_high")),
            "magnitude": Column("Magnitude"),
            "relative_lift": Column(
                "Log-spectrum difference, inside over outside",
                2,
                interval=("relative_low", "relative_high"),
            ),
            "relative": Column("Relative to the image"),
            "supports": Column("The magnitude speaks for"),
        },
        "Low, uniform or high? What each cell of the grid says",
        "Low where the whole 95% interval of the lift is above 1.5, high where it is below 2/3, "
        "uniform where it lies between; of the log-spectrum difference, the mean within the radius "
        "over the mean beyond it is judged by the same bounds. Three documents disagree; each is "
        "right of some cells or measures.",
    ),
    "profiles": (
        CELL
        | {
            "distance": Column("Distance"),
            "images": Column("N"),
            "profile": Column("Mean magnitude", 2, interval=("low", "high")),
        },
        "Radial profiles of perturbations",
        "Mean magnitude over frequencies at a distance from frequency 0, in periods per side, over "
        "the mean of all; 1 throughout in a flat spectrum. Means over images with 95% intervals.",
    ),
    "comparisons": (
        {
            "dataset": Column("Dataset"),
            "model": Column("Network"),
            "comparison": Column("Effect of"),
            "with_model": Column("Compared with"),
            "with_checkpoint": Column("Checkpoint"),
            "perturbation": Column("Perturbation"),
            "radius": Column("Radius", 0),
            "images": Column("N"),
            "ratio": Column("LFC ratio", 3),
            "with_ratio": Column("LFC ratio of the other", 3),
            "difference": Column("Difference", 3, interval=("low", "high")),
        },
        "Networks compared on the same images",
        "Differences of each image's LFC ratio, with 95% intervals over images.",
    ),
    "trajectories": (
        {
            "dataset": Column("Dataset"),
            "network": Column("Network"),
            "batchnorm": Column("BatchNorm"),
            "training": Column("Training"),
            "step": Column("Step"),
            "epoch": Column("Epoch", 2),
            "loss_value": Column("Loss", 3),
            "train_accuracy": Column("Training accuracy", 3),
            "accuracy": Column("Accuracy", 3),
            "attack": Column("Perturbation"),
            "radius": Column("Radius", 0),
            "uniform": Column("Uniform share", 3),
            "images": Column("N"),
            "ratio": Column("LFC ratio", 3, interval=("low", "high")),
        },
        "Share of low frequencies along training",
        "Perturbations are made anew at each step, of the same images, which are not trained on.",
    ),
    "low_pass": (
        {
            "dataset": Column("Dataset"),
            "model": Column("Model"),
            "cutoff": Column("Cut-off", 0),
            "images": Column("N"),
            "clean": Column("Clean", 3, interval=("clean_low", "clean_high")),
            "unaware": Column("PGD, unaware", 3, interval=("unaware_low", "unaware_high")),
            "aware": Column("PGD, aware", 3, interval=("aware_low", "aware_high")),
            "unfiltered_clean": Column("Clean, unfiltered", 3),
            "unfiltered_attacked": Column("PGD, unfiltered", 3),
        },
        "Accuracy behind a low-pass filter",
        "Frequencies up to the cut-off pass, in periods per side. The unaware attack is made on "
        "the network without the filter and filtered afterwards, as in the document; the aware one "
        "goes through the filter. Wilson 95% intervals.",
    ),
}
"""Columns that are shown, title and note of each table."""


def table(name: str, frame: pd.DataFrame) -> Table:
    """Return a table of `rates.frames` as its readers see it."""
    return Table(frame, *TABLES[name])
