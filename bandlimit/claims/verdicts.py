"""Whether a claim holds: tests of a claims file over the tables of a run.

Each claim is asked twice. In substance: its statement without numbers, of each network of the run
that has the records. As reported: the document's numbers, which only its own data and models
decide.
docs/claims.md explains the grammar of the tests.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bandlimit.claims import outcomes
from bandlimit.claims.estimates import Tables
from bandlimit.claims.grammar import PARTS, REPORTED, SUBSTANCE, load, part_of
from bandlimit.claims.outcomes import Outcome
from bandlimit.claims.wording import counted, interval, number, row_numbers, sentence, wanted
from bandlimit.errors import UserError, suggest

HOLDS, FAILS, MIXED = "holds", "does not hold", "mixed"

UNDECIDED, NOT_ASKED = "undecided", "not asked"

REPRODUCED, NOT_REPRODUCED, CONTRADICTED = "reproduced", "not reproduced", "contradicted"

NOT_RUN = "not run at this scale"

VERDICTS = {
    "in_substance": (HOLDS, FAILS, MIXED, UNDECIDED, NOT_ASKED),
    "as_reported": (REPRODUCED, NOT_REPRODUCED, CONTRADICTED, NOT_RUN),
}
"""The verdicts on each part of a claim.

In substance: 'holds' and 'does not hold' where the 95% interval leaves no other answer; 'mixed',
where networks differ; 'undecided', where the interval is too wide; 'not asked', where the run has
no records. As reported: 'reproduced', where all tests hold; 'contradicted', where one fails by more
than its interval, or as far as it says itself; 'not reproduced', where one fails, but not so far;
'not run at this scale', where nothing decides."""

SEVERITY = {NOT_RUN: 0, REPRODUCED: 1, NOT_REPRODUCED: 2, CONTRADICTED: 3}

FACTS = {
    **dict.fromkeys(("measured", "low", "high", "cases", "needed"), "float64"),
    "measured_on": "str",
    "stand_in": "boolean",
    **dict.fromkeys(
        ("networks", "records", "rows", "decided_by", "checks_failed", "reading"), "str"
    ),
}
"""What is told of each part of a claim besides the verdict, and of which type.

