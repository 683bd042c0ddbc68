"""What a claims file may say: read, checked, and refused where a test can't fail or can't hold.

docs/claims.md explains the grammar.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import Any

from bandlimit.claims import reported
from bandlimit.config.schema import check, read_schema
from bandlimit.errors import UserError, suggest
from bandlimit.statistics import Interval

NUMBERS = ("measured", "low", "high", "cases")
"""What the summary may ask of a claim in substance."""

RANGES = {
    "rate": (0.0, 1.0),
    "difference": (-1.0, 1.0),
    "positive": (0.0, math.inf),
    "any": (-math.inf, math.inf),
}


SUBSTANCE, REPORTED = "in_substance", "as_reported"

PARTS = (SUBSTANCE, REPORTED)
"""Parts of a claim, each with tests of its own: without the document's numbers, and with them."""

SHARED = ("id", "needs", "optional", "records", "rows", "beside")
"""What both parts have of their claim, where they don't say it themselves."""


def part_of(claim: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a part of a claim, with what it shares with the other."""
    return {key: claim[key] for key in SHARED if key in claim} | dict(claim[name])


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
    document = check(reported.read(claims_file), read_schema(Path(schema)), where)
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
        for name in PARTS:
            part = part_of(claim, name)
            for entry in [*part["tests"], *part["beside"]]:
                if "records" not in part | entry:
                    raise UserError(
                        f"{entry['label']!r} of the claim {claim['id']} has no 'records'; the "
                        "claim or the test must name the table that it reads."
                    )
            for test in part["tests"]:
                _check_test(test, f"The test {test['label']!r} of the claim {claim['id']}")
                if name == SUBSTANCE:
                    _check_substance(test, f"The test {test['label']!r} of {claim['id']}")
    _check_summary(document, ids, where)
    return document


SOURCES = ("n", "low", "error", "exact")
"""Keys of a test that say how sure its value is."""


def _check_test(test: Mapping[str, Any], name: str) -> None:
    """Refuse a test that is incomplete, can't fail or can't hold."""
    kinds = [kind for kind in ("within", "order", "trend") if kind in test]
    if len(kinds) != 1:
        raise UserError(
            f"{name} needs one of 'within', 'order' and 'trend', got "
            f"{' and '.join(kinds) or 'none'}."
        )
    sources = [key for key in SOURCES if test.get(key)]
    if len(sources) != 1 or ("low" in test) != ("high" in test):
        raise UserError(
            f"{name} must say how sure its value is by one of 'n', 'low' with 'high', 'error', and "
            f"'exact: true', got {' and '.join(sources) or 'none'}."
        )
    if "minus" in test and "n" not in test:
        raise UserError(f"{name} has 'minus', which needs the number of cases as 'n'.")
    if "differ" in test and "minus" not in test:
        raise UserError(f"{name} has 'differ', which says how often a rate and 'minus' differ.")
    if "cases" in test and "n" in test:
        raise UserError(f"{name} has 'cases' beside 'n', which says it already.")
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
            check_bounds(test, *open_ended(test["within"]), name)
        return
    if test["aggregate"] != "only":
        raise UserError(f"{name} looks at all rows, so it takes no 'aggregate'.")
    low, high = RANGES[test["range"]]
    if kinds == ["trend"] and test["trend"]["slack"] >= high - low:
        raise UserError(
            f"{name} can't fail: its slack of {test['trend']['slack']} is as wide as the range "
            f"of a value of the kind {test['range']!r}."
        )
    if test[kinds[0]]["margin"] > high - low:
        raise UserError(
            f"{name} can't hold: its margin of {test[kinds[0]]['margin']} is wider than the range "
            f"of a value of the kind {test['range']!r}."
        )
    if kinds == ["order"]:
        members = [value for group in test["order"]["groups"] for value in group]
        if len(set(members)) < len(members):
            raise UserError(f"{name} has a value in its groups twice; an order has each once.")


def _check_substance(test: Mapping[str, Any], name: str) -> None:
    """Refuse a test in substance whose outcome could mean nothing.

    A difference that is merely above 0, however small, is no substance: some effect must be named
    that is worth the name.
    """
    if "contradicts" in test:
        raise UserError(f"{name} has 'contradicts', which is for a claim as reported.")
    if any(isinstance(bound, str) for bound in test.get("within", [])):
        raise UserError(
            f"{name} is of a claim in substance, whose bounds are numbers, got "
            f"{test['within']}; what a column says is for the claim as reported."
        )
    change = test["range"] == "difference" or test["aggregate"] == "spread"
    if "within" in test and change and not test["exact"] and 0 in test["within"]:
        other = test["within"][1 - test["within"].index(0)]
        if other is None or abs(other) >= RANGES[test["range"]][1]:
            raise UserError(
                f"{name} asks only for the sign of a difference, which the least effect would "
                f"meet; a bound other than 0 is needed, got {test['within']}."
            )
    for kind in ("order", "trend"):
        if kind in test and not test["exact"] and not test[kind]["margin"] > 0:
            raise UserError(
                f"{name} asks only for the sign of a change, which the least effect would meet; "
                f"'{kind}' needs a 'margin' above 0."
            )


def _check_contradicts(test: Mapping[str, Any], kinds: Sequence[str], name: str) -> None:
    """Refuse values that contradict where there is no 'within' in numbers, or that it allows."""
    if kinds != ["within"] or any(isinstance(bound, str) for bound in test["within"]):
        raise UserError(f"{name} has 'contradicts', which needs 'within' with numbers.")
    (least, greatest), (low, high) = map(open_ended, (test["within"], test["contradicts"]))
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


def open_ended(bounds: Sequence[float | None]) -> Interval:
    """Return two bounds, infinite where nothing is said."""
    low, high = bounds
    return (-math.inf if low is None else low), (math.inf if high is None else high)


def check_bounds(test: Mapping[str, Any], low: float, high: float, name: str) -> None:
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
        used = [field.split(".") for field in fields(variant["say"])]
        for name in [*variant["when"], *(field[0] for field in used)]:
            if name not in known:
                raise UserError(
                    f"The summary of {where} names the claim {name!r}; {suggest(name, known)}."
                )
        for field in used:
            if len(field) != 2 or field[1] not in NUMBERS:
                raise UserError(
                    f"The summary of {where} asks for {'.'.join(field)!r}; of a claim it may ask "
                    f"for {', '.join(NUMBERS)}."
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
