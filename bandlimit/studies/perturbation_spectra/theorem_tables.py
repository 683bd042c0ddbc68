"""Tables of the theorems: each statement of the document beside what a simulation measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from bandlimit.files.tables import Column, Table
from bandlimit.studies.perturbation_spectra import theorems


def theorem_1(seed: int) -> pd.DataFrame:
    """Return what eq. (9) misses, a row per network and learning rate.

    Columns as in `theorems.theorem_1_records`; and log10_change and log10_residual.
    """
    frame = _frame(theorems.theorem_1_records(seed))
    return frame.assign(
        log10_change=np.log10(frame["change"]), log10_residual=np.log10(frame["residual"])
    )


def theorem_2(seed: int) -> pd.DataFrame:
    """Return the order of frequencies around its change, a row per kind of pair and step.

    Columns as in `theorems.theorem_2_records`.
    """
    return _frame(theorems.theorem_2_records(seed))


def theorem_3(seed: int) -> pd.DataFrame:
    """Return how often a perturbation stays below its input, a row per sign and condition.

    Columns as in `theorems.theorem_3_records`.
    """
    return _frame(theorems.theorem_3_records(seed))


def theorem_4(seed: int) -> pd.DataFrame:
    """Return the LFC ratio of PGD perturbations, a row per state, activation and step.

    Columns as in `theorems.theorem_4_records`.
    """
    return _frame(theorems.theorem_4_records(seed))


def training(seed: int) -> pd.DataFrame:
    """Return start, peak and end of the LFC ratio along training, a row per case and replicate.

    Columns as in `theorems.training_records`.
    """
    return _frame(theorems.training_records(seed))


def training_curves(seed: int) -> pd.DataFrame:
    """Return the LFC ratio along training, a row per case, replicate and step.

    Columns as in `theorems.training_curve_records`.
    """
    return _frame(theorems.training_curve_records(seed))


WHOLE = ("trajectories", "t0_latest", "t1_latest", "sign_changes", "t1")
"""Columns of whole numbers that some rows lack."""


def _frame(records: list[theorems.Record]) -> pd.DataFrame:
    frame = pd.DataFrame(records)
    # A missing value would turn whole numbers into floats.
    return frame.astype({name: "Int64" for name in WHOLE if name in frame})


TABLES: Mapping[str, tuple[Callable[[int], pd.DataFrame], Mapping[str, Column], str, str]] = {
    "theorem_1": (
        theorem_1,
        {
            "network": Column("Network"),
            "eta": Column("Learning rate"),
            "log10_change": Column("log10 of the change by eq. 9", 2),
            "log10_residual": Column("log10 of what it misses", 2),
            "switched": Column("A unit switched", 3),
            "slope": Column("Order of the residual", 3),
            "slope_error": Column("Standard error", 3),
            "increment_ratio": Column("Increment / eq. 14", 6),
            "share_up": Column("Steps up after t1", 3),
            "sign_changes": Column("Sign changes, most"),
            "turns": Column("Would fall again", 3),
        },
        "Theorem 1: change of the LFC ratio in one step of training",
        "Medians over random networks. Eq. 9 is of first order for ReLU whose units "
        "don't switch: what it misses falls with the square of the learning rate. For Softplus, "
        "eq. 8 gives all units one rate, which is wrong in first order. Eq. 14 has lost a factor "
        "of 2. Once it rises, the ratio of a frozen network rises to the end of training; in the "
        "share of networks in the last column it would pass that of the input and fall again, if "
        "training could go on.",
    ),
    "theorem_2": (
        theorem_2,
        {
            "kind": Column("Order"),
            "relative_step": Column("S / |S*|", 6),
            "pairs": Column("Pairs"),
            "ratio": Column("R_k / R_k'", 3, interval=("ratio_low", "ratio_high")),
            "ordered": Column("R_k > R_k'", 3),
            "agreements": Column("As predicted"),
            "ended": Column("In order after training", 3),
        },
        "Theorem 2: order of relative magnitudes at two frequencies, k > k'",
        "Pairs in random networks whose relative magnitude R = |G| / |X| is greater at the higher "
        "frequency at first, medians and quartiles. The order of 'crossing' pairs should change at "
        "S* and nowhere else, that of 'lasting' pairs never.",
    ),
    "theorem_3": (
        theorem_3,
        {
            "sign": Column("Sign of dl/df"),
            "condition": Column("Condition 12"),
            "guaranteed": Column("Guaranteed"),
            "draws": Column("Networks"),
            "violations": Column("Reach the input's ratio at some S"),
            "crossing": Column("S there / S at the end of training", 1),
            "below": Column("Below it in training", 3, interval=("below_low", "below_high")),
            "probability": Column(
                "Condition 12 holds", 3, interval=("probability_low", "probability_high")
            ),
        },
        "Theorem 3: is the LFC ratio of the perturbation below that of the input?",
        "Random networks, of which condition 12 holds in half. It guarantees the conclusion for "
        "dl/df > 0; for dl/df < 0 its reverse does. Without a guarantee the ratio passes that of "
        "the input, but at an S that training on one sample with labels of -1 and 1 does not "
        "reach. In brackets 95% Wilson intervals.",
    ),
    "theorem_4": (
        theorem_4,
        {
            "state": Column("State"),
            "activation": Column("Activation"),
            "step": Column("Step"),
            "gap": Column("|tau(d) - tau(grad f)|", 4, interval=("gap_low", "gap_high")),
            "perturbation_ratio": Column("tau(d)", 3),
            "gradient_ratio": Column("tau(grad f)", 3),
            "shrunk": Column("Gap shrunk"),
            "draws": Column("Networks"),
            "lemma_violations": Column("Lemma 1 violated"),
            "lemma_steps": Column("PGD steps"),
        },
        "Theorem 4: LFC ratio of L2-PGD perturbations, step by step",
        "Medians and quartiles over random networks. The perturbation nears the ratio of the "
        "gradient at the input. What remains with ReLU is the change of the gradient within the "
        "ball, which the first-order theorem leaves out.",
    ),
    "training": (
        training,
        {
            "case": Column("Case"),
            "samples": Column("Samples"),
            "seed": Column("Replicate"),
            "start": Column("Start", 3),
            "peak": Column("Peak", 3),
            "peak_step": Column("Peak at step"),
            "end": Column("End", 3),
            "fall_mean": Column("Mean fall from the peak", 3, interval=("fall_low", "fall_high")),
            "share_up": Column("Steps up", 3),
            "share_up_after_t1": Column("Steps up after t1", 3),
            "loss": Column("Loss at the end", 4),
        },
        "Theorem 1 and data sets: LFC ratio of the input gradient along training",
        "Networks trained on one sample or on many, mean over samples. In brackets 95% intervals "
        "over replicates by Student's t. On many samples, late steps are tiny and go up and down, "
        "so that the share of steps up says little.",
    ),
    "training_curves": (
        training_curves,
        {
            "case": Column("Case"),
            "seed": Column("Replicate"),
            "step": Column("Step"),
            "tau": Column("LFC ratio", 4),
        },
        "LFC ratio of the input gradient along training, step by step",
        "Mean over samples, at some 200 steps of each training.",
    ),
}
"""Of each table what computes it, its columns, its title and its note."""


def table(name: str, seed: int) -> Table:
    """Return a table of the theorems.

    Args:
        name: one of `TABLES`.
        seed: keys all draws of the simulations.
    """
    make, columns, title, note = TABLES[name]
    return Table(make(seed), columns, title, note)
