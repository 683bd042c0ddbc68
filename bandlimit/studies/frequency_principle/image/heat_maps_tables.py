"""How readers see the tables of the Fourier heat maps."""

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
    "training": Column("Training"),
    "norm": Column("Norm", 1),
    "seeds": Column("Seeds"),
    "images": Column("N"),
}
REGION = {"region": Column("Region"), "radius": Column("Radius", 0)}

WAVES = (
    "A wave of one image frequency is added to each channel with a random sign, in the L2 norm "
    "that is given for a channel, and pixels are clipped to [0, 1]."
)
REGIONS = (
    "Rings are of frequencies whose distance from 0 rounds to the radius, in cycles per image; the "
    "lowest are those up to 2, the others those above, high ones those from 10 on."
)
INTERVALS = "95% intervals are over networks and images."

TABLES: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "heat_maps": (
        {
            **NETWORK,
            **REGION,
            "frequencies": Column("Frequencies"),
            **_with_interval("Error on clean images", "clean"),
            **_with_interval("Error", "error"),
            **_with_interval("Rise", "rise"),
        },
        "Fourier heat maps: error by radius",
        f"{WAVES} {REGIONS} The rise is the error less that on clean images. {INTERVALS}",
    ),
    "heat_map_comparisons": (
        {
            **NETWORK,
            "comparison": Column("Comparison"),
            "against": Column("Natural network"),
            **REGION,
            "first": Column("First", 3),
            "second": Column("Second", 3),
            **_with_interval("Difference", "difference"),
            **_with_interval("Difference of rises", "rises"),
        },
        "Fourier heat maps compared on the same images, seed by seed",
        f"{WAVES} {REGIONS} Networks differ in noise or attack alone: recipe and architecture are "
        "those of the natural one. The difference of rises leaves out what they differ by on clean "
        f"images. {INTERVALS}",
    ),
    "heat_map_frequencies": (
        {
            **NETWORK,
            "down": Column("Down"),
            "right": Column("Right"),
            "radius": Column("Radius", 1),
            "wrong": Column("Wrong"),
            "count": Column("Of"),
            **_with_interval("Error", "error"),
        },
        "Fourier heat maps: error at each frequency",
        f"{WAVES} Frequencies in cycles per image, downwards and to the right; of each pair of "
        "opposite ones, whose waves are the same but for their phase, one was shown. Counts are of "
        f"images and networks. {INTERVALS}",
    ),
    "waves_as_attack": (
        {
            **NETWORK,
            "tries": Column("Waves"),
            **_with_interval("Error on clean images", "clean"),
            **_with_interval("Error, mean of waves", "error"),
            "down": Column("Worst, down"),
            "right": Column("Worst, right"),
            **_with_interval("Error, worst wave", "worst"),
            **_with_interval("Error, worst wave of other images", "held_out"),
            **_with_interval("Error, any wave", "any_wave"),
        },
        "Fourier waves as a black-box attack",
        f"{WAVES} The worst wave is that of the most errors, the same for all images. It was "
        "chosen on the images that it is counted on; that of other images was chosen on the other "
        "half of them. An image is wrong under any wave if it is under one of them, each tried "
        f"with one sign. {INTERVALS}",
    ),
}
"""Columns that are shown, title and note of each table."""


def table(name: str, frame: pd.DataFrame) -> Table:
    """Return a table of the heat maps as its readers see it."""
    return Table(frame, *TABLES[name])
