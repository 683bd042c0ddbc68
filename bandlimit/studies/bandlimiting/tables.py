"""Tables 1 and 2: rates of the run, and behind each the document's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bandlimit.claims import reported
from bandlimit.files.tables import Column, Table

Experiments = Sequence[Mapping[str, Any]]

NAMES = {"dataset": Column("Dataset"), "model": Column("Model"), "attack": Column("Attack")}

EPSILON = {"epsilon": Column("ε · 255", 1, 255)}

RATES = {
    "images": Column("N"),
    "reported_images": Column("Reported N", 0),
    "adversarial": Column("#Adv"),
    "reported_adversarial": Column("Reported #Adv", 0),
    "defense_rate": Column("Defence rate", 4, interval=("low", "high")),
    "reported_defense_rate": Column("Reported rate", 4),
    "radius": Column("r", 2),
    "reported_radius": Column("Reported r", 2),
}


def accuracy(name: str, title: str) -> dict[str, Column]:
    """Return the columns of an accuracy, by its name in `rates.defense_rates`."""
    return {
        name: Column(title, 4, interval=(f"{name}_low", f"{name}_high")),
        f"reported_{name}": Column(f"Reported {title.lower()}", 4),
    }


ACCURACIES = {
    **accuracy("attacked_undefended", "Attacked"),
    **accuracy("clean_defended", "Clean, defended"),
    **accuracy("attacked_defended", "Attacked, defended"),
}

TABLE_1 = {
    "reported_dataset": Column("Reported for"),
    **RATES,
    **accuracy("clean_undefended", "Clean"),
    **ACCURACIES,
    "deviation": Column("sd over draws", 4),
    "ceiling": Column("Ceiling", 4, interval=("ceiling_low", "ceiling_high")),
}

TABLE_2 = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "reported_dataset": Column("Reported for"),
    "directions": Column("K"),
    "forwards": Column("Forward passes"),
    **RATES,
    **ACCURACIES,
}

ATTACK = "pgd_minimal"
"""Attack of the document's Table 2."""

DOCUMENT_DATASET = "ImageNet"
"""Data set of the document's Table 2."""


def bound(experiments: Experiments) -> tuple[str, dict[str, Column]]:
    """Return how a title says epsilon, and a column for it where experiments differ in it."""
    epsilons = {e["epsilon"] for e in experiments}
    if len(epsilons) == 1:
        return f"at epsilon = {epsilons.pop() * 255:.3g}/255", {}
    return "at the epsilon of each experiment", EPSILON


def _rows_of(rates: pd.DataFrame, experiment: Mapping[str, Any]) -> pd.Series:
    """Return which rows are of an experiment, at its radius and epsilon."""
    return (
        (rates["dataset"] == experiment["dataset"])
        & (rates["model"] == experiment["model"])
        & (rates["radius"] == experiment["radius"])
        & ((rates["epsilon"] - experiment["epsilon"]).abs() < 1e-9)
    )


def table_1(rates: pd.DataFrame, claims: str | os.PathLike[str], experiments: Experiments) -> Table:
    """Return Table 1: the model with and without the defence, on the clean and the attacked set.

    Args:
        rates: the table of all rates.
        claims: the claims file that holds what the document reports.
        experiments: dataset, model, radius, directions, epsilon and document of each.
    """
    document = reported.reported(claims, "table_1").rename(
        columns=lambda name: name if name == "attack" else f"reported_{name}"
    )
    parts = []
    for e in experiments:
        own = rates[_rows_of(rates, e) & (rates["directions"] == e["directions"])]
        beside = document[document["reported_dataset"] == e["document"]]
        parts.append(own.merge(beside, on="attack", how="left"))
    where, column = bound(experiments)
    return Table(
        pd.concat(parts, ignore_index=True),
        {**NAMES, **column, **TABLE_1},
        title=f"Table 1: post-averaging {where}",
        note="Clean and attacked are accuracies on the clean and the attacked set of N images; "
        "#Adv of them are adversarial within epsilon. The defence rate is the share of #Adv that "
        "the defended model classifies correctly; the ceiling is the same for the clean images of "
        "#Adv. Rates of the defence are means over draws of directions. Wilson 95% "
        "intervals are in "
        "brackets, and count images, not draws. Reported numbers are the document's, for the data "
        "set named and its own model.",
    )


def table_2(rates: pd.DataFrame, claims: str | os.PathLike[str], experiments: Experiments) -> Table:
    """Return Table 2: the defence against minimal PGD by number of directions.

    Arguments are those of `table_1`.
    """
    document = reported.reported(claims, "table_2").rename(
        columns=lambda name: name if name == "directions" else f"reported_{name}"
    )
    # The document varies K alone: images and radius are those of its Table 1.
    of_main = reported.reported(claims, "table_1")
    is_main = (of_main["dataset"] == DOCUMENT_DATASET) & (of_main["attack"] == ATTACK)
    for name in ("dataset", "radius", "images"):
        document[f"reported_{name}"] = of_main.loc[is_main, name].item()
    parts = [
        rates[_rows_of(rates, e) & (rates["attack"] == ATTACK)].merge(
            document, on="directions", how="left"
        )
        for e in experiments
    ]
    frame = pd.concat(parts, ignore_index=True)
    # Two signs and three steps along each direction, and the image itself (section 3.2).
    frame["forwards"] = 6 * frame["directions"] + 1
    return Table(
        frame,
        {**TABLE_2, **bound(experiments)[1]},
        title="Table 2: post-averaging against minimal PGD by number of directions K",
        note="Numbers of directions are nested: K directions are the first K of more. Wilson 95% "
        "intervals are in brackets; they count images, not draws. Reported numbers are the "
        "document's, for the data set named and ResNet-152. Time is in table_2_time, since it "
        "differs between runs.",
    )
