"""Where the works disagree, and what our runs show of it.

The question is one of response frequency or of image frequency, and never of both: no answer to one
follows from the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from bandlimit.files.tables import Column, Table

Tables = Mapping[str, pd.DataFrame]

COLUMNS = (
    *("question", "frequency", "first", "second", "measure", "where"),
    *("value", "low", "high", "between", "least", "shows"),
)

FIRST, SECOND, NEITHER = "the first", "the second", "neither, by this interval"
OPEN = "left open, without an interval"

MARGIN = 0.1
"""Amplitude that a curve of many turns must add, as the claim C32 asks."""

UNIFORM = (0.67, 1.5)
"""Energy at low frequencies, over a flat spectrum's, between which a spectrum is flat."""


def disagreements(tables: Tables, *, width: float = 0.5) -> pd.DataFrame:
    """Return where works disagree, a row for each measurement that tells.

    Args:
        tables: by name, those that the run has: sinusoids, counterexample, manifold_levels, lifts,
            low_pass, corruption_rates.
        width: h of the features of the counter-example, in radians.

    Returns:
        Columns: question; frequency, response or image; first and second, what each side says;
        measure; where, on which network or case; value with its interval low and high (null where
        it is exact, or none is known); between, the number above which the first is right and below
        which the second is; least, the number that the second needs at least, or null; shows, who.
    """
    asked: tuple[tuple[tuple[str, ...], Callable[..., list[dict[str, Any]]]], ...] = (
        (("sinusoids",), _order),
        (("counterexample",), lambda table: _counterexample(table, width)),
        (("manifold_levels",), _manifolds),
        (("lifts",), _lifts),
        (("low_pass",), _gain),
        (("corruption_rates",), _loss),
    )
    rows = [
        {"least": None, **row, "shows": row.get("shows") or _who(row)}
        for names, ask in asked
        if all(name in tables for name in names)
        for row in ask(*(tables[name] for name in names))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _who(row: Mapping[str, Any]) -> str:
    low = row["value"] if row["low"] is None else row["low"]
    high = row["value"] if row["high"] is None else row["high"]
    if low > row["between"]:
        return FIRST
    least = row.get("least")
    if least is not None and high < least:
        return str(row["below"])
    enough = least is None or low > least
    return SECOND if high < row["between"] and enough else NEITHER


UNIVERSAL: dict[str, Any] = {
    "question": "Is the lower response frequency always learnt first?",
    "frequency": "response",
    "first": "Xu et al., Zhang et al.: yes, by networks in general",
}
"""What three measurements ask, each against another work."""


def _order(sinusoids: pd.DataFrame) -> list[dict[str, Any]]:
    against = "it may depend on the amplitudes"
    rows = sinusoids.drop_duplicates("case")
    return [
        UNIVERSAL
        | {
            "second": against,
            "measure": "rank correlation of frequency and time to learn it",
            "where": f"sinusoids, {row.case} amplitudes",
            "value": row.spearman,
            "between": 0.0,
            **_interval(row.spearman_low, row.spearman_high),
        }
        for row in rows.itertuples()
    ]


def _counterexample(eigenvalues: pd.DataFrame, width: float) -> list[dict[str, Any]]:
    own = eigenvalues[(eigenvalues["width"] - width).abs() < 1e-9].set_index("frequency")
    rates = own["by_formula"]
    return [
        UNIVERSAL
        | {
            "second": "E, Ma and Wu: no, below the frequency 2 / h",
            "measure": f"rate of k = 1 over that of k = {k}",
            "where": f"their kernel, h = {width:g}",
            "value": float(rates[1] / rates[k]),
            "low": None,
            "high": None,
            "between": 1.0,
        }
        for k in (3, 8)
        if 1 in rates and k in rates
    ]


def _manifolds(levels: pd.DataFrame) -> list[dict[str, Any]]:
    rows = levels.sort_values("turns")
    if len(rows) < 2:
        return []
    none, many = rows.iloc[0], rows.iloc[-1]
    return [
        {
            "question": "Are high response frequencies hard to learn as such?",
            "frequency": "response",
            "first": "Rahaman et al.: less so where the data lie on a curve of many turns",
            "second": "Xu et al.: yes, whatever the curve",
            "measure": (
                f"amplitude of the highest frequencies at L = {many['turns']:g} less that of the "
                f"same networks at L = {none['turns']:g}"
            ),
            "where": "sinusoids on curves",
            "value": float(many["gain"]),
            "between": MARGIN,
            **_interval(many["gain_low"], many["gain_high"]),
        }
    ]


def _interval(low: float, high: float) -> dict[str, Any]:
    """Return the ends of an interval; of unknown ones, that the question is left open."""
    if pd.isna(low) or pd.isna(high):
        return {"low": None, "high": None, "shows": OPEN}
    return {"low": float(low), "high": float(high)}


def _lifts(lifts: pd.DataFrame) -> list[dict[str, Any]]:
    rows = lifts[
        lifts["main"] & (lifts["checkpoint"] == "end") & (lifts["perturbation"] == "pgd_l2")
    ]
    return [
        {
            "question": "Do perturbations of natural networks gather at low image frequencies?",
            "frequency": "image",
            "first": "A Frequency Domain Analysis: yes",
            "second": "Yin et al.: no, they are uniform",
            "measure": "energy of PGD perturbations at low frequencies, over a flat spectrum's",
            "where": row.model,
            "value": row.lift,
            "between": UNIFORM[1],
            "least": UNIFORM[0],
            "below": "neither: at high ones",
            **_interval(row.lift_low, row.lift_high),
        }
        for row in rows.itertuples()
        if row.training == "natural"
    ]


FILTER: dict[str, Any] = {
    "question": "Is a low-pass filter of images worth it?",
    "frequency": "image",
    "first": "A Frequency Domain Analysis: yes, it takes perturbations away",
    "second": "Yin et al.: no, it gains on some inputs and loses on others",
}
"""What measurements of attacks and of corruptions ask together."""


def _gain(low_pass: pd.DataFrame) -> list[dict[str, Any]]:
    found = []
    for row in low_pass[low_pass["best"]].to_dict("records"):
        for attack in ("unaware", "aware"):
            knows = "knows" if attack == "aware" else "does not know"
            found.append(
                FILTER
                | {
                    "measure": (
                        f"accuracy it adds under PGD that {knows} the filter, at the cut-off that "
                        "is best on the same images, and so rather too high"
                    ),
                    "where": f"{row['model']}, cut-off {row['cutoff']:g}",
                    "value": row[attack] - row["unfiltered_attacked"],
                    "between": 0.0,
                    # An interval would not know of the choice.
                    **_interval(math.nan, math.nan),
                }
            )
    return found


def _loss(corruption_rates: pd.DataFrame) -> list[dict[str, Any]]:
    rates = corruption_rates
    rows = rates[(rates["method"] == "low-pass") & rates["corruption"].isin(["fog", "contrast"])]
    # The narrowest filter loses, or gains, most.
    rows = rows[rows["size"] == rows["size"].min()]
    return [
        FILTER
        | {
            "measure": f"accuracy it adds on images under {row.corruption}",
            "where": row.network,
            "value": row.change,
            "between": 0.0,
            **_interval(row.change_low, row.change_high),
        }
        for row in rows.itertuples()
    ]


def table(frame: pd.DataFrame) -> Table:
    """Return `disagreements` as its readers see it."""
    columns = {
        "question": Column("Question"),
        "frequency": Column("Frequency"),
        "first": Column("One side"),
        "second": Column("The other"),
        "measure": Column("Measured"),
        "where": Column("On"),
        "value": Column("Value", 3, interval=("low", "high")),
        "between": Column("Between them", 2),
        "least": Column("The other from", 2),
        "shows": Column("Right here"),
    }
    return Table(
        frame,
        columns,
        "Where the works disagree, and what these runs show",
        "Of each measurement its 95% interval (none where it is exact, or left open) and the "
        "number between both sides: above it the first is right on this network, below it the "
        "second, which may need another number at least (the other from). Response frequency is "
        "that of the function a network computes, image frequency that of the pixels: no answer to "
        "a question of one is an answer to a question of the other.",
    )
