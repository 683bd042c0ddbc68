"""The tables of networks whose responses were recorded, as readers see them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bandlimit.files.tables import Column, Table

NETWORK = {"case": Column("Network")}

COLUMNS: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "projection": (
        {
            **NETWORK,
            "threshold": Column("Error below"),
            "frequency": Column("Frequency", 1),
            "amplitude": Column("|F[y]|", 4),
            "step": Column("First step", 0, interval=("step_low", "step_high")),
            "learnt": Column("Networks that learnt it"),
            "seeds": Column("Networks"),
        },
        "Response frequency along the first principal component: when each is learnt",
        "First step at which the relative error of the outputs' transform is below the threshold: "
        "median over networks, in brackets the least and the greatest. A dash stands for a network "
        "that never came so far. Frequencies are in periods over the range of the images along the "
        "component, each half period at which labels are stronger than labels given out at random; "
        "they are those of the function from images to outputs, not those of the pixels. Labels "
        "and outputs are taken less their means over the images.",
    ),
    "projection_order": (
        {
            **NETWORK,
            "frequencies": Column("Frequencies"),
            "threshold": Column("Error below"),
            "count": Column("Number of them"),
            "learnt": Column("Learnt", 3),
            "correlation": Column(
                "Rank correlation", 2, interval=("correlation_low", "correlation_high")
            ),
            "partial": Column("Amplitude apart", 2, interval=("partial_low", "partial_high")),
            "amplitude_correlation": Column("Of amplitude and first step", 2),
            "seeds": Column("Networks"),
        },
        "Response frequency along the first principal component: order of learning",
        "Spearman's rank correlation of frequency and first step below the threshold; what is "
        "never learnt comes last, and where all first steps are the same it is 0. Either over all "
        "half periods at which labels, less their mean, are stronger than labels given out at "
        "random, or over all peaks of the labels' transform, of each class by itself, most of "
        "which are no stronger. "
        "High frequencies are weak in the labels, and the relative error of what is weak is large: "
        "'amplitude apart' is the partial correlation, of the networks of which there is one: none "
        "where amplitudes only fall, or tell all of the order. Means over networks with 95% "
        "intervals (Student's t).",
    ),
    "projection_curves": (
        {
            **NETWORK,
            "epoch": Column("Epoch", 2),
            "frequency": Column("Frequency", 1),
            "error": Column("Error", 3, interval=("error_low", "error_high")),
        },
        "Response frequency along the first principal component: error along training",
        "|F[h] - F[y]| / |F[y]|, magnitudes over all classes, labels y and outputs h less their "
        "means over the images: mean over networks, in brackets the least and the greatest.",
    ),
    "projection_spectrum": (
        {
            **NETWORK,
            "class": Column("Class"),
            "frequency": Column("Frequency", 2),
            "amplitude": Column("|F[y]|", 4),
            "noise": Column("Of labels at random", 4),
            "marked": Column("Followed"),
        },
        "Response frequency along the first principal component: transform of the labels",
        "Of each class, where peaks are marked, and of all classes together, less the mean label, "
        "where half periods stronger than noise are. Beside it the root mean square for labels "
        "given out at random.",
    ),
    "filtering": (
        {
            **NETWORK,
            "width": Column("delta"),
            "variance_kept": Column("Variance of labels kept", 3),
            "gap": Column("e_high - e_low", 3, interval=("gap_low", "gap_high")),
            "gap_centred": Column(
                "The same, mean label apart",
                3,
                interval=("gap_centred_low", "gap_centred_high"),
            ),
            "steps_below": Column("Steps with e_low < e_high", 3),
            "low_end": Column("e_low at the end", 3),
            "high_end": Column("e_high at the end", 3),
            "seeds": Column("Networks"),
        },
        "Response frequency by a filter over the images",
        "Relative errors of outputs smoothed by a Gaussian over the images, e_low, and of what is "
        "left, e_high. The gap is a mean over the records after the start, then over networks, "
        "with 95% intervals (Student's t). Outputs that are the same for all images have the mean "
        "label right, so that their gap is above 0; with it apart, e_low is relative to how far "
        "smooth labels are from their mean, and the gap of such outputs is near 0.",
    ),
    "filtering_curves": (
        {
            **NETWORK,
            "width": Column("delta"),
            "part": Column("Part"),
            "epoch": Column("Epoch", 2),
            "error": Column("Error", 3, interval=("error_low", "error_high")),
        },
        "Response frequency by a filter over the images: errors along training",
        "e_low and e_high: mean over networks, in brackets the least and the greatest.",
    ),
}
"""Columns, title and note of each table."""


def table(name: str, frame: pd.DataFrame) -> Table:
    """Return a table of `projections.tables` or `filtering.tables` as readers see it."""
    columns, title, note = COLUMNS[name]
    return Table(frame, columns, title, note)
