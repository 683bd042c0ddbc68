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

RANGES = {
    "rate": (0.0, 1.0),
    "difference": (-1.0, 1.0),
    "positive": (0.0, math.inf),
    "any": (-math.inf, math.inf),
}


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
    if kinds == ["order"]:
        members = [value for group in test["order"]["groups"] for value in group]
        if len(set(members)) < len(members):
            raise UserError(f"{name} has a value in its groups twice; an order has each once.")


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
