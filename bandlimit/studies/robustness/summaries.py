"""What the examination of one defence found, for a page of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bandlimit import statistics
from bandlimit.studies.robustness.checks import CHECKS, NOT_RUN
from bandlimit.studies.robustness.rates import CLEAN, MODEL, STRONGEST, UNDEFENDED

HOLDS, FAILS, OPEN = "holds", "does not hold", "not shown"

LITTLE = 0.05
"""Points of accuracy under attack that a defence must add to that of the network without it."""

MUCH = 0.2
"""Points that it surely does not add where it is said not to hold."""


def summary(
    defense: str,
    tables: Mapping[str, pd.DataFrame],
    experiments: list[Mapping[str, Any]],
    *,
    decides: bool = True,
) -> list[dict[str, Any]]:
    """Return what was found of a defence, an entry for each experiment that examines it.

    Args:
        defense: its name.
        tables: robust_accuracy and sanity, and controls and comparisons where there are any; the
            latter compares this defence with each control.
        experiments: dataset, model, and epsilon, the l_inf bound in [0, 1] pixels.
        decides: whether the run may decide it; one that only shows that everything runs may not.

    Returns:
        Of each: dataset, model, epsilon; verdict and reading, a sentence; clean, rates of the
        network and of the defence on clean images, and cost, the difference; suggested, a row per
        attack of the documents on which the defence was tried; attacked, a row per epsilon under
        the strongest attack; strongest, a row per attack on the defence at epsilon; failed, passed
        and not_run checks; controls, a row per control and attack.
    """
    robust = tables["robust_accuracy"]
    found = []
    for experiment in experiments:
        own = _of(robust, experiment)
        if not (own["defense"] == defense).any():
            continue
        found.append(_one(defense, own, {k: _of(t, experiment) for k, t in tables.items()}))
        found[-1] |= {key: experiment[key] for key in (*MODEL, "epsilon")}
        found[-1] |= _judged(found[-1], experiment["epsilon"])
        if not decides:
            reading = f"A smoke test decides nothing. {found[-1]['reading']}"
            found[-1] |= {"verdict": OPEN, "reading": reading}
    return found


def _of(table: pd.DataFrame, experiment: Mapping[str, Any]) -> pd.DataFrame:
    return table[(table[list(MODEL)] == [experiment[name] for name in MODEL]).all(axis=1)]


def _rate(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("mean", "low", "high", "images")}


def _rows(frame: pd.DataFrame) -> list[Any]:
    return list(frame.itertuples(index=False))


def _one(defense: str, robust: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    mine, bare = (robust[robust["defense"] == name] for name in (defense, UNDEFENDED))
    clean = [_rows(part[part["attack"] == CLEAN]) for part in (bare, mine)]
    without = {row.epsilon: row for row in _rows(bare[bare["attack"] == STRONGEST])}
    attacked = []
    for row in _rows(mine[mine["attack"] == STRONGEST]):
        other = without.get(row.epsilon)
        attacked.append(
            {"epsilon": row.epsilon, **_rate(row), "bare": _rate(other) if other else None}
        )
    transferred = mine[(mine["against"] == UNDEFENDED) & (mine["attack"] != CLEAN)]
    checks = tables["sanity"][tables["sanity"]["defense"].isin([defense, UNDEFENDED])]
    return {
        "clean": {
            "bare": _rate(clean[0][0]) if clean[0] else None,
            "defended": _rate(clean[1][0]),
        },
        "cost": _difference(clean[0][0], clean[1][0]) if clean[0] else None,
        "suggested": _suggested(defense, tables, transferred),
        "attacked": attacked,
        "attacks": [
            {"attack": row.attack, "against": row.against, "epsilon": row.epsilon, **_rate(row)}
            for row in _rows(mine[~mine["attack"].isin([CLEAN, STRONGEST])])
        ],
        **_checked(checks, defense),
        "controls": _controls(defense, tables),
    }


def _difference(a: Any, b: Any) -> dict[str, float]:
    """Return a - b with Newcombe's interval."""
    low, high = statistics.square_and_add(a.mean, (a.low, a.high), b.mean, (b.low, b.high))
    return {"difference": a.mean - b.mean, "low": low, "high": high}