measured is the value that decides, low and high its 95% interval, cases the number behind it, and
needed how many would decide what is undecided; measured_on is dataset/model or 'computation', and
stand_in whether its data stand in for the document's; networks says what each network asked has
answered; records are the files and rows the queries that were read; decided_by are the numbers of
the rows, from 0; checks_failed are the failed checks that these rows name."""

COLUMNS = {
    **dict.fromkeys(("id", "study", "document", "where", "statement", "substance"), "str"),
    "reported": "float64",
    **dict.fromkeys(PARTS, "str"),
    **{f"{part}_{fact}": kind for part in PARTS for fact, kind in FACTS.items()},
}
"""Columns of the ledger and their types."""


@dataclass(frozen=True)
class Asked:
    """A part of a claim as it was asked of one experiment; without one, of a computation."""

    experiment: Mapping[str, Any] | None
    outcome: Outcome
    verdict: str
    aside: str | None = None
    """Why this does not decide; None where it does."""

    @property
    def place(self) -> str:
        """Dataset and model."""
        if self.experiment is None:
            return "computation"
        return f"{self.experiment['dataset']}/{self.experiment['model']}"

    @property
    def marks(self) -> tuple[str, ...]:
        """Failed checks that the value depends on, and that of the network itself."""
        guesses = self.experiment is not None and self.experiment.get("at_chance", False)
        return tuple(dict.fromkeys((*self.outcome.marks, *(["clean_accuracy"] * guesses))))


def evaluate(
    claims_file: str | os.PathLike[str],
    tables: Mapping[str, str | os.PathLike[str]],
    experiments: Sequence[Mapping[str, Any]],
    *,
    schema: str | os.PathLike[str],
    makeable: Collection[str] | None = None,
    decides: bool = True,
) -> pd.DataFrame:
    """Return the verdicts on each claim of a file, a row each, in its order.

    Args:
        claims_file: path of the claims file.
        tables: the files of the run's tables by name, such as 'tables/bandlimiting/table_1'. A
            claim about a table that is not named here is not asked.
        experiments: of each experiment, dataset, model, document (the data set of the document that
            it stands for, or None), stand_in (whether its data are others than that), architecture,
            has (names of its attacks and of the parts of studies that it takes part in), and
            further columns that queries may use: main_radius, main_directions, main_epsilon,
            largest_epsilon, published_accuracy. at_chance says of one whether its network is not
            above chance on clean images, which puts all its numbers in doubt.
        schema: path of the schema of claims files.
        makeable: names of all tables that some run makes; None allows any.
        decides: whether the run is one that may decide a claim. Of one that only shows that
            everything runs, each claim that it can ask stays undecided, and none is reproduced or
            contradicted; values are there all the same.

    Columns: `COLUMNS`. 'in_substance' and 'as_reported' hold the verdicts, columns that begin so
    the `FACTS` behind each; 'substance' is the statement without its numbers.

    Raises:
        UserError: the claims file is wrong, a table or a column of it is missing, or rows select
            nothing although an experiment of the run has what the claim needs.
    """
    document = load(claims_file, schema)
    for claim in document["claims"]:
        for part in PARTS:
            for test in claim[part]["tests"]:
                records = outcomes.with_claim(part_of(claim, part), test)["records"]
                if makeable is not None and records not in makeable:
                    raise UserError(
                        f"The claim {claim['id']} reads {records!r}, a table that no run makes; "
                        f"{suggest(records, makeable)}."
                    )
    known = Tables(tables, experiments)
    rows = [_row(document, claim, known, experiments) for claim in document["claims"]]
    if not decides:
        rows = [_open(row) for row in rows]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _row(
    document: Mapping[str, Any],
    claim: Mapping[str, Any],
    tables: Tables,
    experiments: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    row = {
        "id": claim["id"],
        "study": claim["id"].split(".")[0],
        "document": document["document"],
        "where": claim["where"],
        "statement": claim["statement"],
        "substance": claim["in_substance"]["statement"],
        "reported": claim["as_reported"]["reported"],
    }
    for name in PARTS:
        part = part_of(claim, name)
        ask = _in_substance if name == SUBSTANCE else _as_reported
        found = ask(part, tables, experiments) | _source(part, tables)
        row[name] = found.pop("verdict")
        row |= {f"{name}_{fact}": value for fact, value in found.items()}
    return row


def _open(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose claim is left undecided in substance and not run as reported."""
    found = dict(row)
    for part, asked, verdict in (
        (SUBSTANCE, row[SUBSTANCE] != NOT_ASKED, UNDECIDED),
        (REPORTED, row[REPORTED] != NOT_RUN, NOT_RUN),
    ):
        if asked:
            found |= {
                part: verdict,
                f"{part}_networks": "",
                f"{part}_needed": None,
                f"{part}_reading": f"A smoke test decides nothing. {row[f'{part}_reading']}",
            }
    return found


def _source(part: Mapping[str, Any], tables: Tables) -> dict[str, str]:
    """Return the files and the queries that a part of a claim reads."""
    tests = [outcomes.with_claim(part, test) for test in part["tests"]]
    names = dict.fromkeys(test["records"] for test in tests)
    return {
        "records": "; ".join(str(tables.paths.get(name, name)) for name in names),
        "rows": "; ".join(dict.fromkeys(test["rows"] or "all rows" for test in tests)),
    }


def _nothing(verdict: str, reading: str) -> dict[str, Any]:
    facts = {fact: "" if kind == "str" else None for fact, kind in FACTS.items()}
    return {"verdict": verdict, **facts, "reading": reading}


def _unmade(part: Mapping[str, Any], tables: Tables) -> str | None:
    """Return a sentence where the run does not make a table that the tests read."""
    for test in part["tests"]:
        name = outcomes.with_claim(part, test)["records"]
        if name not in tables.paths:
            return f"This run does not make {name}."
    return None


def _lacking(part: Mapping[str, Any], experiments: Sequence[Mapping[str, Any]], where: str) -> str:
    """Return that no network has what a claim needs, and what the nearest ones lack of it."""
    lacks = {
        f"{e['dataset']}/{e['model']}": [n for n in part["needs"] if n not in e["has"]]
        for e in experiments
    }
    least = min(map(len, lacks.values()), default=0)
    # Who has none of it is not near.
    near = "; ".join(
        f"{place} lacks {', '.join(missing)}"
        for place, missing in lacks.items()
        if len(missing) == least < len(part["needs"])
    )
    return f"No network{where} has {wanted(part)}{f': {near}' if near else ''}."


