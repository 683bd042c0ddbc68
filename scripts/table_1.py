"""Table 1: the model with and without the defence, on the clean and the attacked set."""

import pandas as pd

from bandlimit import claims, store, tables
from bandlimit.tables import Column
from defense_columns import ACCURACIES, RATES, accuracy
from job import run

COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "attack": Column("Attack"),
    "reported_dataset": Column("Reported for"),
    **RATES,
    **accuracy("clean_undefended", "Clean"),
    **ACCURACIES,
    "deviation": Column("sd over draws", 4),
    "ceiling": Column("Ceiling", 4, interval=("ceiling_low", "ceiling_high")),
}


def main(job):
    p = job.params
    rates = store.read(job.input.rates).to_pandas()
    reported = claims.reported(job.input.claims, "table_1").rename(
        columns=lambda name: name if name == "attack" else f"reported_{name}"
    )
    parts = []
    for e in p.experiments:
        own = rates[
            (rates["dataset"] == e["dataset"])
            & (rates["model"] == e["model"])
            & (rates["radius"] == e["radius"])
            & (rates["directions"] == e["directions"])
            & ((rates["epsilon"] - p.epsilon).abs() < 1e-9)
        ]
        beside = reported[reported["reported_dataset"] == e["document"]]
        parts.append(own.merge(beside, on="attack", how="left"))
    tables.save(
        pd.concat(parts, ignore_index=True),
        COLUMNS,
        **job.table_files(),
        title=f"Table 1: post-averaging at epsilon = {p.epsilon * 255:.3g}/255",
        note="Clean and attacked are accuracies on the clean and the attacked set of N images; "
        "#Adv of them are adversarial within epsilon. The defence rate is the share of #Adv that "
        "the defended model labels rightly; the ceiling is the same for the clean images of #Adv. "
        "Rates of the defence are means over draws of directions. Wilson 95% intervals are in "
        "brackets, and count images, not draws. Reported numbers are the document's, for the data "
        "set named and its own model.",
        certificate=job.certificate(),
    )


run(main, snakemake)
