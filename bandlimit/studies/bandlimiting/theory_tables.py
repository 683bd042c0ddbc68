"""Tables of the theory: each formula of the document beside what a simulation measures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bandlimit.claims import reported
from bandlimit.files.tables import Column, Table
from bandlimit.studies.bandlimiting import theory

MEASURED = {
    "measured_real": Column("Measured, real", 7),
    "measured_imag": Column("Measured, imaginary", 7),
    "standard_error": Column("Standard error", 7),
    "closed_form_real": Column("Correct, real", 7),
    "closed_form_imag": Column("Correct, imaginary", 7),
    "relative_error": Column("Relative error", 5),
    "ratio_real": Column("Measured / document, real", 4),
    "ratio_imag": Column("Measured / document, imaginary", 4),
}

TABLES: Mapping[str, tuple[Callable[[int], Any], Mapping[str, Column], str, str]] = {
    "region_counts": (
        theory.region_count_records,
        {
            "dimension": Column("Dimension n"),
            "hyperplanes": Column("Hyperplanes N"),
            "central": Column("Through the origin"),
            "log10_regions": Column("log10 regions", 3),
            "counted": Column("Counted one by one", 0),
            "reported_log10": Column("Reported log10", 0),
        },
        "Section 2.2: regions into which hyperplanes cut space",
        "The exact largest number of regions, and the number found by listing them where it is "
        "small; the Parquet and CSV files have all its digits. The document prints the formula for "
        "hyperplanes in general position and says 'roughly' for its value; the first layer of its "
        "networks without biases is the case through the origin.",
    ),
    "lemma_2_6": (
        theory.lemma_2_6_records,
        {
            "dimension": Column("n"),
            "frequency": Column("Frequencies"),
            "draw": Column("Draw"),
            **MEASURED,
        },
        "Lemma 2.6: Fourier transform of the unit simplex",
        "Measured is a Monte Carlo mean over the simplex, correct the sum of eq. 3 with the "
        "prefactor (-i / sqrt(2 pi))^n. The chain of the document's appendix (eqs. 20 to 32), put "
        "together as printed, gives minus the transform: a sign is lost between eqs. 28 and 30.",
    ),
    "simplex_decay": (
        theory.simplex_decay_records,
        {
            "dimension": Column("n"),
            "direction": Column("Direction"),
            "t": Column("t", 0),
            "log10_rms": Column("log10 rms", 2),
            "slope": Column("Slope", 3),
            "expected_slope": Column("Expected slope"),
        },
        "Section 2.1: decay of the transform of the simplex along rays",
        "The root mean square of the transform at distance t, and the exponent of t since the row "
        "before. It is -n in a generic direction and -1 along the normal of a facet; the document "
        "says that the transform decays, without a rate.",
    ),
    "theorem_2_7": (
        theory.theorem_2_7_records,
        {
            "dimension": Column("n"),
            "draw": Column("Draw"),
            "volume": Column("Volume", 4),
            **MEASURED,
            "expected_ratio_imag": Column("Expected ratio, imaginary", 4),
        },
        "Theorem 2.7: Fourier transform of one linear piece",
        "Measured is a Monte Carlo mean over a random piece. The document's form is missing the "
        "factor i / |det A|, which is i n! times the volume of the piece: a tiny region adds a "
        "term that is broad in frequency but small in proportion to its volume.",
    ),
    "equation_6": (
        theory.equation_6_records,
        {
            "dimension": Column("n"),
            "t_over_sqrt_n": Column("t / sqrt(n)", 1),
            "measured": Column("Measured", 4),
            "standard_error": Column("Standard error", 4),
            "closed_form": Column("Correct", 4),
            "gaussian": Column("Gaussian", 4),
            "log10_ratio_measured": Column("log10 measured / document", 3),
            "log10_factor": Column("Expected", 3),
        },
        "Equation 6: factor by which the mean over a ball damps a frequency",
        "t is the radius times the length of the frequency. The document's factor is too small by "
        "(2 pi)^(n/2), so that a constant would not keep its value; its decay is right, but holds "
        "for t far above n^2 only. Where it matters the factor is nearly that of Gaussian noise of "
        "deviation r / sqrt(n + 2) per coordinate.",
    ),
    "sampler_response": (
        theory.sampler_response_records,
        {
            "dimension": Column("n"),
            "radius": Column("r", 1),
            "directions": Column("K"),
            "t_over_sqrt_n": Column("t / sqrt(n)", 1),
            "ball": Column("Ball", 4),
            "closed_form": Column("Sampler, expected", 4),
            "measured": Column("Sampler, measured", 4),
            "standard_error": Column("Standard error", 4),
            "closed_form_deviation": Column("sd of a draw, expected", 4),
            "measured_deviation": Column("sd of a draw, measured", 4),
            "floor": Column("Floor 1/(6K+1)", 4),
        },
        "Equations 6 to 8: response of the sampler that is used",
        "The sampler of eq. 8 takes three radii along K directions and the image itself. Its "
        "response does not fall to 0 as that of the ball of eq. 6 does, but to the weight of the "
        "image, and single draws scatter about it. The document derives the ball's response only.",
    ),
}
"""Of each table what computes its records, its columns, its title and its note."""


def table(name: str, claims: str | os.PathLike[str], seed: int) -> Table:
    """Return a table of the theory.

    Args:
        name: one of `TABLES`.
        claims: the claims file that holds what the document reports.
        seed: keys all draws of the simulations.
    """
    make, columns, title, note = TABLES[name]
    return Table(_complete(name, pd.DataFrame(make(seed)), claims), columns, title, note)


def _complete(name: str, frame: pd.DataFrame, claims: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the records of a table with what its readers need besides."""
    if name == "region_counts":
        document = reported.reported(claims, "region_count").rename(
            columns={"dimensions": "dimension", "log10_regions": "reported_log10"}
        )
        # The document counts hyperplanes that don't all pass through the origin.
        return frame.merge(
            document.assign(central=False),
            on=["dimension", "hyperplanes", "central"],
            how="left",
            validate="many_to_one",
        )
    if name == "simplex_decay":
        return frame.assign(log10_rms=np.log10(frame["rms"]))
    return frame
