"""Section 2.2: hyperplanes crossed, by attack, and by random perturbations of equal length."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from bandlimit.claims import reported
from bandlimit.files import store
from bandlimit.files.tables import Column, Table
from bandlimit.studies.bandlimiting import crossings
from bandlimit.studies.bandlimiting.tables import bound

CROSSED = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "attack": Column("Attack"),
    "kind": Column("Perturbation"),
    "images": Column("Images"),
    "mean_l2": Column("Mean L2", 3),
    "crossed_per_layer": Column("Crossed per layer", 1),
    "crossed_per_layer_low": Column("Crossed, 95% low", 1),
    "crossed_per_layer_high": Column("Crossed, 95% high", 1),
    "share": Column("Share, %", 2, 100),
    "share_low": Column("Share, 95% low", 2, 100),
    "share_high": Column("Share, 95% high", 2, 100),
    "path_per_layer": Column("On the way, per layer", 1),
    "ratio_to_gaussian": Column("Ratio to Gaussian", 2),
    "reported_model": Column("Reported for"),
    "reported_mean_l2": Column("Reported L2", 2),
    "reported_crossed_per_layer": Column("Reported per layer", 0),
}


def counted(paths: Sequence[str], names: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the crossings of images within epsilon, with dataset, model and attack.

    Args:
        paths: files of crossings.
        names: dataset, model, attack and epsilon of each.
    """
    files: dict[tuple[str, str, str, float], list[str]] = {}
    for path, name in zip(paths, names, strict=True):
        key = (name["dataset"], name["model"], name["attack"], name["epsilon"])
        files.setdefault(key, []).append(path)
    parts = []
    for (*group, epsilon), shards in files.items():
        of_attack = pa.concat_tables(map(store.read, shards))
        chosen = crossings.within(of_attack, epsilon)
        parts.append(chosen.assign(**dict(zip(crossings.GROUP, group, strict=True))))
    return pd.concat(parts, ignore_index=True)


def table(
    found: pd.DataFrame,
    names: Sequence[Mapping[str, Any]],
    claims: str | os.PathLike[str],
    segments: int,
) -> Table:
    """Return the table of crossings.

    Args:
        found: as `counted` returns it.
        names: as of `counted`.
        claims: the claims file that holds what the document reports.
        segments: parts in which the path from a clean to an adversarial image was seen.
    """
    document = reported.reported(claims, "crossings").add_prefix("reported_")
    groups = [[name[key] for key in crossings.GROUP] for name in names]
    # The document counts no controls; its one number stands beside each attack.
    frame = crossings.summary(found, groups).merge(
        document.assign(kind="adversarial"), on="kind", how="left", validate="many_to_one"
    )
    column = bound(names)[1]
    if column:
        of_group = pd.DataFrame(names)[[*crossings.GROUP, *column]].drop_duplicates()
        frame = frame.merge(of_group, on=crossings.GROUP, how="left", validate="many_to_one")
    return Table(
        frame,
        {**column, **CROSSED},
        title="Section 2.2: hyperplanes crossed by adversarial and by random perturbations",
        note="Units whose pre-activation changes side between the clean and the perturbed image: a "
        "mean over ReLU layers, then over images, with 95% t intervals over images; a ReLU6 unit "
        "has two hyperplanes. 'On the way' counts all changes along the straight path, seen in "
        f"{segments} parts. Random perturbations have the L2 norm of the adversarial one of the "
        "same image. Reported numbers are the document's, which has no control.",
    )