def _ask(
    part: Mapping[str, Any],
    tables: Tables,
    experiments: Sequence[Mapping[str, Any]],
    *,
    worst_first: bool,
) -> Iterator[tuple[Mapping[str, Any] | None, Outcome]]:
    """Yield what each experiment that has the records says of a part of a claim."""
    names = {outcomes.with_claim(part, test)["records"] for test in part["tests"]}
    asked: list[Mapping[str, Any] | None] = [None]
    if any(tables.by_experiment(name) for name in names):
        asked = [e for e in experiments if set(part["needs"]) <= set(e["has"])]
    for experiment in asked:
        yield (
            experiment,
            outcomes.of_experiment(part, tables, experiment, worst_first=worst_first),
        )


def _facts(shown: Asked, networks: str) -> dict[str, Any]:
    found = shown.outcome
    return {
        "verdict": shown.verdict,
        "measured": found.measured,
        "low": found.low,
        "high": found.high,
        "cases": found.cases,
        "needed": None,
        "measured_on": shown.place,
        "stand_in": None if shown.experiment is None else bool(shown.experiment["stand_in"]),
        "networks": networks,
        "decided_by": row_numbers(found.rows),
        "checks_failed": ", ".join(shown.marks),
    }


def _doubt(shown: Asked) -> list[str]:
    marks = shown.marks
    return [f"Failed checks put these numbers in doubt: {', '.join(marks)}."] if marks else []


# In substance


