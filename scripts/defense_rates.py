"""Count, for each attack, epsilon and setting, what the defence restores."""

import pandas as pd
import pyarrow as pa

from bandlimit import attacks, metrics, store, tables
from bandlimit.settings import FIXED
from bandlimit.tables import Column
from job import run

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


def paths(start, experiment, inputs, defense):
    """Return the files of one input set, shard by shard."""
    folder = f"{start}/{experiment['dataset']}/{experiment['model']}/{inputs}{defense}"
    return [f"{folder}/{shard}.parquet" for shard in experiment["shards"]]


def experiment_rates(experiment, epsilons):
    """Return the rates of one experiment, for all its attacks."""
    undefended = tables.read_all(paths("results/evaluations", experiment, "clean", "/undefended"))
    clean = tables.read_all(paths("results/evaluations", experiment, "clean", "/post_averaging"))
    rows = []
    for attack in experiment["attacks"]:
        records = pa.concat_tables(
            store.read(path, [name for name in store.columns(path) if name != "image"])
            for path in paths("results/adversarial", experiment, attack, "")
        )
        defended = tables.read_all(
            paths("results/evaluations", experiment, attack, "/post_averaging")
        )
        known = experiment["epsilons"].get(attack, epsilons)
        for epsilon in known:
            attacked = attacks.select(records, epsilon).to_pandas()
            of_epsilon = defended
            if attack in FIXED:
                of_epsilon = defended[(defended["epsilon"] - epsilon).abs() < 1e-9]
            settings = [(radius, k) for radius, k, _ in experiment["settings"][attack]]
            rates = metrics.defense_rates(undefended, attacked, clean, of_epsilon, settings)
            members = attacked[attacked["attacked"]]
            rows.append(
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
    return rows


def main(job):
    p = job.params
    frame = pd.concat(
        [rates for e in p.experiments for rates in experiment_rates(e, p.epsilons)],
        ignore_index=True,
    )
    first = ["dataset", "model", "attack", "epsilon"]
    frame = frame[first + [name for name in frame.columns if name not in first]]
    tables.save(
        frame,
        COLUMNS,
        **job.table_files(),
        title="Defence rates of post-averaging, all settings",
        note="N images, #Adv adversarial images within epsilon; the defence rate is the share of "
        "these that post-averaging labels rightly, with Wilson 95% intervals. Radii are L2 in "
        "standardised input space.",
        certificate=job.certificate(),
    )


run(main, snakemake)
