"""The kinds of attack and the names of their parameters, for code that only checks a configuration.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MINIMAL = (
    "fgsm_minimal",
    "pgd_minimal",
    "deepfool_l2",
    "carlini_wagner_l2",
    "deepfool_linf",
)
"""Attacks that minimise the perturbation; their results are filtered by epsilon afterwards."""

DOCUMENT_ATTACKS = MINIMAL[:4]
"""Those of the document's Table 1."""

FIXED = ("fgsm", "pgd")
"""Attacks that spend the whole epsilon."""

ATTACKS = MINIMAL + FIXED
"""All attacks on a model."""

MAX_EPSILON = 0.130
"""Largest step of minimal FGSM where the configuration names none."""

ATTACK_PARAMETERS: dict[str, frozenset[str]] = {
    "eot_pgd": frozenset(
        {"steps", "samples", "loss", "restarts", "rel_stepsize", "gradient", "band"}
    ),
    "pgd": frozenset({"steps", "rel_stepsize"}),
    "fgsm": frozenset(),
    "noise": frozenset({"corner", "draws"}),
    "square": frozenset({"queries", "p_init"}),
    "autoattack": frozenset(
        {"version", "steps", "queries", "targets", "restarts", "eot", "samples"}
    ),
    "carlini_wagner_l2": frozenset(
        {"confidences", "binary_search_steps", "steps", "stepsize", "initial_const"}
    ),
}
"""What a configured attack on a defence may state besides kind, defences and epsilons, by kind."""

BUDGETS: dict[str, dict[str, int]] = {
    "eot_pgd": {"steps": 20},
    "pgd": {"steps": 40},
    "square": {"queries": 5000},
    "autoattack": {"steps": 100, "queries": 5000},
}
"""By kind, the parameters that an attack spends more of when its budget is larger, with their
defaults."""

BUDGET = ("steps", "samples", "eot", "queries", "targets")
"""Parameters of an attack on a defence of which more is stronger, in a single restart."""


def spends_more(more: Mapping[str, Any], less: Mapping[str, Any]) -> bool:
    """Return whether two attacks differ in their budgets alone, none of the first's being smaller.

    Args:
        more: kind and parameters of the one; restarts don't count.
        less: of the other.
    """
    one, other = (
        {**BUDGETS.get(entry.get("kind", ""), {}), **entry, "restarts": None}
        for entry in (more, less)
    )
    if one.keys() != other.keys():
        return False
    differing = [key for key in one if one[key] != other[key]]
    return bool(differing) and all(
        key in BUDGET and None not in (one[key], other[key]) and one[key] > other[key]
        for key in differing
    )


LEAST_CLASSES = {"standard": 4, "rand": 3}
"""By version of AutoAttack, the least number of classes for which its losses exist."""

MINIMAL_KINDS = ("carlini_wagner_l2",)
"""Kinds of attack on a defence that take no epsilon."""
