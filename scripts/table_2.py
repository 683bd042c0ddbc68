"""Table 2: the defence against minimal PGD by number of directions."""

import pandas as pd

from bandlimit import claims, store, tables
from bandlimit.tables import Column
from defense_columns import ACCURACIES, RATES
from job import run

ATTACK = "pgd_minimal"
DOCUMENT_DATASET = "ImageNet"
COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "reported_dataset": Column("Reported for"),
    "directions": Column("K"),
    "forwards": Column("Forward passes"),
    **RATES,
    **ACCURACIES,
}


def main(job):
    p = job.params
    rates = store.read(job.input.rates).to_pandas()
    reported = claims.reported(job.input.claims, "table_2").rename(
        columns=lambda name: name if name == "directions" else f"reported_{name}"
    )
    # The document varies K alone: images and radius are those of its Table 1.
    of_main = claims.reported(job.input.claims, "table_1")
    is_main = (of_main["dataset"] == DOCUMENT_DATASET) & (of_main["attack"] == ATTACK)
    for name in ("dataset", "radius", "images"):
        reported[f"reported_{name}"] = of_main.loc[is_main, name].item()
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
        note="Numbers of directions are nested: K directions are the first K of more. Wilson 95% "
        "intervals are in brackets; they count images, not draws. Reported numbers are the "
        "document's, for the data set named and ResNet-152. Time is in table_2_time, since it "
        "differs between runs.",
        certificate=job.certificate(),
    )


run(main, snakemake)
