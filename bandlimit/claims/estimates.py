"""The tables of a run as claims ask them: rows that are selected, and values with intervals."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bandlimit import statistics
from bandlimit.claims.grammar import RANGES
from bandlimit.claims.wording import number
from bandlimit.errors import UserError, suggest
from bandlimit.files import store
from bandlimit.statistics import Interval

NAMES = ["dataset", "model"]


class Tables:
    """The tables of a run, each read once, with the columns of its experiments.

    Args:
        paths: files by the names that claims know them by.
        experiments: as of `evaluate`.
    """

    def __init__(
        self,
        paths: Mapping[str, str | os.PathLike[str]],
        experiments: Sequence[Mapping[str, Any]],
    ) -> None:
        self.paths = paths
        # None becomes NaN, with which queries compute.
        self._experiments = {
            (e["dataset"], e["model"]): {
                key: math.nan if value is None else value
                for key, value in e.items()
                if key not in ("has", "at_chance", *NAMES)
            }
            for e in experiments
        }
        self._read: dict[str, pd.DataFrame] = {}
        self._parts: dict[tuple[str, str, str], pd.DataFrame] = {}

    def of(self, name: str, experiment: Mapping[str, Any] | None) -> pd.DataFrame:
        """Return the rows of a table that an experiment made; all, where it knows none.

        The index holds the numbers of the rows in the file.

        Raises:
            UserError: the file is missing or damaged, or has rows of an experiment of no run.
        """
        if name not in self._read:
            self._read[name] = self._complete(name)
        frame = self._read[name]
        if experiment is None or not set(NAMES) <= set(frame.columns):
            return frame
        dataset, model = (str(experiment[key]) for key in NAMES)
        key = (name, dataset, model)
        if key not in self._parts:
            self._parts[key] = frame[(frame["dataset"] == dataset) & (frame["model"] == model)]
        return self._parts[key]

    def by_experiment(self, name: str) -> bool:
        """Return whether the rows of a table belong to experiments."""
        return set(NAMES) <= set(self.of(name, None).columns)

    def _complete(self, name: str) -> pd.DataFrame:
        frame = store.read(self.paths[name]).to_pandas()
        if "epsilon" in frame:
            # Fractions of 255 as a reader writes them: 'epsilon_255 == 8'.
            frame["epsilon_255"] = (frame["epsilon"] * 255).round(6)
        if not set(NAMES) <= set(frame.columns):
            return frame
        keys = list(zip(frame["dataset"], frame["model"], strict=True))
        for key in keys:
            if key not in self._experiments:
                raise UserError(
                    f"The file {str(self.paths[name])!r} has rows of {'/'.join(key)}, which is no "
                    "experiment of this run; delete the file, and it is made anew."
                )
        added = pd.DataFrame([self._experiments[key] for key in keys], index=frame.index)
        return frame.drop(columns=added.columns, errors="ignore").join(added)


@dataclass(frozen=True)
class Estimate:
    """A measured value: how sure it is depends on the level that is asked for.

    Attributes:
        value: the value.
        row: number of its row.
        cases: cases behind it; null if there are none to count.
        minus: the rate of the same cases that was taken from it, or null.
        differ: share of the cases on which those two rates differ, or null if that is not known.
        error: its standard error, or null; of its cases, where there are any to count.
        ends: its 95% interval where it stands in the table; the value itself if it is exact.
        times: of how many times as many cases it is taken to be.
    """

    value: float
    row: int
    cases: float | None = None
    minus: float | None = None
    differ: float | None = None
    error: float | None = None
    ends: Interval | None = None
    times: float = 1.0

    def interval(self, level: float) -> Interval:
        """Return the interval of the value."""
        if self.ends is not None:
            shrunk = (self.value + (end - self.value) / self.times**0.5 for end in self.ends)
            low, high = shrunk
            return low, high
        if self.error is not None:
            # Student's t: an error of a few networks is itself not known well.
            freedom = None if self.cases is None else self.cases * self.times - 1
            known = freedom is None or freedom <= 0
            reach = statistics.quantile(level, None if known else freedom) * self.error
            reach /= self.times**0.5
            return self.value - reach, self.value + reach
        assert self.cases is not None  # as `estimates_of` makes sure
        total = self.cases * self.times
        # Means over draws may leave [0, 1] by a rounding.
        counts = [
            min(max(rate, 0.0), 1.0) * total
            for rate in (self.value + (self.minus or 0.0), self.minus)
            if rate is not None
        ]
        ends: tuple[float | None, float | None]
        if self.minus is None:
            ends = statistics.wilson(counts[0], total, level)
        elif self.differ is None:
            ends = statistics.difference(counts[0], total, counts[1], total, level)
        else:
            more, less = (
                max((self.differ + sign * self.value) / 2 * total, 0.0) for sign in (1, -1)
            )
            ends = statistics.paired_difference(more, less, total, level)
        assert ends[0] is not None and ends[1] is not None  # estimates have cases
        return ends[0], ends[1]


def select(frame: pd.DataFrame, query: str | None, name: str) -> pd.DataFrame:
    """Return the rows of a table that a query selects; all of them without one."""
    if query is None:
        return frame
    with _plain_errors(frame, query, name):
        return frame.loc[_named(frame, query).eval(query, engine="python")]


def evaluate_expression(frame: pd.DataFrame, expression: str, name: str) -> pd.Series:
    """Return an expression over columns as numbers, row by row."""
    with _plain_errors(frame, expression, name):
        values = _named(frame, expression).eval(expression, engine="python")
        if not isinstance(values, pd.Series):
            raise UserError(f"The expression {expression!r} of {name} names no column.")
        return values.astype(float)


def _named(frame: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return the columns that an expression may name; pandas takes long to prepare each."""
    if "`" in text:
        return frame
    words = set(re.findall(r"\w+", text))
    return frame[[column for column in frame.columns if column in words]]