def _suggested(
    defense: str, tables: Mapping[str, pd.DataFrame], transferred: pd.DataFrame
) -> list[dict[str, Any]]:
    """Return what attackers who don't know the defence leave, as the documents measure it."""
    controls = tables.get("controls")
    if controls is not None:
        own = controls[(controls["control"] == defense) & (controls["attack"] != CLEAN)]
        if len(own):
            return [
                {
                    "attack": row.attack,
                    "mean": row.restored,
                    "low": row.low,
                    "high": row.high,
                    "images": row.adversarial,
                    "restored": True,
                }
                for row in _rows(own)
                if row.adversarial
            ]
    return [
        {"attack": row.attack, "epsilon": row.epsilon, **_rate(row), "restored": False}
        for row in _rows(transferred)
    ]


def _checked(checks: pd.DataFrame, defense: str) -> dict[str, Any]:
    """Return the checks that failed, with what they mark, and the counts of the others.

    Of the network without a defence those count that say whether the attacks can be trusted.
    """
    whole = ("model", "network", "sets")
    rows = [
        row for row in _rows(checks) if row.defense == defense or CHECKS[row.check].marks in whole
    ]
    return {
        "failed": [
            {"question": row.question, "note": row.note, "marks": CHECKS[row.check].marks}
            for row in rows
            if not pd.isna(row.passed) and not row.passed
        ],
        "passed": sum(not pd.isna(row.passed) and bool(row.passed) for row in rows),
        "not_run": [
            {"question": row.question, "note": str(row.note).removeprefix(NOT_RUN)}
            for row in rows
            if pd.isna(row.passed)
        ],
    }


def _controls(defense: str, tables: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Return the controls that restore no less than the defence, attack by attack."""
    compared = tables.get("comparisons")
    if compared is None:
        return []
    # As good or better: no difference is shown, or one in the control's favour.
    return [
        {
            "control": row.control,
            "attack": row.attack,
            "difference": row.difference,
            "p": row.p_holm,
            "images": row.images,
            "better": bool(row.different) and row.difference < 0,
        }
        for row in _rows(compared[compared["reference"] == defense])
        if row.control not in (UNDEFENDED, defense)
        and row.attack != CLEAN
        and row.images
        and not (row.different and row.difference > 0)
    ]


def _judged(found: Mapping[str, Any], epsilon: float) -> dict[str, Any]:
    """Return the verdict on a defence at its experiment's bound, and a sentence that says why."""
    here = [row for row in found["attacked"] if abs(row["epsilon"] - epsilon) < 1e-9]
    here = here or found["attacked"][-1:]
    if any(check["marks"] == "model" for check in found["failed"]):
        why = "the network without a defence is not above chance on clean images"
        return {"verdict": OPEN, "judged_at": None, "reading": f"Nothing is shown, since {why}."}
    if not here or here[0]["bare"] is None:
        why = (
            "it was not attacked by anyone who knows it"
            if not here
            else ("the network without a defence was not attacked")
        )
        return {"verdict": OPEN, "judged_at": None, "reading": f"Nothing is shown, since {why}."}
    row = here[0]
    bare = row["bare"]
    low, high = statistics.square_and_add(
        row["mean"], (row["low"], row["high"]), bare["mean"], (bare["low"], bare["high"])
    )
    # A failed check says that attacks may be too weak: what they leave is then no proof.
    doubted = [check for check in found["failed"] if check["marks"] != "sets"]
    why = (
        f"attackers who know it leave {row['mean']:.0%} of {row['images']} images correct, against "
        f"{bare['mean']:.0%} without it"
    )
    if row["mean"] - bare["mean"] <= LITTLE and high <= MUCH:
        verdict = FAILS
    elif doubted:
        verdict = OPEN
        checks = "a failed check says" if len(doubted) == 1 else f"{len(doubted)} failed checks say"
        why += f"; {checks} that stronger attacks may exist"
    elif low > LITTLE:
        verdict = HOLDS
        why += "; every check that ran passed"
    else:
        verdict = OPEN
        why += ": too few images to tell the two apart, so raise `images` of its experiment"
    at = f"At epsilon = {255 * row['epsilon']:.3g}/255"
    return {"verdict": verdict, "judged_at": row["epsilon"], "reading": f"{at}, {why}."}
