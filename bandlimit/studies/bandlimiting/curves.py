"""What Figures 2 and 3 of "Bandlimiting" draw, taken out of the table of all defence rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bandlimit.attacks.kinds import DOCUMENT_ATTACKS, FIXED
from bandlimit.statistics import wilson

COLUMNS = ["dataset", "model", "attack", "epsilon", "radius", "directions"]
RATES = ["adversarial", "defense_rate", "low", "high"]


def by_radius(rates: pd.DataFrame, experiments: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the defence rates over the radius, with the clean accuracy beside them.

    Each experiment is shown at its own epsilon.

    The attacks are those whose radius is swept, the four of the document. Rows of attack 'clean'
    hold the defended accuracy on all clean images as defense_rate, with its Wilson interval, and
    the number of images as adversarial.

    Args:
        rates: as `rates.defense_rates` gives them, with dataset, model, attack and epsilon.
        experiments: dataset, model, directions and epsilon (l_inf in [0, 1] pixels) of each.

    Columns: dataset, model, attack, epsilon, radius, directions, adversarial, defense_rate, low,
    high.
    """
    parts = []
    for experiment in experiments:
        own = rates[
            _is_of(rates, experiment)
            & rates["attack"].isin(DOCUMENT_ATTACKS)
            & (rates["directions"] == experiment["directions"])
            & ((rates["epsilon"] - experiment["epsilon"]).abs() < 1e-9)
        ]
        # Clean images know no attack: each attack's rows tell the same of them.
        clean = own.drop_duplicates("radius").copy()
        clean["attack"] = "clean"
        clean["defense_rate"] = clean["clean_defended"]
        clean["adversarial"] = clean["images"]
        bounds = [
            wilson(rate * count, count)
            for rate, count in zip(clean["defense_rate"], clean["images"], strict=True)
        ]
        clean["low"], clean["high"] = [low for low, _ in bounds], [high for _, high in bounds]
        parts += [own, clean]
    return pd.concat(parts, ignore_index=True)[COLUMNS + RATES]


def by_epsilon(
    rates: pd.DataFrame, experiments: Sequence[Mapping[str, Any]], epsilons: Sequence[float]
) -> pd.DataFrame:
    """Return the defence rates over epsilon at each experiment's main setting.

    Minimal attacks ran once, and epsilon admits what they found; an attack at fixed epsilon has the
    epsilons it ran at, which are drawn whether asked for or not.

    Args:
        rates: as `rates.defense_rates` gives them, with dataset, model, attack and epsilon.
        experiments: dataset, model, radius and directions of each.
        epsilons: l_inf in [0, 1] pixels.

    Columns: as of `by_radius`.
    """
    asked = rates["epsilon"].map(lambda value: any(abs(value - e) < 1e-9 for e in epsilons))
    parts = [
        rates[
            _is_of(rates, experiment)
            & (rates["radius"] == experiment["radius"])
            & (rates["directions"] == experiment["directions"])
            & (asked | rates["attack"].isin(FIXED))
        ]
        for experiment in experiments
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS + RATES]


def _is_of(rates: pd.DataFrame, experiment: Mapping[str, Any]) -> pd.Series:
    return (rates["dataset"] == experiment["dataset"]) & (rates["model"] == experiment["model"])
