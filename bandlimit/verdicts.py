"""Whether a claim holds: tests of a claims file over the tables of a run.

A claim is asked of each experiment of the run; those on the document's own data decide, and where
several do, the worst verdict counts. docs/claims.md explains the grammar of the tests.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

import pandas as pd

from bandlimit import claims, statistics, store
from bandlimit.errors import UserError, suggest
from bandlimit.statistics import Interval
from bandlimit.validation import check, read_schema

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"
CONTRADICTED = "contradicted"
NOT_RUN = "not run at this scale"

VERDICTS = (REPRODUCED, NOT_REPRODUCED, CONTRADICTED, NOT_RUN)
"""reproduced: all tests hold; contradicted: one fails by more than its 95% interval, or as far as
it says itself; not reproduced: one fails, but not so far; not run at this scale: nothing
decides."""

SEVERITY = {NOT_RUN: 0, REPRODUCED: 1, NOT_REPRODUCED: 2, CONTRADICTED: 3}

RANGES = {
    "rate": (0.0, 1.0),
    "difference": (-1.0, 1.0),
    "positive": (0.0, math.inf),
    "any": (-math.inf, math.inf),
}

COLUMNS = {
    **dict.fromkeys(("id", "study", "document", "where", "statement", "scale"), "str"),
    **dict.fromkeys(("reported", "measured", "low", "high", "images"), "float64"),
    "measured_on": "str",
    "stand_in": "boolean",
    **dict.fromkeys(
        ("verdict", "records", "rows", "decided_by", "checks_failed", "reading"), "str"
    ),
}
"""Columns of the ledger and their types."""

LEVEL = 0.95
NAMES = ["dataset", "model"]


def load(claims_file: str | os.PathLike[str], schema: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a claims file, checked.

    Args:
        claims_file: path of the file.
        schema: path of its schema, `claims.schema.yaml`.

    Raises:
        UserError: it doesn't match the schema, an id is there twice or of another study, a test
            can't fail or can't hold, or a summary names a claim that isn't there.
    """
    where = f"the claims file {str(claims_file)!r}"
    document = check(claims.read(claims_file), read_schema(Path(schema)), where)
    ids = [claim["id"] for claim in document["claims"]]
    for claim_id in ids:
        if ids.count(claim_id) > 1:
            raise UserError(f"The claim {claim_id!r} stands twice in {where}; an id is unique.")
        if claim_id.split(".")[0] != ids[0].split(".")[0]:
            raise UserError(
                f"The claim {claim_id!r} in {where} is not of the study of {ids[0]!r}; a file has "
                "one study, the part of the id before the point."
            )
    for claim in document["claims"]:
        for part in [*claim["tests"], *claim["beside"]]:
            if "records" not in claim | part:
                raise UserError(
                    f"{part['label']!r} of the claim {claim['id']} has no 'records'; the claim "
                    "or the test must name the table that it reads."
                )
        for test in claim["tests"]:
            _check_test(test, claim["id"])
    _check_summary(document, ids, where)
    return document


def _check_test(test: Mapping[str, Any], claim: str) -> None:
    """Refuse a test that is incomplete, can't fail or can't hold."""
    name = f"The test {test['label']!r} of the claim {claim}"
    kinds = [kind for kind in ("within", "order", "trend") if kind in test]
    if len(kinds) != 1:
        raise UserError(
            f"{name} needs one of 'within', 'order' and 'trend', got "
            f"{' and '.join(kinds) or 'none'}."
        )
    sources = [key for key in ("n", "low", "exact") if test.get(key)]
    if len(sources) != 1 or ("low" in test) != ("high" in test):
        raise UserError(
            f"{name} must say how sure its value is by one of 'n', 'low' with 'high', and "
            f"'exact: true', got {' and '.join(sources) or 'none'}."
        )
    if "minus" in test and "n" not in test:
        raise UserError(f"{name} has 'minus', which needs the number of cases as 'n'.")
    if "contradicts" in test:
        _check_contradicts(test, kinds, name)
    single = kinds == ["within"] and test["aggregate"] == "only"
    if "low" in test and not single:
        raise UserError(
            f"{name} compares several rows, whose intervals it widens, so it needs 'n' or "
            "'exact: true' in place of 'low' and 'high'."
        )
    if kinds == ["within"]:
        if not single and any(isinstance(bound, str) for bound in test["within"]):
            raise UserError(f"{name} has a bound by expression, which needs 'aggregate: only'.")
        if not any(isinstance(bound, str) for bound in test["within"]):
            _check_bounds(test, *_open_ended(test["within"]), name)
        return
    if test["aggregate"] != "only":
        raise UserError(f"{name} looks at all rows, so it takes no 'aggregate'.")
    low, high = RANGES[test["range"]]
    if kinds == ["trend"] and test["trend"]["slack"] >= high - low:
        raise UserError(
            f"{name} can't fail: its slack of {test['trend']['slack']} is as wide as the range "
            f"of a value of the kind {test['range']!r}."
        )
    if kinds == ["order"]:
        members = [value for group in test["order"]["groups"] for value in group]
        if len(set(members)) < len(members):
            raise UserError(f"{name} has a value in its groups twice; an order has each once.")


