"""Section 2.2: hyperplanes crossed, by attack, and by random perturbations of equal length."""

import pandas as pd
import pyarrow as pa

from bandlimit import claims, crossings, store, tables
from bandlimit.tables import Column
from job import run

COLUMNS = {
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


def records(paths, names, epsilon):
    """Return the crossings of images within epsilon, with dataset, model and attack."""
    files = {}
    for path, name in zip(paths, map(tuple, names), strict=True):
        files.setdefault(name, []).append(path)
    parts = []
    for name, shards in files.items():
        of_attack = pa.concat_tables(map(store.read, shards))
        chosen = crossings.within(of_attack, epsilon)
        parts.append(chosen.assign(**dict(zip(crossings.GROUP, name, strict=True))))
    return pd.concat(parts, ignore_index=True)


def main(job):
    p = job.params
    certificate = job.certificate()
    counted = records(job.input.crossings, p.names, p.epsilon)
    reported = claims.reported(job.input.claims, "crossings").add_prefix("reported_")
    # The document counts no controls; its one number stands beside each attack.
    frame = crossings.summary(counted, p.names).merge(
        reported.assign(kind="adversarial"), on="kind", how="left", validate="many_to_one"
    )
    tables.save(
        frame,
        COLUMNS,
        **job.table_files(),
        title="Section 2.2: hyperplanes crossed by adversarial and by random perturbations",
        note="Units whose pre-activation changes side between the clean and the perturbed image: a "
        "mean over ReLU layers, then over images, with 95% t intervals over images; a ReLU6 unit "
        "has two hyperplanes. 'On the way' counts all changes along the straight path, seen in "
        f"{p.segments} parts. Random perturbations have the L2 norm of the adversarial one of the "
        "same image. Reported numbers are the document's, which has no control.",
        certificate=certificate,
    )
    layers = pa.Table.from_pandas(crossings.by_layer(counted), preserve_index=False)
    store.write(job.output.layers, layers, certificate)


run(main, snakemake)
