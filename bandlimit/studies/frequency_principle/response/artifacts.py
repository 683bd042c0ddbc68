"""The catalogue of response frequency: simulations, and networks followed in training.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bandlimit.config.run import Run
from bandlimit.studies.artifact import Artifact

GROUP = "response frequency"

TABLES = "results/tables/frequency_principle"


def simulated(name: str) -> Callable[[Run], bool]:
    """Return whether a run has a simulation."""
    return lambda run: name in run.studies["frequency_principle"].simulations


def settings(name: str) -> Callable[[Run], dict[str, Any]]:
    """Return what identifies a simulation: its settings, and the seed of its draws."""

    def identity(run: Run) -> dict[str, Any]:
        return {**run.studies["frequency_principle"].simulations[name], "seed": run.seed}

    return identity


# Sums of sinusoids, learnt by networks of one input

SINUSOIDS: tuple[Artifact, ...] = ()


# Sinusoids on a curve in the plane

MANIFOLDS: tuple[Artifact, ...] = ()


# Theory

THEORY: tuple[Artifact, ...] = ()


# Images: projections, filters, noise of labels, kernels

IMAGES: tuple[Artifact, ...] = ()


ARTIFACTS = (*SINUSOIDS, *MANIFOLDS, *THEORY, *IMAGES)
