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
                if key not in ("has", *NAMES)
            }
            for e in experiments
        }
        self._read: dict[str, pd.DataFrame] = {}

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
        return frame[(frame[NAMES] == [experiment[key] for key in NAMES]).all(axis=1)]

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
        n: cases behind a rate; null if there are none to count.
        minus: the rate of the same n cases that was taken from it, or null.
        low: end of its 95% interval; both ends are the value itself if it is exact.
        high: the other end.
        row: number of its row.
    """

    value: float
    n: float | None
    minus: float | None
    low: float
    high: float
    row: int

    def interval(self, level: float) -> Interval:
        """Return the interval of the value."""
        if self.n is None:
            return self.low, self.high
        # Means over draws may leave [0, 1] by a rounding.
        counts = [
            min(max(rate, 0.0), 1.0) * self.n
            for rate in (self.value + (self.minus or 0.0), self.minus)
            if rate is not None
        ]
        if self.minus is None:
            low, high = statistics.wilson(counts[0], self.n, level)
        else:
            low, high = statistics.difference(counts[0], self.n, counts[1], self.n, level)
        assert low is not None and high is not None  # estimates have cases
        return low, high


def select(frame: pd.DataFrame, query: str | None, name: str) -> pd.DataFrame:
    """Return the rows of a table that a query selects; all of them without one."""
    if query is None:
        return frame
    with _plain_errors(frame, query, name):
        return frame.query(query, engine="python")


def evaluate_expression(frame: pd.DataFrame, expression: str, name: str) -> pd.Series:
    """Return an expression over columns as numbers, row by row."""
    with _plain_errors(frame, expression, name):
        values = frame.eval(expression, engine="python")
        if not isinstance(values, pd.Series):
            raise UserError(f"The expression {expression!r} of {name} names no column.")
        return values.astype(float)


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
    value = evaluate_expression(frame, test["value"], name)
    minus = evaluate_expression(frame, test["minus"], name) if "minus" in test else None
    n = evaluate_expression(frame, test["n"], name) if "n" in test else None
    low = column_of(frame, test["low"], name) if "low" in test else value
    high = column_of(frame, test["high"], name) if "high" in test else value
    estimates = []
    for row in frame.index:
        counted = None if n is None else float(n.loc[row])
        if math.isnan(value.loc[row]) or counted is not None and not counted > 0:
            continue
        rates = [value.loc[row], *([] if minus is None else [minus.loc[row]])]
        if counted is not None and not all(-1e-9 <= rate <= 1 + 1e-9 for rate in rates):
            raise UserError(
                f"Row {row} of the table of {name} has {' and '.join(map(number, rates))}, but "
                "with 'n' its value must be a rate in [0, 1]."
            )
        taken = None if minus is None else float(minus.loc[row])
        ends = float(low.loc[row]), float(high.loc[row])
        estimate = Estimate(
            float(value.loc[row]) - (taken or 0.0),
            counted,
            taken,
            # An interval that is not known excludes nothing.
            -math.inf if math.isnan(ends[0]) else ends[0],
            math.inf if math.isnan(ends[1]) else ends[1],
            int(row),
        )
        least, greatest = RANGES[test.get("range", "any")]
        if not least - 1e-9 <= estimate.value <= greatest + 1e-9:
            raise UserError(
                f"Row {row} of the table of {name} has the value {number(estimate.value)}, which "
                f"no value of the kind {test['range']!r} can be."
            )
        estimates.append(estimate)
    return estimates
