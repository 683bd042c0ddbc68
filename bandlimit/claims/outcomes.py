"""What the tests of a claim find in the rows of one experiment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
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
from bandlimit.claims.grammar import check_bounds, open_ended
from bandlimit.claims.wording import interval, named, number, place
from bandlimit.errors import UserError
from bandlimit.statistics import Interval

LEVEL = 0.95

MOST_CASES = 1e6
"""Cases of which it is still said that they would decide a claim."""


@dataclass(frozen=True)
class Outcome:
    """What one test, or all tests of a claim, found in one experiment.

    Attributes:
        text: what was found, or why nothing can be said, as a part of a sentence.
        asked: whether there was something to test.
        holds: whether the value is what the test asks for.
        surely: the same for the value's whole 95% interval.
        excluded: whether no value of the interval is.
        contradicted: whether the interval lies in what the test says contradicts; null where it
            says nothing of that, and then what is excluded does.
        measured: the value; low, high: its interval; cases: those behind it.
        least_cases: those behind the value of the fewest, of several tests.
        rows: the rows that decide, as (table, number).
        marks: failed checks that these rows depend on.
    """

    text: str
    asked: bool = True
    holds: bool = False
    surely: bool = False
    excluded: bool = False
    contradicted: bool | None = None
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    cases: float | None = None
    least_cases: float | None = None
    rows: tuple[tuple[str, int], ...] = ()
    marks: tuple[str, ...] = ()

    @property
    def weight(self) -> tuple[bool, bool, bool, bool]:
        """How much the outcome speaks against the claim, for comparison with others."""
        against = self.excluded if self.contradicted is None else self.contradicted
        return not self.asked, against, not self.holds, not self.surely


def of_experiment(
    claim: Mapping[str, Any],
    tables: Tables,
    experiment: Mapping[str, Any] | None,
    *,
    worst_first: bool,
) -> Outcome:
    """Return the outcome of all tests of a claim, which must all hold.

    Args:
        claim: its tests, and records, rows and 'optional' where the tests name none.
        tables: the tables of the run.
        experiment: the experiment that is asked; none for a computation.
        worst_first: show the value of the test that speaks most against the claim, not the first.
    """
    asked = _questions(claim, tables, experiment)
    return _answer(claim, asked, worst_first=worst_first)


def _answer(
    claim: Mapping[str, Any],
    asked: Sequence[Sequence[_Question]],
    *,
    worst_first: bool,
    times: float = 1.0,
) -> Outcome:
    """Return the outcome of a claim from the questions of each test, none where it has no rows."""
    found = [_of_test(claim, questions, times) for questions in asked]
    if worst_first:
        found.sort(key=lambda outcome: outcome.weight, reverse=True)
    return _all_of(found)


def needed(
    claim: Mapping[str, Any],
    tables: Tables,
    experiment: Mapping[str, Any] | None,
    outcome: Outcome,
) -> float | None:
    """Return how many cases would decide what an outcome leaves open, if rates stayed as they are.

    None, where the cases are not known, or where more than a million would not do.
    """
    if not outcome.cases or outcome.cases >= MOST_CASES:
        return None
    asked = _questions(claim, tables, experiment)

    def decides(times: float) -> bool:
        found = _answer(claim, asked, worst_first=True, times=times)
        return found.surely or found.excluded

    most = MOST_CASES / outcome.cases
    low, high = 1.0, min(2.0, most)
    while not decides(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high / low > 1.01:
        middle = (low + high) / 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return float(math.ceil(high * outcome.cases))


def with_claim(claim: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a test, or a value shown beside, with the records and rows of its claim."""
    own = {key: claim.get(key) for key in ("records", "rows")}
    # Rows of the claim are of the claim's table; another table has other columns.
    if "records" in part and part["records"] != claim.get("records"):
        own["rows"] = None
    return own | dict(part)


def beside(
    claim: Mapping[str, Any],
    part: Mapping[str, Any],
    experiment: Mapping[str, Any] | None,
    tables: Tables,
) -> str | None:
    """Return a value that is shown beside a claim, None where the run has none."""
    part = with_claim(claim, part)
    if part["records"] not in tables.paths:
        return None
    name = f"{part['label']!r} beside the claim {claim['id']}"
    frame = select(tables.of(part["records"], experiment), part["rows"], name)
    estimates = estimates_of(part, frame, name)
    if not estimates:
        return None
    chosen = _aggregate(part, estimates, name)
    return None if chosen is None else f"{named(part)}: {interval(*chosen[:3])}"


