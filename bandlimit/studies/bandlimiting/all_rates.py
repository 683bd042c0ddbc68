"""The table of all rates, counted from the records of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from bandlimit.attacks import selection
from bandlimit.files import store, tables
from bandlimit.files.tables import Column, Table
from bandlimit.studies.bandlimiting import rates as counted

COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "attack": Column("Attack"),
    "epsilon": Column("ε · 255", 1, 255),
    "radius": Column("r", 2),
    "directions": Column("K"),
    "images": Column("N"),
    "adversarial": Column("#Adv"),
    "defense_rate": Column("Defence rate", 4),
    "low": Column("95% low", 4),
    "high": Column("95% high", 4),
}


def table(experiments: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table.

    Args:
        experiments: of each, dataset, model, attacks, shards, settings (radius, directions and
            draws by attack), bounds (l_inf in [0, 1] of attacks that minimise) and fixed (those of
            the others, by attack), and main: epsilon, radius and directions of the main setting.

    Raises:
        UserError: a file is missing or damaged.
        ValueError: records contradict each other; see `rates.defense_rates`.
    """
    parts = [part for experiment in experiments for part in _experiment(experiment)]
    frame = pd.concat(parts, ignore_index=True)
    first = ["dataset", "model", "attack", "epsilon"]
    return Table(
        frame[first + [name for name in frame.columns if name not in first]],
        COLUMNS,
        title="Defence rates of post-averaging, all settings",
        note="N images, #Adv adversarial images within epsilon; the defence rate is the share of "
        "these that post-averaging classifies correctly, with Wilson 95% intervals. Radii are L2 "
        "in standardised input space.",
    )


def _experiment(experiment: Mapping[str, Any]) -> list[pd.DataFrame]:
    """Return the rates of one experiment, for all its attacks."""
    undefended = tables.read_all(_files("evaluations", experiment, "clean", "/undefended"))
    clean = tables.read_all(_files("evaluations", experiment, "clean", "/post_averaging"))
    rows = []
    for attack in experiment["attacks"]:
        found = pa.concat_tables(
            store.read(path, [name for name in store.columns(path) if name != "image"])
            for path in _files("adversarial", experiment, attack, "")
        )
        defended = tables.read_all(_files("evaluations", experiment, attack, "/post_averaging"))
        fixed = experiment["fixed"].get(attack)
        settings = [(radius, k) for radius, k, _ in experiment["settings"][attack]]
        sets = []
        of_attack = []
        for epsilon in experiment["bounds"] if fixed is None else fixed:
            attacked = selection.select(found, epsilon).to_pandas()
            of_epsilon = defended
            if fixed is not None:
                of_epsilon = defended[(defended["epsilon"] - epsilon).abs() < 1e-9]
            rates = counted.defense_rates(undefended, attacked, clean, of_epsilon, settings)
            members = attacked[attacked["attacked"]]
            sets.append(counted.Attacked(epsilon, members["image_id"].tolist(), of_epsilon))
            of_attack.append(
                rates.assign(
                    dataset=experiment["dataset"],
                    model=experiment["model"],
                    attack=attack,
                    epsilon=epsilon,
                    nan_gradient=int((attacked["status"] == "nan_gradient").sum()),
                    median_linf=members["linf"].median(),
                    median_l2=members["l2"].median(),
                )
            )
        changes = counted.changes(sets, clean, settings, tuple(experiment["main"]))
        keys = ["epsilon", "radius", "directions"]
        rows.append(pd.concat(of_attack).merge(changes, on=keys, validate="one_to_one"))
    return rows


def _files(folder: str, experiment: Mapping[str, Any], inputs: str, defense: str) -> list[str]:
    """Return the files of one input set, shard by shard."""
    place = f"results/{folder}/{experiment['dataset']}/{experiment['model']}/{inputs}{defense}"
    return [f"{place}/{shard}.parquet" for shard in experiment["shards"]]
