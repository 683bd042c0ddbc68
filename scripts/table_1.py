"""Table 1: the model with and without the defence, on the clean and the attacked set."""

import pandas as pd

from bandlimit import claims, store, tables
from bandlimit.tables import Column
from job import run

COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "attack": Column("Attack"),
    "reported_dataset": Column("Reported for"),
    "images": Column("N"),
    "reported_images": Column("Reported N", 0),
    "adversarial": Column("#Adv"),
    "reported_adversarial": Column("Reported #Adv", 0),
    "defense_rate": Column("Defence rate", 4, interval=("low", "high")),
    "reported_defense_rate": Column("Reported rate", 4),
    "radius": Column("r", 2),
    "reported_radius": Column("Reported r", 2),
    "clean_undefended": Column(
        "Clean", 4, interval=("clean_undefended_low", "clean_undefended_high")
    ),
    "reported_clean_undefended": Column("Reported clean", 4),
    "attacked_undefended": Column(
        "Attacked", 4, interval=("attacked_undefended_low", "attacked_undefended_high")
    ),
    "reported_attacked_undefended": Column("Reported attacked", 4),
    "clean_defended": Column(
        "Clean, defended", 4, interval=("clean_defended_low", "clean_defended_high")
    ),
    "reported_clean_defended": Column("Reported clean, defended", 4),
    "attacked_defended": Column(
        "Attacked, defended", 4, interval=("attacked_defended_low", "attacked_defended_high")
    ),
    "reported_attacked_defended": Column("Reported attacked, defended", 4),
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
