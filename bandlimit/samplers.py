"""Ways to find the directions of post-averaging, compared on the same images."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bandlimit.statistics import mcnemar, wilson

REFERENCE = "random"
"""The sampler of the document's tables; its section 3.2 finds the others worse."""


def rates(attacked: pd.DataFrame, defended: pd.DataFrame) -> pd.DataFrame:
    """Return a row per sampler, random first: what it restores of one attacked set.

    Args:
        attacked: one row per image: image_id, attacked (whether it is in the attacked set A).
        defended: image_id, sampler, directions, correct; a row per image of A and sampler at least.

    Columns: sampler, directions, adversarial |A|, defense_rate (null if A is empty), its Wilson 95%
    interval low and high, better and worse (images that this sampler alone or the random one alone
    restores), p_value (McNemar's exact test of these; null for the random sampler and without it).

    Raises:
        ValueError: a record of an image of A is missing, or there are two.
    """
    members = attacked.loc[attacked["attacked"].astype(bool), "image_id"]
    correct = defended.pivot(index="image_id", columns="sampler", values="correct")
    correct = correct.reindex(members)
    if correct.isna().any(axis=None):
        raise ValueError("records of a sampler are missing")
    directions = defended.groupby("sampler")["directions"].first()
    rows: list[dict[str, Any]] = []
    for sampler in sorted(correct.columns, key=lambda name: (name != REFERENCE, name)):
        own = correct[sampler].astype(bool)
        low, high = wilson(int(own.sum()), len(own))
        row = {
            "sampler": sampler,
            "directions": int(directions[sampler]),
            "adversarial": len(own),
            "defense_rate": float(own.mean()) if len(own) else None,
            "low": low,
            "high": high,
        }
        rows.append(row | _paired(own, correct, sampler))
    kinds = {"defense_rate": float, "low": float, "high": float, "p_value": float}
    return pd.DataFrame(rows).astype({**kinds, "better": "Int64", "worse": "Int64"})


def _paired(own: pd.Series, correct: pd.DataFrame, sampler: str) -> dict[str, Any]:
    if sampler == REFERENCE or REFERENCE not in correct.columns:
        return {"better": None, "worse": None, "p_value": None}
    reference = correct[REFERENCE].astype(bool)
    better, worse = int((own & ~reference).sum()), int((~own & reference).sum())
    return {"better": better, "worse": worse, "p_value": mcnemar(own, reference)}