def _in_substance(
    part: Mapping[str, Any], tables: Tables, experiments: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return verdict and facts of a statement without its numbers."""
    if unmade := _unmade(part, tables):
        return _nothing(NOT_ASKED, unmade)
    found = list(_ask(part, tables, experiments, worst_first=True))
    asked = [Asked(e, outcome, _substance_verdict(outcome)) for e, outcome in found]
    answered = [one for one in asked if one.outcome.asked]
    if not answered:
        why = sentence(asked[0].outcome.text) if asked else _lacking(part, experiments, "")
        return _nothing(NOT_ASKED, why)
    verdict = _together(part["quantifier"], [one.verdict for one in answered])
    deciding = {MIXED: FAILS}.get(verdict, verdict)
    # Of several networks that say so, the one of which most is known.
    shown = max(
        (one for one in answered if one.verdict == deciding),
        key=lambda one: one.outcome.cases or 0,
    )
    open_ = {
        one.place: outcomes.needed(part, tables, one.experiment, one.outcome)
        for one in answered
        if one.verdict == UNDECIDED
    }
    networks = "; ".join(
        f"{one.place}: {one.verdict if one.outcome.asked else NOT_ASKED}" for one in asked
    )
    facts = _facts(shown, networks) | {"verdict": verdict}
    if verdict == UNDECIDED:
        facts["needed"] = open_[shown.place]
    return facts | {"reading": _substance_reading(part, shown, answered, open_, tables)}


def _substance_verdict(outcome: Outcome) -> str:
    if not outcome.asked:
        return NOT_ASKED
    if outcome.excluded:
        return FAILS
    return HOLDS if outcome.surely else UNDECIDED


def _together(quantifier: str, verdicts: Sequence[str]) -> str:
    """Return the verdict of several networks.

    A claim about every network falls to one that refutes it, and one about some network needs one;
    a network that leaves it open keeps either from being settled otherwise. Where each is asked for
    itself, those that leave it open don't count beside others.
    """
    settles = {"every": FAILS, "some": HOLDS}.get(quantifier)
    if settles is not None:
        if settles in verdicts:
            return settles
        # That every network does it is shown only by all, and so is that none does.
        if UNDECIDED in verdicts:
            return UNDECIDED
    said = {verdict for verdict in verdicts if verdict in (HOLDS, FAILS)}
    if len(said) == 2:
        return MIXED
    return said.pop() if said else UNDECIDED


def _substance_reading(
    part: Mapping[str, Any],
    shown: Asked,
    answered: Sequence[Asked],
    open_: Mapping[str, float | None],
    tables: Tables,
) -> str:
    """Return what was found with its numbers, where, and what stands beside it."""
    found = shown.outcome
    parts = [sentence(f"{found.text}{counted(found.cases)}")]
    if shown.experiment is not None:
        parts.append(f"Measured on {shown.place}{_stands(shown)}.")
    if shown.verdict == UNDECIDED and found.cases is not None:
        parts.append(_needed(open_[shown.place]))
    for one in answered:
        if one is not shown:
            undecided = one.verdict == UNDECIDED and one.outcome.cases is not None
            more = f" {_needed(open_[one.place])}" if undecided else ""
            said = _short(one.outcome)
            parts.append(f"On {one.place}{_stands(one)}: {one.verdict}{said}.{more}")
    values = [
        words
        for entry in part["beside"]
        if (words := outcomes.beside(part, entry, shown.experiment, tables))
    ]
    if values:
        parts.append(f"Beside it, {'; '.join(values)}.")
    return " ".join([*parts, *_doubt(shown)])


def _stands(one: Asked) -> str:
    if one.experiment is None or not one.experiment["stand_in"]:
        return ""
    return f", a stand-in for {one.experiment['document']}"


def _short(outcome: Outcome) -> str:
    if outcome.measured is None or outcome.low is None or outcome.high is None:
        return ""
    return f", {interval(outcome.measured, outcome.low, outcome.high)}{counted(outcome.cases)}"


def _needed(cases: float | None) -> str:
    if cases is None:
        return "More cases would hardly decide it."
    return f"About {number(cases)} cases would decide it, if the rates stay."


# As reported


def _as_reported(
    part: Mapping[str, Any], tables: Tables, experiments: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return verdict and facts of the document's numbers, which its own data and models decide."""
    if unmade := _unmade(part, tables):
        return _nothing(NOT_RUN, unmade)
    suited = [e for e in experiments if "data" not in part or e["document"] in part["data"]]
    asked = [
        Asked(e, outcome, _reported_verdict(outcome), _aside(part, e, outcome))
        for e, outcome in _ask(part, tables, suited, worst_first=False)
    ]
    deciding = [one for one in asked if one.aside is None]
    if not deciding:
        aside = "; ".join(f"{one.place}: {one.aside}" for one in asked)
        why = f"Nothing here decides it ({aside})." if aside else ""
        return _nothing(NOT_RUN, why or _lacking(part, suited, " of this run"))
    shown = max(deciding, key=lambda one: SEVERITY[one.verdict])
    found, value = shown.outcome, part["reported"]
    said = "" if value is None else f"; reported is {number(value)}"
    parts = [sentence(f"{found.text}{counted(found.cases)}{said}")]
    if shown.experiment is not None:
        parts.append(f"Measured on {shown.place}.")
    others = [f"{one.place} ({one.verdict})" for one in deciding if one is not shown]
    if others:
        parts.append(f"Also asked of {', '.join(others)}.")
    networks = "; ".join(f"{one.place}: {one.verdict}" for one in deciding)
    return _facts(shown, networks) | {"reading": " ".join([*parts, *_doubt(shown)])}


def _reported_verdict(outcome: Outcome) -> str:
    if not outcome.asked:
        return NOT_RUN
    if outcome.holds:
        return REPRODUCED
    against = outcome.excluded if outcome.contradicted is None else outcome.contradicted
    return CONTRADICTED if against else NOT_REPRODUCED


def _aside(
    part: Mapping[str, Any], experiment: Mapping[str, Any] | None, found: Outcome
) -> str | None:
    """Return why an experiment does not decide a claim as reported; None where it does."""
    if not found.asked:
        return found.text
    if experiment is not None:
        if experiment["document"] is None:
            return "not the document's data"
        if experiment["stand_in"]:
            return f"a stand-in for {experiment['document']}"
        if "networks" in part and experiment["architecture"] not in part["networks"]:
            return f"another network than {', '.join(part['networks'])}"
    if found.least_cases is not None and found.least_cases < part["images"]:
        return f"{found.least_cases:.0f} cases, where at least {part['images']} decide"
    return None
