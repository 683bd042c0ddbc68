"""Columns, titles and notes of the tables of the study."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bandlimit.files.tables import Column, Table


def _with_interval(label: str, name: str, digits: int = 3) -> dict[str, Column]:
    """Return the column of a value with its interval."""
    return {name: Column(label, digits, interval=(f"{name}_low", f"{name}_high"))}


DATASET = {"dataset": Column("Dataset")}
NETWORK = {**DATASET, "network": Column("Network")}
SEEDS = {"seeds": Column("Seeds"), "images": Column("N")}
RADIUS = {"radius": Column("Radius", 0)}
INTERVALS = "95% intervals are over networks and images."
SCALED = (
    "Components are divided by their own maximum, as in the document's code, unless configured "
    "otherwise."
)
UNSCALED = "Components are neither scaled nor clipped."

TABLES: Mapping[str, tuple[Mapping[str, Column], str, str]] = {
    "curves": (
        {
            **NETWORK,
            "epoch": Column("Epoch", 2),
            "images": Column("Images"),
            "part": Column("Part"),
            **RADIUS,
            "seeds": Column("Seeds"),
            "count": Column("N"),
            **_with_interval("Accuracy", "accuracy"),
            "loss": Column("Loss", 3),
        },
        "Accuracy on images and on their components along training",
        "Training and test images as they are, and their low and high frequencies by radius, in "
        f"periods per side. {SCALED} Means over seeds; {INTERVALS} Labels are those that a "
        "network was trained by.",
    ),
    "table_1": (
        {
            **NETWORK,
            "part": Column("Trained on"),
            **RADIUS,
            **SEEDS,
            **_with_interval("Training accuracy, same part", "train"),
            **_with_interval("Test accuracy, whole images", "test"),
            **_with_interval("Test accuracy, same part", "test_part"),
            "reported_train": Column("Reported, training", 3),
            "reported_test": Column("Reported, test", 3),
        },
        "Trained on low or on high frequencies, tested on whole images",
        f"Radius in periods per side. {SCALED} Means over seeds; {INTERVALS}",
    ),
    "labels": (
        {
            **NETWORK,
            "labels": Column("Labels"),
            **SEEDS,
            **RADIUS,
            "chance": Column("Chance", 2),
            **_with_interval("Training accuracy, first epoch", "first_train"),
            **_with_interval("Low frequencies, first epoch", "first_low"),
            **_with_interval("Training accuracy, end", "train"),
            **_with_interval("Low frequencies, end", "last_low"),
            "epochs_until": Column("Epochs until trained", 1),
            "reached": Column("Seeds that were", 2),
        },
        "True and shuffled labels",
        "Accuracy on training images and on their low frequencies up to the radius, by the labels "
        "that the network was trained by. A network that was never trained to the accuracy asked "
        f"for counts with its last epoch. {SCALED} {INTERVALS}",
    ),
    "batch_sizes": (
        {
            **NETWORK,
            "scheme": Column("At"),
            "batch_size": Column("Batch size"),
            "epochs": Column("Epochs"),
            "updates": Column("Updates"),
            **SEEDS,
            **_with_interval("Training accuracy", "train"),
            **_with_interval("Test accuracy", "test"),
            "gap": Column("Gap", 3),
            **RADIUS,
            **_with_interval("Low frequencies", "lfc"),
            **_with_interval("High frequencies", "hfc"),
        },
        "Batch sizes, at equal epochs and at equal updates",
        "A larger batch makes fewer updates in equal epochs; only the second scheme tells the size "
        f"from that. {SCALED} {INTERVALS}",
    ),
    "batchnorm": (
        {
            **NETWORK,
            "batchnorm": Column("BatchNorm"),
            **RADIUS,
            **SEEDS,
            **_with_interval("Training accuracy, mean of training", "along"),
            **_with_interval("Training accuracy, end", "train"),
            **_with_interval("Test accuracy, whole images", "test"),
            **_with_interval("Test accuracy, same part", "test_part"),
        },
        "BatchNorm in networks that are trained on low frequencies",
        "Trained on frequencies up to the radius; without a radius, on whole images. The mean of "
        "training is over the measurements after the start, and the greater the faster a network "
        "learns. "
        f"{SCALED} {INTERVALS}",
    ),
    "comparisons": (
        {
            **NETWORK,
            "comparison": Column("Comparison"),
            "with_network": Column("Less"),
            "measure": Column("Measure"),
            **RADIUS,
            "seeds": Column("Seeds"),
            "cases": Column("N"),
            "first": Column("First", 3),
            "second": Column("Second", 3),
            **_with_interval("Difference", "difference"),
        },
        "Networks compared on the same images, seed by seed",
        "Test images are the same; training images need not be, where networks were trained on "
        f"different datasets. {SCALED} {INTERVALS} Of epochs, over networks.",
    ),
    "counts": (
        {
            **DATASET,
            "model": Column("Model"),
            **RADIUS,
            **SEEDS,
            "least": Column("Images, least of seeds"),
            "greatest": Column("Images, greatest"),
            **_with_interval("Share", "share"),
            **_with_interval("Right", "right"),
            **_with_interval("Right on low frequencies", "right_lfc"),
            **_with_interval("Right on high frequencies", "right_hfc"),
        },
        "Images that are right, their high frequencies too, and their low ones not",
        f"Radius in periods per side. {UNSCALED} {INTERVALS}",
    ),
    "corollary_1": (
        {
            **DATASET,
            "model": Column("Model"),
            "convention": Column("Low frequencies"),
            **RADIUS,
            **SEEDS,
            "adversarial": Column("Adversarial, all seeds"),
            **_with_interval("Share", "share"),
            "l2_5": Column("L2, 5%", 2),
            "l2_50": Column("L2, median", 2),
            "l2_95": Column("L2, 95%", 2),
            "linf_5": Column("L∞, 5%", 3),
            "linf_50": Column("L∞, median", 3),
            "linf_95": Column("L∞, 95%", 3),
        },
        "Low-frequency images as adversarial examples",
        "An image that is right, whose low frequencies are not, has an adversarial example at "
        "their distance, in [0, 1] pixels: quantiles over such images. 'text' leaves values as "
        f"they are, 'clipped' puts them into [0, 1]; neither scales them. {INTERVALS}",
    ),
    "svd": (
        {
            **DATASET,
            "model": Column("Model"),
            **RADIUS,
            **SEEDS,
            "energy_fourier": Column("Energy, frequencies", 4),
            "energy_svd": Column("Energy, singular values", 4),
            **_with_interval("Share, frequencies", "fourier"),
            **_with_interval("Share, singular values", "svd"),
            **_with_interval("Difference", "difference"),
            "ratio": Column("Singular values over frequencies", 2),
        },
        "Frequencies and singular values at equal energy",
        "Share of images that are right, their weak part too, and their strong one not. As many "
        "singular values lead, channel by channel, as come nearest to the energy of the low "
        "frequencies, more or less; the energies of both are shares of the image's. "
        f"{UNSCALED} {INTERVALS}",
    ),
    "conventions": (
        {
            **DATASET,
            "model": Column("Model"),
            **RADIUS,
            "convention": Column("Convention"),
            **SEEDS,
            **_with_interval("Right on low frequencies", "right_lfc"),
            **_with_interval("Right on high frequencies", "right_hfc"),
            **_with_interval("Right but for low frequencies", "hidden"),
        },
        "How a component is taken: text, code, and clipped",
        "'text': frequencies up to the radius, values as they are. 'strict': the border is left "
        "out, as in the code. 'maximum': each component is divided by its greatest value, as in "
        f"the code. 'clipped': values are put into [0, 1]. {INTERVALS}",
    ),
    "batch_statistics": (
        {
            **NETWORK,
            "part": Column("Part"),
            **RADIUS,
            **SEEDS,
            "batch_size": Column("Images in a batch", 0),
            **_with_interval("Accuracy, running statistics", "running"),
            **_with_interval("Accuracy, batch statistics", "batch"),
            **_with_interval("Difference", "difference"),
        },
        "BatchNorm by running statistics and by those of the test batch",
        "The document's code normalises by the statistics of the test batch, and all else here by "
        "running ones. Images come in the order of the dataset, in batches as equal as can be; "
        f"parts have batches of their own. {UNSCALED} {INTERVALS}",
    ),
    "table_2": (
        {
            **NETWORK,
            "training": Column("Training"),
            "rho": Column("ρ", 2),
            "normalized": Column("Divided by the gain"),
            "attack": Column("Attack"),
            "loss": Column("On"),
            "epsilon": Column("ε", 2),
            **SEEDS,
            **_with_interval("Accuracy", "accuracy"),
            "reported": Column("Reported", 3),
            "zero": Column("Zero gradients", 3),
            **_with_interval("Gain over no smoothing", "gain"),
            **_with_interval("Gain over raw kernels", "less_raw"),
            "scale_share": Column("Share of the scale", 2),
        },
        "Smoothed kernels of the first layer, clean and attacked",
        "Raw smoothing multiplies the response to frequency 0 by 1 + 8ρ; kernels divided by it are "
        "as smooth. Zero gradients: share of images at which the gradient of the cross-entropy is "
        "0 in float32, so that an attack along it stands still. Share of the scale: how much of "
        f"what raw smoothing does is gone in kernels divided by the gain. {INTERVALS}",
    ),
    "kernels": (
        {
            **NETWORK,
            "training": Column("Training"),
            "seeds": Column("Seeds"),
            "kernels": Column("Kernels"),
            **_with_interval("Roughness", "roughness"),
            **_with_interval("Share beyond frequency 0", "high_band"),
        },
        "Smoothness of the first layer's kernels",
        "Roughness: squared differences of neighbours over squares, less is smoother. Means over "
        "kernels, with 95% intervals over networks.",
    ),
}
"""Columns that are shown, title and note of each table."""


def table(name: str, frame: pd.DataFrame) -> Table:
    """Return a table of the study as its readers see it."""
    return Table(frame, *TABLES[name])
