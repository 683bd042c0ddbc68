"""Table 2: the defence against minimal PGD by number of directions."""

import pandas as pd

from bandlimit import claims, store, tables
from bandlimit.tables import Column
from job import run

ATTACK = "pgd_minimal"
COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "directions": Column("K"),
    "forwards": Column("Forward passes"),
    "images": Column("N"),
    "attacked_undefended": Column("Attacked", 4),
    "clean_defended": Column("Clean, defended", 4),
    "attacked_defended": Column("Attacked, defended", 4),
    "adversarial": Column("#Adv"),
    "defense_rate": Column("Defence rate", 4),
    "low": Column("95% low", 4),
    "high": Column("95% high", 4),
    "reported_adversarial": Column("Reported #Adv", 0),
    "reported_defense_rate": Column("Reported rate", 4),
}


def main(job):
    p = job.params
    rates = store.read(job.input.rates).to_pandas()
    reported = claims.reported(job.input.claims, "table_2").rename(
        columns=lambda name: name if name == "directions" else f"reported_{name}"
    )
    parts = [
        rates[
            (rates["dataset"] == e["dataset"])
            & (rates["model"] == e["model"])
            & (rates["attack"] == ATTACK)
            & (rates["radius"] == e["radius"])
            & ((rates["epsilon"] - p.epsilon).abs() < 1e-9)
        ].merge(reported, on="directions", how="left")
        for e in p.experiments
    ]
    frame = pd.concat(parts, ignore_index=True)
    # Two signs and three steps along each direction, and the image itself (section 3.2).
    frame["forwards"] = 6 * frame["directions"] + 1
    tables.save(
        frame,
        COLUMNS,
        **job.table_files(),
        title="Table 2: post-averaging against minimal PGD by number of directions K",
        note="Numbers of directions are nested: K directions are the first K of more. Reported "
        "numbers are the document's, for 5,000 ImageNet images and ResNet-152 at r = 30. Time is "
        "in table_2_time, since it differs between runs.",
        certificate=job.certificate(),
    )


run(main, snakemake)
