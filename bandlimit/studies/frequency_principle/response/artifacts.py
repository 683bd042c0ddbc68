"""The catalogue of response frequency: simulations, and networks followed in training.

Imports nothing heavy, since every start of the workflow pays for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bandlimit.config.run import Run
from bandlimit.studies.artifact import Artifact, Figure, Made, Table

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


def _drawn_from(*names: str) -> Callable[[Run], dict[str, Any]]:
    """Return what a figure reads that is drawn from tables of a simulation."""
    return lambda run: {name: f"{TABLES}/{name}.parquet" for name in names}


THEORY: tuple[Artifact, ...] = (
    Table(
        "gradients",
        where="Xu et al., Theorems 1 and 2",
        shows="how often the lower frequency leads, by radius of the weights",
        identity=settings("gradients"),
        when=simulated("gradients"),
        group=GROUP,
    ),
    Figure(
        "figure_gradients",
        where="Xu et al., Theorems 1 and 2, figure",
        shows="gradients of two frequencies where weights are small",
        reads=_drawn_from("gradients"),
        when=simulated("gradients"),
        group=GROUP,
        in_ledger=True,
    ),
    Table(
        "linear_principle",
        makes=(
            Made("linear_principle", "Zhang et al., Figure 2", "networks against the model"),
            Made("linear_principle_points", "Zhang et al., Figure 2, outputs", "point by point"),
            Made("linear_principle_times", "Zhang et al., rates", "when the model learns what"),
        ),
        identity=settings("linear_principle"),
        when=simulated("linear_principle"),
        group=GROUP,
    ),
    Figure(
        "figure_linear_principle",
        where="Zhang et al., Figure 2, figure",
        shows="wide networks learn what the linear frequency principle predicts",
        reads=_drawn_from("linear_principle", "linear_principle_points"),
        when=simulated("linear_principle"),
        group=GROUP,
        in_ledger=True,
    ),
    Table(
        "counterexample",
        makes=(
            Made("counterexample", "E, Ma and Wu, eq. 156", "eigenvalues of the kernel"),
            Made("counterexample_snapshots", "E, Ma and Wu, Figures 5 and 6", "along training"),
            Made("counterexample_times", "E, Ma and Wu, rates", "when each wave is learnt"),
        ),
        # Nothing is drawn, so no seed.
        identity=lambda run: run.studies["frequency_principle"].simulations["counterexample"],
        when=simulated("counterexample"),
        group=GROUP,
    ),
    Figure(
        "figure_counterexample",
        where="E, Ma and Wu, Figures 5 and 6, figure",
        shows="a kernel that learns a middle frequency first",
        reads=_drawn_from("counterexample", "counterexample_snapshots", "counterexample_times"),
        when=simulated("counterexample"),
        group=GROUP,
        in_ledger=True,
    ),
)


# Images: projections, filters, noise of labels, kernels

IMAGES: tuple[Artifact, ...] = ()


ARTIFACTS = (*SINUSOIDS, *MANIFOLDS, *THEORY, *IMAGES)
