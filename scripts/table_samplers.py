"""Section 3.2: random directions against directions towards the nearest hyperplanes."""

import pandas as pd
import pyarrow as pa

from bandlimit import attacks, samplers, store, tables
from bandlimit.tables import Column
from job import run

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


def main(job):
    p = job.params
    files = {}
    for name, *paths in zip(p.names, job.input.adversarial, job.input.evaluations, strict=True):
        files.setdefault(tuple(name), []).append(paths)
    parts = []
    for (dataset, model, attack), shards in files.items():
        adversarial, evaluations = zip(*shards, strict=True)
        columns = ["image_id", "epsilon", "success", "linf"]
        records = pa.concat_tables(store.read(path, columns) for path in adversarial)
        attacked = attacks.select(records, p.epsilon).to_pandas()
        rates = samplers.rates(attacked, tables.read_all(evaluations))
        names = {"dataset": dataset, "model": model, "attack": attack}
        parts.append(rates.assign(**names, images=len(attacked)))
    frame = pd.concat(parts, ignore_index=True)
    tables.save(
        frame[["dataset", "model", "attack", *frame.columns.drop(["dataset", "model", "attack"])]],
        COLUMNS,
        **job.table_files(),
        title=f"Section 3.2: samplers of directions at epsilon = {p.epsilon * 255:.3g}/255",
        note="#Adv of N images are adversarial within epsilon. The defence rate is "
        "the share of these that post-averaging labels rightly, with its Wilson 95% interval; p is "
        "McNemar's exact test against random directions on the same images. The document says that "
        "random directions work better than those towards the nearest hyperplanes, and gives no "
        "numbers.",
        certificate=job.certificate(),
    )


run(main, snakemake)