def _check_contradicts(test: Mapping[str, Any], kinds: Sequence[str], name: str) -> None:
    """Refuse values that contradict where there is no 'within' in numbers, or that it allows."""
    if kinds != ["within"] or any(isinstance(bound, str) for bound in test["within"]):
        raise UserError(f"{name} has 'contradicts', which needs 'within' with numbers.")
    (least, greatest), (low, high) = map(_open_ended, (test["within"], test["contradicts"]))
    if low > high or (low <= greatest and high >= least):
        raise UserError(
            f"{name} has 'contradicts' from {low:g} to {high:g}, which must be a range apart from "
            f"'within', {least:g} to {greatest:g}."
        )
    if high < RANGES[test["range"]][0] or low > RANGES[test["range"]][1]:
        raise UserError(
            f"{name} can't contradict: no value of the kind {test['range']!r} lies within "
            f"[{low:g}, {high:g}]."
        )


def _open_ended(bounds: Sequence[float | None]) -> Interval:
    low, high = bounds
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def _check_bounds(test: Mapping[str, Any], low: float, high: float, name: str) -> None:
    """Refuse bounds that every possible value meets, or none."""
    least, greatest = RANGES[test["range"]]
    if test["aggregate"] == "spread":
        least, greatest = 0.0, greatest - least
    if low <= least and high >= greatest:
        raise UserError(
            f"{name} can't fail: 'within' allows all that a value of the kind {test['range']!r} "
            f"can be, {least:g} to {greatest:g}."
        )
    if low > high or low > greatest or high < least:
        raise UserError(
            f"{name} can't hold: no value of the kind {test['range']!r} lies within "
            f"[{low:g}, {high:g}]."
        )


def _check_summary(document: Mapping[str, Any], ids: Sequence[str], where: str) -> None:
    known = {claim_id.split(".")[1] for claim_id in ids}
    for variant in document["summary"]:
        for name in [*variant["when"], *(field.split(".")[0] for field in fields(variant["say"]))]:
            if name not in known:
                raise UserError(
                    f"The summary of {where} names the claim {name!r}; {suggest(name, known)}."
                )
    last = document["summary"][-1]
    if last["when"] or fields(last["say"]):
        raise UserError(
            f"The last sentence of the summary of {where} must hold whatever was found: without "
            "'when' and without numbers."
        )


def fields(text: str) -> list[str]:
    """Return the names of the fields in a sentence, such as 'C04.measured'."""
    return [name for _, name, _, _ in Formatter().parse(text) if name]


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


@dataclass(frozen=True)
class Outcome:
    """What one test, or all tests of a claim, found in one experiment."""

    verdict: str
    text: str
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    n: float | None = None
    rows: tuple[tuple[str, int], ...] = ()
    marks: tuple[str, ...] = ()
    """Failed checks that the rows depend on."""


@dataclass(frozen=True)
class Asked:
    """A claim as it was asked of one experiment; without an experiment, of a computation."""

    experiment: Mapping[str, Any] | None
    outcome: Outcome
    undecided: str | None
    """Why this does not decide; None where it does."""

    @property
    def place(self) -> str:
        """Dataset and model."""
        if self.experiment is None:
            return "computation"
        return f"{self.experiment['dataset']}/{self.experiment['model']}"