class _plain_errors:
    """Turn the errors of a query or an expression into a sentence."""

    def __init__(self, frame: pd.DataFrame, text: str, name: str) -> None:
        self.frame, self.text, self.name = frame, text, name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        if error is None or isinstance(error, UserError):
            return
        missing = re.search(r"name '(\w+)' is not defined", str(error))
        if missing:
            raise UserError(
                f"{self.text!r} of {self.name} names {missing[1]!r}, which is no column of its "
                f"table; {suggest(missing[1], self.frame.columns)}."
            ) from error
        if isinstance(error, Exception):
            raise UserError(
                f"{self.text!r} of {self.name} can't be evaluated over the columns of its table: "
                f"{error}."
            ) from error


def column_of(frame: pd.DataFrame, column: str, name: str) -> pd.Series:
    """Return a column of a table.

    Raises:
        UserError: the table has no such column.
    """
    if column not in frame:
        raise UserError(
            f"The table of {name} has no column {column!r}; {suggest(column, frame.columns)}."
        )
    return frame[column]


def estimates_of(test: Mapping[str, Any], frame: pd.DataFrame, name: str) -> list[Estimate]:
    """Return the value of each row that has one."""
    columns = {
        key: evaluate_expression(frame, test[key], name)
        for key in ("value", "minus", "n", "cases", "differ", "error")
        if key in test
    }
    # A column of which no row is known has no type.
    columns |= {
        key: column_of(frame, test[key], name).astype(float)
        for key in ("low", "high")
        if key in test
    }
    estimates = []
    for row in frame.index:
        found = {key: float(column.loc[row]) for key, column in columns.items()}
        if any(math.isnan(found[key]) for key in ("value", "minus", "error") if key in found):
            continue
        # What is only not known leaves a wider interval, or none to count.
        unknown = [key for key in ("differ", "cases") if math.isnan(found.get(key, 0.0))]
        found = {key: value for key, value in found.items() if key not in unknown}
        if "n" in found and not found["n"] > 0:
            continue
        estimate = _estimate(test, found, int(row), name)
        least, greatest = RANGES[test.get("range", "any")]
        if not least - 1e-9 <= estimate.value <= greatest + 1e-9:
            raise UserError(
                f"Row {row} of the table of {name} has the value {number(estimate.value)}, which "
                f"no value of the kind {test['range']!r} can be."
            )
        estimates.append(estimate)
    return estimates


def _estimate(test: Mapping[str, Any], found: Mapping[str, float], row: int, name: str) -> Estimate:
    """Return the estimate of one row from the values of its expressions."""
    value, minus = found["value"], found.get("minus")
    rates = {key: found[key] for key in ("value", "minus", "differ") if key in found}
    if "n" in found and not all(-1e-9 <= rate <= 1 + 1e-9 for rate in rates.values()):
        raise UserError(
            f"Row {row} of the table of {name} has {' and '.join(map(number, rates.values()))}, "
            "but with 'n' its value must be a rate in [0, 1]."
        )
    ends: Interval | None = None
    if "n" not in found and "error" not in found:
        low, high = found.get("low", value), found.get("high", value)
        # An interval that is not known excludes nothing.
        ends = (
            -math.inf if math.isnan(low) else low,
            math.inf if math.isnan(high) else high,
        )
    return Estimate(
        value - (minus or 0.0),
        row,
        cases=found.get("n", found.get("cases")),
        minus=minus,
        differ=found.get("differ"),
        error=found.get("error"),
        ends=ends,
    )