def _all_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome of several tests that must all hold; the first gives the value."""
    for outcome in outcomes:
        if not outcome.asked:
            return outcome
    counts = [o.least_cases for o in outcomes if o.least_cases is not None]
    # One that says itself what contradicts is contradicted by nothing else.
    against = [o.excluded if o.contradicted is None else o.contradicted for o in outcomes]
    return replace(
        outcomes[0],
        holds=all(outcome.holds for outcome in outcomes),
        surely=all(outcome.surely for outcome in outcomes),
        excluded=any(outcome.excluded for outcome in outcomes),
        contradicted=any(against),
        text="; ".join(outcome.text for outcome in outcomes),
        least_cases=min(counts, default=None),
        rows=tuple(dict.fromkeys(row for outcome in outcomes for row in outcome.rows)),
        marks=tuple(dict.fromkeys(mark for outcome in outcomes for mark in outcome.marks)),
    )


@dataclass(frozen=True)
class _Question:
    """A test, the rows that answer it, their values, and what messages call it."""

    test: Mapping[str, Any]
    frame: pd.DataFrame
    estimates: Sequence[Estimate]
    name: str


def _questions(
    claim: Mapping[str, Any], tables: Tables, experiment: Mapping[str, Any] | None
) -> list[list[_Question]]:
    """Return of each test of a claim the questions that it asks of one experiment.

    It is one, or one for each group of rows; none where there are no rows, as the claim allows.
    """
    return [_of_rows(claim, with_claim(claim, t), tables, experiment) for t in claim["tests"]]


def _of_rows(
    claim: Mapping[str, Any],
    test: Mapping[str, Any],
    tables: Tables,
    experiment: Mapping[str, Any] | None,
) -> list[_Question]:
    name = f"the test {test['label']!r} of the claim {claim['id']}"
    frame = select(tables.of(test["records"], experiment), test["rows"], name)
    if frame.empty:
        if "optional" in claim:
            return []
        where = "" if experiment is None else f" for {experiment['dataset']}/{experiment['model']}"
        raise UserError(
            f"The rows of {name} select nothing of {str(tables.paths[test['records']])!r}{where}, "
            f"although the run should have them: {test['rows'] or 'all rows'}."
        )
    if "per" not in test:
        return [_Question(test, frame, estimates_of(test, frame, name), name)]
    column_of(frame, test["per"], name)
    found = []
    for value, part in frame.groupby(test["per"], sort=False):
        own = {**test, "label": f"{test['label']}, {value}"}
        found.append(_Question(own, part, estimates_of(own, part, name), name))
    return found


def _of_test(claim: Mapping[str, Any], asked: Sequence[_Question], times: float) -> Outcome:
    """Return what a test finds in the rows of one experiment."""
    if not asked:
        return _nothing(f"there is nothing to test, since {claim['optional']}")
    outcomes = [_decide(claim, question, times) for question in asked]
    # The group that decides gives the value.
    return _all_of(sorted(outcomes, key=lambda outcome: outcome.weight, reverse=True))


def _nothing(why: str) -> Outcome:
    return Outcome(why, asked=False)


def _decide(claim: Mapping[str, Any], question: _Question, times: float) -> Outcome:
    test, frame, name = question.test, question.frame, question.name
    estimates = [replace(estimate, times=times) for estimate in question.estimates]
    if not estimates:
        return _nothing(f"nothing was counted for the {test['label']}")
    if "within" in test:
        found = _within(test, frame, estimates, name)
    elif "order" in test:
        found = _order(claim, test, frame, estimates, name)
    else:
        found = _trend(test, frame, estimates, name)
    if found.measured is None:
        return found
    if test["exact"]:
        found = replace(found, surely=found.holds, excluded=not found.holds)
    rows = tuple((test["records"], estimate.row) for estimate in estimates)
    marks: tuple[str, ...] = ()
    if "checks_failed" in frame:
        texts = frame.loc[[estimate.row for estimate in estimates], "checks_failed"].dropna()
        marks = tuple(name for text in texts for name in text.split(", "))
    return replace(found, least_cases=found.cases, rows=rows, marks=tuple(dict.fromkeys(marks)))


def _within(
    test: Mapping[str, Any], frame: pd.DataFrame, estimates: Sequence[Estimate], name: str
) -> Outcome:
    chosen = _aggregate(test, estimates, name)
    if chosen is None:
        return _nothing(f"one row gives no spread of the {test['label']}")
    value, low, high, cases = chosen
    bounds = [
        float(evaluate_expression(frame, bound, name).iloc[0]) if isinstance(bound, str) else bound
        for bound in test["within"]
    ]
    if any(bound is not None and math.isnan(bound) for bound in bounds):
        shown = f"{test['label']} of {interval(value, low, high)}"
        return _nothing(f"nothing is known to compare the {shown} with")
    least, greatest = open_ended(bounds)
    if any(isinstance(bound, str) for bound in test["within"]):
        check_bounds(test, least, greatest, f"{name[0].upper()}{name[1:]}")
    holds = least <= value <= greatest
    text = f"{named(test)}: {interval(value, low, high)}, {place(holds, least, greatest)}"
    contradicted = None
    if "contradicts" in test:
        worst, best = open_ended(test["contradicts"])
        contradicted = not holds and worst <= low and high <= best
        if not holds:
            limit = f"{number(worst)} to {number(best)}"
            if math.isinf(worst) or math.isinf(best):
                limit = (
                    f"at least {number(worst)}" if math.isinf(best) else f"at most {number(best)}"
                )
            text += f" ({limit} contradicts)"
    return Outcome(
        text,
        holds=holds,
        surely=least <= low and high <= greatest,
        excluded=high < least or low > greatest,
        contradicted=contradicted,
        measured=value,
        low=low,
        high=high,
        cases=cases,
    )


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
        return values[0], *estimates[0].interval(LEVEL), estimates[0].cases
    if how == "mean":
        # Rows share images, so that their errors need not cancel: bounds are averaged.
        bounds = [estimate.interval(LEVEL) for estimate in estimates]
        low, high = (sum(ends) / len(ends) for ends in zip(*bounds, strict=True))
        return sum(values) / len(values), low, high, _least_cases(estimates)
    # Of equal values the one of most cases, which says most.
    if how in ("min", "max"):
        sign, pick = (1, min) if how == "min" else (-1, max)
        chosen = min(estimates, key=lambda one: (sign * one.value, -(one.cases or 0)))
        # A row that is less sure than the chosen one may be the extreme one in truth.
        bounds = [estimate.interval(_joint(len(estimates))) for estimate in estimates]
        low, high = (pick(ends) for ends in zip(*bounds, strict=True))
        return chosen.value, low, high, chosen.cases
    if len(estimates) < 2:
        return None
    pairs = list(combinations(sorted(estimates, key=lambda one: one.value), 2))
    steps = [_step(a, b, _joint(len(pairs))) for a, b in pairs]
    low, high = (max(ends) for ends in zip(*steps, strict=True))
    return max(values) - min(values), max(low, 0.0), high, _least_cases(estimates)


def _least_cases(estimates: Sequence[Estimate]) -> float | None:
    return min((one.cases for one in estimates if one.cases is not None), default=None)


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
    by, margin = test["order"]["by"], test["order"]["margin"]
    members = _by_value(frame, by, estimates, name)
    for value in (value for group in test["order"]["groups"] for value in group):
        if value not in members:
            if value in frame[by].tolist() or "optional" in claim:
                return _nothing(f"nothing was counted for {value}")
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
    texts = ", ".join(
        f"{value} {number(members[value].value)}"
        for group in test["order"]["groups"]
        for value in group
    )
    least = min(steps)
    text = f"{test['label']}: {texts}; least step upwards {interval(*least)}"
    text += f", {place(least[0] >= margin, margin, math.inf)}" if margin else ""
    holds = all(value >= margin and low > 0 for value, low, _ in steps)
    value, low, high = least
    return Outcome(
        text,
        holds=holds,
        surely=holds and all(low >= margin for _, low, _ in steps),
        excluded=any(end < margin for _, _, end in steps),
        measured=value,
        low=low,
        high=high,
        cases=_least_cases(estimates),
    )


def _trend(
    test: Mapping[str, Any], frame: pd.DataFrame, estimates: Sequence[Estimate], name: str
) -> Outcome:
    trend = test["trend"]
    members = _by_value(frame, trend["over"], estimates, name)
    places = sorted(members)
    if len(places) < 2:
        return _nothing(f"one row gives no trend of the {test['label']}")
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
    slack, margin = trend["slack"], trend["margin"]
    holds = low > 0 and whole >= margin and all(value >= -slack for value, _, _ in steps.values())
    texts = ", ".join(f"{number(members[place].value)} at {number(place)}" for place in places)
    ends = (low, high) if sign > 0 else (-high, -low)
    text = (
        f"{test['label']} over {trend['over']}: {texts}; change from the first to the last "
        f"{interval(sign * whole, *ends)}"
    )
    if margin:
        limits = (margin, math.inf) if sign > 0 else (-math.inf, -margin)
        text += f", {place(whole >= margin, *limits)}"
    return Outcome(
        text,
        holds=holds,
        # The slack is for noise, so that values as measured are compared with it.
        surely=holds and low >= margin,
        excluded=high < margin or any(end < -slack for _, _, end in steps.values()),
        measured=sign * whole,
        low=ends[0],
        high=ends[1],
        cases=_least_cases(estimates),
    )


def _by_value(
    frame: pd.DataFrame, column: str, estimates: Sequence[Estimate], name: str
) -> dict[Any, Estimate]:
    """Return the estimates by the value that their rows have in a column."""
    values = column_of(frame, column, name)
    members = {values.loc[estimate.row]: estimate for estimate in estimates}
    if len(members) < len(estimates):
        raise UserError(f"The rows of {name} have a value of {column} twice; each is needed once.")
    return members
