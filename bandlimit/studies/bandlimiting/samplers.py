"""Ways to find the directions of post-averaging, compared on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from bandlimit.attacks import selection
from bandlimit.files import store, tables
from bandlimit.files.tables import Column, Table
from bandlimit.statistics import mcnemar, wilson
from bandlimit.studies.bandlimiting.tables import bound

COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "attack": Column("Attack"),
    "sampler": Column("Sampler"),
    "directions": Column("K"),
    "images": Column("N"),
    "adversarial": Column("#Adv"),
    "defense_rate": Column("Defence rate", 4),
    "low": Column("95% low", 4),
    "high": Column("95% high", 4),
    "better": Column("Restored by it alone"),
    "worse": Column("By random alone"),
    "p_value": Column("p, McNemar", 4),
}

REFERENCE = "random"
"""The sampler of the document's tables; its section 3.2 finds the others worse."""


def rates(
    attacked: pd.DataFrame, defended: pd.DataFrame, samplers: Sequence[str], directions: int
) -> pd.DataFrame:
    """Return a row per sampler, random first: what it restores of one attacked set.

    Args:
        attacked: one row per image: image_id, attacked (whether it is in the attacked set A).
        defended: image_id, sampler, correct; a row per image of A and sampler at least.
        samplers: those that were asked, for a set of which no image is in A.
        directions: K of each.

    Columns: sampler, directions, adversarial |A|, defense_rate (null if A is empty), its Wilson 95%
    interval low and high, better and worse (images that this sampler alone or the random one alone
    restores), p_value (McNemar's exact test of these). The last three are null for the random
    sampler, without it, and of no image.

    Raises:
        ValueError: a record of an image of A is missing, or there are two.
    """
    members = attacked.loc[attacked["attacked"].astype(bool), "image_id"]
    correct = defended.pivot(index="image_id", columns="sampler", values="correct")
    correct = correct.reindex(index=members, columns=list(samplers))
    if correct.isna().any(axis=None):
        raise ValueError("records of a sampler are missing")
    rows: list[dict[str, Any]] = []
    for sampler in sorted(correct.columns, key=lambda name: (name != REFERENCE, name)):
        own = correct[sampler].astype(bool)
        low, high = wilson(int(own.sum()), len(own))
        row = {
            "sampler": sampler,
            "directions": directions,
            "adversarial": len(own),
            "defense_rate": float(own.mean()) if len(own) else None,
            "low": low,
            "high": high,
        }
        rows.append(row | _paired(own, correct, sampler))
    kinds = {"defense_rate": float, "low": float, "high": float, "p_value": float}
    return pd.DataFrame(rows).astype({**kinds, "better": "Int64", "worse": "Int64"})


def _paired(own: pd.Series, correct: pd.DataFrame, sampler: str) -> dict[str, Any]:
    if own.empty or sampler == REFERENCE or REFERENCE not in correct.columns:
        return {"better": None, "worse": None, "p_value": None}
    reference = correct[REFERENCE].astype(bool)
    better, worse = int((own & ~reference).sum()), int((~own & reference).sum())
    return {"better": better, "worse": worse, "p_value": mcnemar(own, reference)}


def table(
    names: Sequence[Mapping[str, Any]], adversarial: Sequence[str], evaluations: Sequence[str]
) -> Table:
    """Return the table of section 3.2: random directions against those towards hyperplanes.

    Args:
        names: dataset, model, attack, epsilon, samplers and directions of each pair of files.
        adversarial: adversarial sets.
        evaluations: what the samplers restore of each.
    """
    where, column = bound(names)
    asked = {(n["dataset"], n["model"]): (n["samplers"], n["directions"]) for n in names}
    files: dict[tuple[str, str, str, float], list[tuple[str, str]]] = {}
    for name, *paths in zip(names, adversarial, evaluations, strict=True):
        key = (name["dataset"], name["model"], name["attack"], name["epsilon"])
        files.setdefault(key, []).append((paths[0], paths[1]))
    parts = []
    for (dataset, model, attack, epsilon), shards in files.items():
        sets, judged = zip(*shards, strict=True)
        columns = ["image_id", "epsilon", "success", "linf"]
        found = pa.concat_tables(store.read(path, columns) for path in sets)
        attacked = selection.select(found, epsilon).to_pandas()
        own = rates(attacked, tables.read_all(judged), *asked[dataset, model])
        own = own.assign(dataset=dataset, model=model, attack=attack, images=len(attacked))
        own = own.assign(**{name: epsilon for name in column})
        parts.append(own)
    frame = pd.concat(parts, ignore_index=True)
    return Table(
        frame[["dataset", "model", "attack", *frame.columns.drop(["dataset", "model", "attack"])]],
        {**column, **COLUMNS},
        title=f"Section 3.2: samplers of directions {where}",
        note="#Adv of N images are adversarial within epsilon. The defence rate is the share of "
        "these that post-averaging classifies correctly, with its Wilson 95% interval; p is "
        "McNemar's exact test against random directions on the same images. The document says that "
        "random directions work better than those towards the nearest hyperplanes, and gives no "
        "numbers.",
    )
