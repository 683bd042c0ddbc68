"""How numbers, intervals and rows are written in the ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

SMOKE = (
    "This is a smoke test: it shows that everything runs. Networks are hardly trained, and attacks "
    "take a few steps on a few images; no number here is a result, and no claim is decided."
)
"""What each page of such a run begins with."""


def wanted(claim: Mapping[str, Any]) -> str:
    """Return in words what a claim needs to be asked."""
    parts = [", ".join(claim["needs"])] if claim["needs"] else ["what it is about"]
    if "data" in claim:
        parts.append(f"on {' or '.join(claim['data'])}")
    return " ".join(parts)


def place(holds: bool, least: float, greatest: float) -> str:
    """Return in words where a value lies by the bounds of its test."""
    if least == greatest:
        return "as claimed" if holds else f"not the {number(least)} claimed"
    if math.isinf(greatest):
        return f"{'at least' if holds else 'below'} {number(least)}"
    if math.isinf(least):
        return f"{'at most' if holds else 'above'} {number(greatest)}"
    return f"{'within' if holds else 'outside'} {number(least)} to {number(greatest)}"


def named(test: Mapping[str, Any]) -> str:
    """Return the label of a test, with how it sums up its rows."""
    words = {"min": "least ", "max": "greatest ", "mean": "mean ", "spread": "spread of "}
    return words.get(test["aggregate"], "") + str(test["label"])


def number(value: float) -> str:
    """Return a number as a reader wants it: three digits that count, four from 1 on.

    >>> number(0.93301), number(0.005841), number(1226.0042), number(8.0)
    ('0.933', '0.00584', '1226', '8')
    """
    if math.isinf(value):
        return "unbounded"
    rounded = round(value, 12)
    if rounded == int(rounded):
        return str(int(rounded))
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"


def counted(cases: float | None) -> str:
    """Return how many cases are behind a value, in parentheses."""
    return "" if cases is None else f" (N = {cases:.0f})"


def interval(value: float, low: float, high: float) -> str:
    """Return a number with its interval in brackets."""
    if low == high or math.isinf(low) and math.isinf(high):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def row_numbers(rows: Sequence[tuple[str, int]]) -> str:
    """Return 'table: 1, 2; other: 3'."""
    tables = dict.fromkeys(table for table, _ in rows)
    return "; ".join(
        f"{name}: {', '.join(str(row) for table, row in sorted(rows) if table == name)}"
        for name in tables
    )


def sentence(text: str) -> str:
    """Return a text as a sentence."""
    return f"{text[0].upper()}{text[1:]}."
