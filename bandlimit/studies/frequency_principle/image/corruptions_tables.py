"""How readers see the tables of corruptions, of noise of a band, and of networks behind filters."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bandlimit.files.tables import Column, Table


def _with_interval(label: str, name: str, digits: int = 3) -> dict[str, Column]:
    """Return the column of a value with its interval."""
    return {name: Column(label, digits, interval=(f"{name}_low", f"{name}_high"))}


NETWORK = {
    "dataset": Column("Dataset"),
    "network": Column("Network"),
    "batchnorm": Column("BatchNorm"),
    "method": Column("Method"),
    "size": Column("Filter", 0),
    "shape": Column("Filter is"),
    "seeds": Column("Seeds"),
    "images": Column("N"),
}
CHANGE = {
    **_with_interval("Accuracy", "accuracy"),
    "natural": Column("Natural network"),
    **_with_interval("Change against it", "change"),
}

FILTERS = (
    "A network behind a low-pass or high-pass filter was trained, and is tested, on images that "
    "went through it; a filter is the radius of a disk or the side of a square of frequencies."
)
CHANGES = (
    "Changes are against the natural network trained alike, seed by seed on the same images. 95% "
    "intervals are over networks and images."
)

TABLES: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "corruption_rates": (
        {
            **NETWORK,
            "corruption": Column("Corruption"),
            "high_fraction": Column("High frequencies", 3),
            **CHANGE,
        },
        "Accuracy under corruptions",
        "Corruptions of CIFAR-10-C. High frequencies are the share of the energy of what a "
        "corruption changes beyond a square of frequencies, mean over images. "
        f"{FILTERS} {CHANGES}",
    ),
    "corruption_slopes": (
        {
            **NETWORK,
            "natural": Column("Natural network"),
            "corruptions": Column("Corruptions"),
            **_with_interval("Slope k", "slope"),
            **_with_interval("Line at 0", "start"),
            **_with_interval("Line at 1", "end"),
            "residual": Column("Residual r", 3),
        },
        "Change of accuracy against the share of high frequencies",
        "Slope of the line of least squares through the corruptions, its values without high "
        "frequencies (at 0) and with these alone (at 1), and the root mean square of the "
        "corruptions' distance from it. 95% intervals (Student's t) take corruptions, images and "
        f"networks as samples; of fewer than three corruptions there is none. {FILTERS}",
    ),
    "band_noise": (
        {**NETWORK, "band": Column("Band"), "bandwidth": Column("Bandwidth"), **CHANGE},
        "Accuracy under noise of a band of frequencies",
        "Normal noise in the square of frequencies of that bandwidth (low) or beyond it (high), "
        f"each channel brought to one L2 norm; pixels are clipped to [0, 1]. {FILTERS} {CHANGES}",
    ),
    "band_pass": (
        {
            **NETWORK,
            "chance": Column("Chance", 3),
            **_with_interval("Accuracy", "accuracy"),
            **_with_interval("Above chance", "above"),
        },
        "Trained and tested on low or on high frequencies",
        f"{FILTERS} 95% intervals are over networks and images.",
    ),
}
"""Columns that are shown, title and note of each table."""


def table(name: str, frame: pd.DataFrame) -> Table:
    """Return a table as its readers see it."""
    return Table(frame, *TABLES[name])