def evaluate(
    claims_file: str | os.PathLike[str],
    tables: Mapping[str, str | os.PathLike[str]],
    experiments: Sequence[Mapping[str, Any]],
    *,
    schema: str | os.PathLike[str],
    makeable: Collection[str] | None = None,
) -> pd.DataFrame:
    """Return the verdict on each claim of a file, a row each, in its order.

    Args:
        claims_file: path of the claims file.
        tables: the files of the run's tables by name, such as 'tables/bandlimiting/table_1'. A
            claim about a table that is not named here is not run.
        experiments: of each experiment, dataset, model, document (the data set of the document that
            it stands for, or None), stand_in (whether its data are others than that), architecture,
            has (names of its attacks and of the parts of studies that it takes part in), and
            further columns that queries may use: main_radius, main_directions, study_epsilon,
            published_accuracy.
        schema: path of the schema of claims files.
        makeable: names of all tables that some run makes; None allows any.

    Columns: `COLUMNS`. Measured is the value of the first test with its interval low and high, and
    images the cases behind it; measured_on is dataset/model, or 'computation'; records the files
    and rows the queries that were read; decided_by the numbers of the rows, from 0; checks_failed
    the failed checks that these rows name in a column checks_failed, if their table has one.

    Raises:
        UserError: the claims file is wrong, a table lacks a column or is missing, or rows select
            nothing although an experiment of the run has what the claim needs.
    """
    document = load(claims_file, schema)
    for claim in document["claims"]:
        for test in claim["tests"]:
            records = test.get("records", claim.get("records"))
            if makeable is not None and records not in makeable:
                raise UserError(
                    f"The claim {claim['id']} reads {records!r}, a table that no run makes; "
                    f"{suggest(records, makeable)}."
                )
    known = Tables(tables, experiments)
    rows = [_row(document, claim, known, experiments) for claim in document["claims"]]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _row(
    document: Mapping[str, Any],
    claim: Mapping[str, Any],
    tables: Tables,
    experiments: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    tests = [_with_claim(claim, test) for test in claim["tests"]]
    row = {
        "id": claim["id"],
        "study": claim["id"].split(".")[0],
        "document": document["document"],
        **{key: claim[key] for key in ("where", "statement", "scale", "reported")},
        "verdict": NOT_RUN,
        "measured_on": "",
        "records": "; ".join(
            str(tables.paths.get(t["records"], t["records"])) for t in _first(tests)
        ),
        "rows": "; ".join(dict.fromkeys(t["rows"] or "all rows" for t in tests)),
        "decided_by": "",
        "checks_failed": "",
    }
    absent = [test["records"] for test in tests if test["records"] not in tables.paths]
    if absent:
        return row | {"reading": f"This run does not make {absent[0]}."}
    asked = list(_ask(claim, tests, tables, experiments))
    if not asked:
        return row | {"reading": f"No experiment of this run has {_wanted(claim)}."}
    deciding = [one for one in asked if one.undecided is None]
    shown = max(deciding or asked, key=_weight)
    found = shown.outcome
    stands = None if shown.experiment is None else bool(shown.experiment["stand_in"])
    return row | {
        "measured": found.measured,
        "low": found.low,
        "high": found.high,
        "images": found.n,
        "measured_on": shown.place,
        "stand_in": stands,
        "verdict": found.verdict if deciding else NOT_RUN,
        "decided_by": _row_numbers(found.rows),
        "checks_failed": ", ".join(found.marks),
        "reading": _reading(claim, shown, asked, tables),
    }


def _with_claim(claim: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a test, or a value shown beside, with the records and rows of its claim."""
    own = {key: claim.get(key) for key in ("records", "rows")}
    # Rows of the claim are of the claim's table; another table has other columns.
    if "records" in part and part["records"] != claim.get("records"):
        own["rows"] = None
    return own | dict(part)


def _first(tests: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the first test of each table."""
    return list({test["records"]: test for test in reversed(tests)}.values())[::-1]


def _wanted(claim: Mapping[str, Any]) -> str:
    parts = [", ".join(claim["needs"])] if claim["needs"] else ["what it is about"]
    if "data" in claim:
        parts.append(f"on {' or '.join(claim['data'])} or a stand-in for it")
    return " ".join(parts)


def _weight(asked: Asked) -> tuple[bool, int]:
    # Of what does not decide, what was measured is shown first.
    return asked.outcome.measured is not None, SEVERITY[asked.outcome.verdict]


def _ask(
    claim: Mapping[str, Any],
    tests: Sequence[Mapping[str, Any]],
    tables: Tables,
    experiments: Sequence[Mapping[str, Any]],
) -> Iterator[Asked]:
    """Yield what each experiment says of a claim that it is concerned with."""
    if not any(tables.by_experiment(test["records"]) for test in tests):
        found = _all_hold([_test(claim, test, tables, None) for test in tests])
        yield Asked(None, found, found.text if found.verdict == NOT_RUN else None)
        return
    for experiment in experiments:
        if "data" in claim and experiment["document"] not in claim["data"]:
            continue
        if not set(claim["needs"]) <= set(experiment["has"]):
            continue
        found = _all_hold([_test(claim, test, tables, experiment) for test in tests])
        yield Asked(experiment, found, _undecided(claim, experiment, found))


def _undecided(
    claim: Mapping[str, Any], experiment: Mapping[str, Any], found: Outcome
) -> str | None:
    if found.verdict == NOT_RUN:
        return found.text
    if claim["scale"] == "paper":
        if experiment["document"] is None:
            return "which are not the document's data and decide nothing"
        if experiment["stand_in"]:
            return f"a stand-in for {experiment['document']}, which decides nothing"
    if "networks" in claim and experiment["architecture"] not in claim["networks"]:
        return f"whose network is none of {', '.join(claim['networks'])} and decides nothing"
    if found.n is not None and found.n < claim["images"]:
        return f"with {found.n:.0f} cases, where at least {claim['images']} decide"
    return None


def _all_hold(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of several tests that must all hold; the first gives the value."""
    for outcome in outcomes:
        if outcome.verdict == NOT_RUN:
            return outcome
    worst = max(outcomes, key=lambda outcome: SEVERITY[outcome.verdict])
    counts = [outcome.n for outcome in outcomes if outcome.n is not None]
    return replace(
        outcomes[0],
        verdict=worst.verdict,
        text="; ".join(outcome.text for outcome in outcomes),
        n=min(counts, default=None),
        rows=tuple(dict.fromkeys(row for outcome in outcomes for row in outcome.rows)),
        marks=tuple(dict.fromkeys(mark for outcome in outcomes for mark in outcome.marks)),
    )


# Tests ------------------------------------------------------------------------------------------


def _test(
    claim: Mapping[str, Any],
    test: Mapping[str, Any],
    tables: Tables,
    experiment: Mapping[str, Any] | None,
) -> Outcome:
    """Return what a test finds in the rows of one experiment."""
    name = f"the test {test['label']!r} of the claim {claim['id']}"
    frame = _select(tables.of(test["records"], experiment), test["rows"], name)
    if frame.empty:
        if "optional" in claim:
            return Outcome(NOT_RUN, f"where there is nothing to test, since {claim['optional']}")
        where = "" if experiment is None else f" for {experiment['dataset']}/{experiment['model']}"
        raise UserError(
            f"The rows of {name} select nothing of {str(tables.paths[test['records']])!r}{where}, "
            f"although the run should have them: {test['rows'] or 'all rows'}."
        )
    if "per" not in test:
        return _decide(claim, test, frame, name)
    _column(frame, test["per"], name)
    groups = frame.groupby(test["per"], sort=False)
    outcomes = [
        _decide(claim, {**test, "label": f"{test['label']}, {value}"}, part, name)
        for value, part in groups
    ]
    worst = max(outcomes, key=lambda outcome: SEVERITY[outcome.verdict])
    # The group that decides gives the value.
    return _all_hold([worst, *(outcome for outcome in outcomes if outcome is not worst)])


def _decide(
    claim: Mapping[str, Any], test: Mapping[str, Any], frame: pd.DataFrame, name: str
) -> Outcome:
    estimates = _estimates(test, frame, name)
    if not estimates:
        return Outcome(NOT_RUN, f"where nothing was counted for the {test['label']}")
    if "within" in test:
        found = _within(test, frame, estimates, name)
    elif "order" in test:
        found = _order(claim, test, frame, estimates, name)
    else:
        found = _trend(test, frame, estimates, name)
    if found.measured is None:
        return found
    rows = tuple((test["records"], estimate.row) for estimate in estimates)
    marks: tuple[str, ...] = ()
    if "checks_failed" in frame:
        texts = frame.loc[[estimate.row for estimate in estimates], "checks_failed"].dropna()
        marks = tuple(name for text in texts for name in text.split(", "))
    return replace(found, rows=rows, marks=tuple(dict.fromkeys(marks)))


def _verdict(holds: bool, excluded: bool, test: Mapping[str, Any]) -> str:
    if holds:
        return REPRODUCED
    return CONTRADICTED if excluded or test["exact"] else NOT_REPRODUCED


def _within(
    test: Mapping[str, Any], frame: pd.DataFrame, estimates: Sequence[Estimate], name: str
) -> Outcome:
    chosen = _aggregate(test, estimates, name)
    if chosen is None:
        return Outcome(NOT_RUN, f"where one row gives no spread of the {test['label']}")
    value, low, high, counted = chosen
    bounds = [
        float(_evaluate(frame, bound, name).iloc[0]) if isinstance(bound, str) else bound
        for bound in test["within"]
    ]
    if any(bound is not None and math.isnan(bound) for bound in bounds):
        shown = f"{test['label']} of {_interval(value, low, high)}"
        reason = f"where nothing is known to compare the {shown} with"
        return Outcome(NOT_RUN, reason, value, low, high, counted)
    least, greatest = _open_ended(bounds)
    if any(isinstance(bound, str) for bound in test["within"]):
        _check_bounds(test, least, greatest, f"{name[0].upper()}{name[1:]}")
    holds = least <= value <= greatest
    text = f"{_named(test)}: {_interval(value, low, high)}, {_place(holds, least, greatest)}"
    if "contradicts" not in test:
        excluded = high < least or low > greatest
        return Outcome(_verdict(holds, excluded, test), text, value, low, high, counted)
    worst, best = _open_ended(test["contradicts"])
    verdict = CONTRADICTED if worst <= low and high <= best else NOT_REPRODUCED
    if not holds:
        limit = f"{number(worst)} to {number(best)}"
        if math.isinf(worst) or math.isinf(best):
            limit = f"at least {number(worst)}" if math.isinf(best) else f"at most {number(best)}"
        text += f" ({limit} contradicts)"
    return Outcome(REPRODUCED if holds else verdict, text, value, low, high, counted)


def _place(holds: bool, least: float, greatest: float) -> str:
    if least == greatest:
        return "as claimed" if holds else f"not the {number(least)} claimed"
    if math.isinf(greatest):
        return f"{'at least' if holds else 'below'} {number(least)}"
    if math.isinf(least):
        return f"{'at most' if holds else 'above'} {number(greatest)}"
    return f"{'within' if holds else 'outside'} {number(least)} to {number(greatest)}"


def _named(test: Mapping[str, Any]) -> str:
    words = {"min": "least ", "max": "greatest ", "mean": "mean ", "spread": "spread of "}
    return words.get(test["aggregate"], "") + str(test["label"])


def _aggregate(
    test: Mapping[str, Any], estimates: Sequence[Estimate], name: str
) -> tuple[float, float, float, float | None] | None:
    """Return one value of several rows, its interval and its cases; None for a spread of one row.

    Where the rows decide which of them is looked at, intervals are widened (Bonferroni), so that
    together they hold at the level of one.
    """
    how, values = test["aggregate"], [estimate.value for estimate in estimates]
    if how == "only":
        if len(estimates) > 1:
            raise UserError(
                f"The rows of {name} select {len(estimates)} rows where one is needed, or an "
                "'aggregate' of them: min, max, mean or spread."
            )
        return values[0], *estimates[0].interval(LEVEL), estimates[0].n
    if how == "mean":
        # Rows share images, so that their errors need not cancel: bounds are averaged.
        bounds = [estimate.interval(LEVEL) for estimate in estimates]
        low, high = (sum(ends) / len(ends) for ends in zip(*bounds, strict=True))
        return sum(values) / len(values), low, high, _least_n(estimates)
    # Of equal values the one of most cases, which says most.
    sign = 1 if how == "min" else -1
    chosen = min(estimates, key=lambda one: (sign * one.value, -(one.n or 0)))
    if how in ("min", "max"):
        return chosen.value, *chosen.interval(_joint(len(estimates))), chosen.n
    if len(estimates) < 2:
        return None
    least = min(estimates, key=lambda estimate: estimate.value)
    low, high = _step(least, chosen, _joint(math.comb(len(estimates), 2)))
    return chosen.value - least.value, max(low, 0.0), high, _least_n(estimates)


def _least_n(estimates: Sequence[Estimate]) -> float | None:
    return min((estimate.n for estimate in estimates if estimate.n is not None), default=None)


def _joint(comparisons: int) -> float:
    return 1 - (1 - LEVEL) / comparisons


def _step(first: Estimate, second: Estimate, level: float) -> Interval:
    """Return the interval of the second value less the first."""
    return statistics.square_and_add(
        second.value, second.interval(level), first.value, first.interval(level)
    )


def _order(
    claim: Mapping[str, Any],
    test: Mapping[str, Any],
    frame: pd.DataFrame,
    estimates: Sequence[Estimate],
    name: str,
) -> Outcome:
    by = test["order"]["by"]
    members = _by_value(frame, by, estimates, name)
    for value in (value for group in test["order"]["groups"] for value in group):
        if value not in members:
            if value in frame[by].tolist() or "optional" in claim:
                return Outcome(NOT_RUN, f"where nothing was counted for {value}")
            raise UserError(f"The rows of {name} have no {by} {value!r}, which its order needs.")
    groups = [[members[value] for value in group] for group in test["order"]["groups"]]
    pairs = [
        (a, b)
        for lower, upper in zip(groups, groups[1:], strict=False)
        for a in lower
        for b in upper
    ]
    level = _joint(len(pairs))
    steps = [(b.value - a.value, *_step(a, b, level)) for a, b in pairs]
    least = min(steps)
    texts = ", ".join(
        f"{value} {number(members[value].value)}"
        for group in test["order"]["groups"]
        for value in group
    )
    holds = all(low > 0 for _, low, _ in steps)
    excluded = any(high < 0 for _, _, high in steps)
    text = f"{test['label']}: {texts}; least step upwards {_interval(*least)}"
    return Outcome(_verdict(holds, excluded, test), text, *least, _least_n(estimates))


def _trend(
    test: Mapping[str, Any], frame: pd.DataFrame, estimates: Sequence[Estimate], name: str
) -> Outcome:
    trend = test["trend"]
    members = _by_value(frame, trend["over"], estimates, name)
    places = sorted(members)
    if len(places) < 2:
        return Outcome(NOT_RUN, f"where one row gives no trend of the {test['label']}")
    sign = 1 if trend["direction"] == "increasing" else -1
    pairs = [(a, b) for i, a in enumerate(places) for b in places[i + 1 :]]
    level = _joint(len(pairs))

    def step(a: Any, b: Any) -> tuple[float, float, float]:
        """Return how far the value goes in the claimed direction, with its interval."""
        low, high = _step(members[a], members[b], level)
        ends = (low, high) if sign > 0 else (-high, -low)
        return sign * (members[b].value - members[a].value), *ends

    steps = {pair: step(*pair) for pair in pairs}
    whole, low, high = steps[places[0], places[-1]]
    holds = low > 0 and all(value >= -trend["slack"] for value, _, _ in steps.values())
    excluded = high < 0 or any(end < -trend["slack"] for _, _, end in steps.values())
    texts = ", ".join(f"{number(members[place].value)} at {number(place)}" for place in places)
    ends = (low, high) if sign > 0 else (-high, -low)
    text = (
        f"{test['label']} over {trend['over']}: {texts}; change from the first to the last "
        f"{_interval(sign * whole, *ends)}"
    )
    return Outcome(_verdict(holds, excluded, test), text, sign * whole, *ends, _least_n(estimates))


def _by_value(
    frame: pd.DataFrame, column: str, estimates: Sequence[Estimate], name: str
) -> dict[Any, Estimate]:
    """Return the estimates by the value that their rows have in a column."""
    values = _column(frame, column, name)
    members = {values.loc[estimate.row]: estimate for estimate in estimates}
    if len(members) < len(estimates):
        raise UserError(f"The rows of {name} have a value of {column} twice; each is needed once.")
    return members


# Rows and values --------------------------------------------------------------------------------


def _select(frame: pd.DataFrame, query: str | None, name: str) -> pd.DataFrame:
    if query is None:
        return frame
    with _plain_errors(frame, query, name):
        return frame.query(query, engine="python")


def _evaluate(frame: pd.DataFrame, expression: str, name: str) -> pd.Series:
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


def _column(frame: pd.DataFrame, column: str, name: str) -> pd.Series:
    if column not in frame:
        raise UserError(
            f"The table of {name} has no column {column!r}; {suggest(column, frame.columns)}."
        )
    return frame[column]


def _estimates(test: Mapping[str, Any], frame: pd.DataFrame, name: str) -> list[Estimate]:
    """Return the value of each row that has one."""
    value = _evaluate(frame, test["value"], name)
    minus = _evaluate(frame, test["minus"], name) if "minus" in test else None
    n = _evaluate(frame, test["n"], name) if "n" in test else None
    low = _column(frame, test["low"], name) if "low" in test else value
    high = _column(frame, test["high"], name) if "high" in test else value
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


# Sentences --------------------------------------------------------------------------------------


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


def _interval(value: float, low: float, high: float) -> str:
    if low == high or math.isinf(low) and math.isinf(high):
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def _row_numbers(rows: Sequence[tuple[str, int]]) -> str:
    """Return 'table: 1, 2; other: 3'."""
    tables = dict.fromkeys(table for table, _ in rows)
    return "; ".join(
        f"{name}: {', '.join(str(row) for table, row in sorted(rows) if table == name)}"
        for name in tables
    )


def _reading(claim: Mapping[str, Any], shown: Asked, asked: Sequence[Asked], tables: Tables) -> str:
    """Return what was found with its numbers, where, and what stands beside it."""
    found = shown.outcome
    if found.verdict == NOT_RUN:
        place = "" if shown.experiment is None else f"on {shown.place}, "
        return _sentence(f"{place}{found.text}")
    counted = "" if found.n is None else f" (N = {found.n:.0f})"
    reported = "" if claim["reported"] is None else f"; reported is {number(claim['reported'])}"
    parts = [_sentence(f"{found.text}{counted}{reported}")]
    if shown.experiment is not None:
        reason = "" if shown.undecided is None else f", {shown.undecided}"
        parts.append(f"Measured on {shown.place}{reason}.")
    beside = [
        words
        for part in claim["beside"]
        if (words := _beside(claim, _with_claim(claim, part), shown.experiment, tables))
    ]
    if beside:
        parts.append(f"Beside it, {'; '.join(beside)}.")
    others = [
        f"{one.place} ({one.outcome.verdict})"
        for one in asked
        if one is not shown and one.undecided is None
    ]
    if others:
        parts.append(f"Also asked of {', '.join(others)}.")
    if found.marks:
        parts.append(f"Failed checks put these numbers in doubt: {', '.join(found.marks)}.")
    return " ".join(parts)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _beside(
    claim: Mapping[str, Any],
    part: Mapping[str, Any],
    experiment: Mapping[str, Any] | None,
    tables: Tables,
) -> str | None:
    """Return a value that is shown beside a claim, None where the run has none."""
    if part["records"] not in tables.paths:
        return None
    name = f"{part['label']!r} beside the claim {claim['id']}"
    frame = _select(tables.of(part["records"], experiment), part["rows"], name)
    estimates = _estimates(part, frame, name)
    if not estimates:
        return None
    chosen = _aggregate(part, estimates, name)
    return None if chosen is None else f"{_named(part)}: {_interval(*chosen[:3])}"
