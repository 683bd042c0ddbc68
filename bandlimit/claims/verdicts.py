"""Whether a claim holds: tests of a claims file over the tables of a run.

A claim is asked of each experiment of the run; those on the document's own data decide, and where
several do, the worst verdict counts. docs/claims.md explains the grammar of the tests.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bandlimit import statistics
from bandlimit.claims.estimates import (
    Estimate,
    Tables,
    column_of,
    estimates_of,
    evaluate_expression,
    select,
)
from bandlimit.claims.grammar import check_bounds, load, open_ended
from bandlimit.claims.wording import interval, named, number, place, row_numbers, sentence, wanted
from bandlimit.errors import UserError, suggest
from bandlimit.statistics import Interval

REPRODUCED = "reproduced"

NOT_REPRODUCED = "not reproduced"

CONTRADICTED = "contradicted"

NOT_RUN = "not run at this scale"

VERDICTS = (REPRODUCED, NOT_REPRODUCED, CONTRADICTED, NOT_RUN)
"""reproduced: all tests hold; contradicted: one fails by more than its 95% interval, or as far as
it says itself; not reproduced: one fails, but not so far; not run at this scale: nothing
decides."""

SEVERITY = {NOT_RUN: 0, REPRODUCED: 1, NOT_REPRODUCED: 2, CONTRADICTED: 3}

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
        UserError: the claims file is wrong, a table or a column of it is missing, or rows select
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
        return row | {"reading": f"No experiment of this run has {wanted(claim)}."}
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
        "decided_by": row_numbers(found.rows),
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
        return f"whose network is not among {', '.join(claim['networks'])} and decides nothing"
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


def _test(
    claim: Mapping[str, Any],
    test: Mapping[str, Any],
    tables: Tables,
    experiment: Mapping[str, Any] | None,
) -> Outcome:
    """Return what a test finds in the rows of one experiment."""
    name = f"the test {test['label']!r} of the claim {claim['id']}"
    frame = select(tables.of(test["records"], experiment), test["rows"], name)
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
    column_of(frame, test["per"], name)
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
    estimates = estimates_of(test, frame, name)
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
        float(evaluate_expression(frame, bound, name).iloc[0]) if isinstance(bound, str) else bound
        for bound in test["within"]
    ]
    if any(bound is not None and math.isnan(bound) for bound in bounds):
        shown = f"{test['label']} of {interval(value, low, high)}"
        reason = f"where nothing is known to compare the {shown} with"
        return Outcome(NOT_RUN, reason, value, low, high, counted)
    least, greatest = open_ended(bounds)
    if any(isinstance(bound, str) for bound in test["within"]):
        check_bounds(test, least, greatest, f"{name[0].upper()}{name[1:]}")
    holds = least <= value <= greatest
    text = f"{named(test)}: {interval(value, low, high)}, {place(holds, least, greatest)}"
    if "contradicts" not in test:
        excluded = high < least or low > greatest
        return Outcome(_verdict(holds, excluded, test), text, value, low, high, counted)
    worst, best = open_ended(test["contradicts"])
    verdict = CONTRADICTED if worst <= low and high <= best else NOT_REPRODUCED
    if not holds:
        limit = f"{number(worst)} to {number(best)}"
        if math.isinf(worst) or math.isinf(best):
            limit = f"at least {number(worst)}" if math.isinf(best) else f"at most {number(best)}"
        text += f" ({limit} contradicts)"
    return Outcome(REPRODUCED if holds else verdict, text, value, low, high, counted)


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
    """Return the interval of the second value minus the first."""
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
    text = f"{test['label']}: {texts}; least step upwards {interval(*least)}"
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
        f"{interval(sign * whole, *ends)}"
    )
    return Outcome(_verdict(holds, excluded, test), text, sign * whole, *ends, _least_n(estimates))


def _by_value(
    frame: pd.DataFrame, column: str, estimates: Sequence[Estimate], name: str
) -> dict[Any, Estimate]:
    """Return the estimates by the value that their rows have in a column."""
    values = column_of(frame, column, name)
    members = {values.loc[estimate.row]: estimate for estimate in estimates}
    if len(members) < len(estimates):
        raise UserError(f"The rows of {name} have a value of {column} twice; each is needed once.")
    return members


def _reading(claim: Mapping[str, Any], shown: Asked, asked: Sequence[Asked], tables: Tables) -> str:
    """Return what was found with its numbers, where, and what stands beside it."""
    found = shown.outcome
    if found.verdict == NOT_RUN:
        place = "" if shown.experiment is None else f"on {shown.place}, "
        return sentence(f"{place}{found.text}")
    counted = "" if found.n is None else f" (N = {found.n:.0f})"
    reported = "" if claim["reported"] is None else f"; reported is {number(claim['reported'])}"
    parts = [sentence(f"{found.text}{counted}{reported}")]
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
    frame = select(tables.of(part["records"], experiment), part["rows"], name)
    estimates = estimates_of(part, frame, name)
    if not estimates:
        return None
    chosen = _aggregate(part, estimates, name)
    return None if chosen is None else f"{named(part)}: {interval(*chosen[:3])}"
