"""Table 2: time of inference by number of directions, beside one pass of the network."""

import pandas as pd

from bandlimit import claims, datasets, models, tables, timing
from bandlimit.tables import Column
from job import run

IMAGES = 256
"""Images that are read, at most; they are used again as often as needed."""

COLUMNS = {
    "dataset": Column("Dataset"),
    "model": Column("Model"),
    "device": Column("Device"),
    "directions": Column("K"),
    "forwards": Column("Forward passes"),
    "seconds_undefended": Column("ms per image", 2, 1000),
    "seconds_defended": Column("ms, defended", 1, 1000),
    "time_ratio": Column("Time ratio", 1),
    "low": Column("Least", 1),
    "high": Column("Greatest", 1),
    "r_squared": Column("R2 of the line", 4),
    "reported_time_ratio": Column("Reported ratio", 1),
}


def main(job):
    p = job.params
    device = models.device(p.device)
    certificate = job.certificate(device)
    reported = claims.reported(job.input.claims, "table_2")[["directions", "time_ratio"]]
    parts = []
    for e, dataset, path in zip(p.experiments, job.input.datasets, job.input.models, strict=True):
        _, _, images = next(datasets.stream(dataset, IMAGES))
        ratios = timing.time_ratios(
            models.load(path, p.device),
            images,
            radius=e["radius"],
            directions=reported["directions"].tolist(),
            seed=p.seed,
        )
        ratios = ratios.merge(
            reported.rename(columns={"time_ratio": "reported_time_ratio"}), on="directions"
        )
        names = {"dataset": e["dataset"], "model": e["model"]}
        parts.append(ratios.assign(**names, device=certificate["device"]))
    frame = pd.concat(parts, ignore_index=True)
    first = ["dataset", "model", "device"]
    tables.save(
        frame[first + [name for name in frame.columns if name not in first]],
        COLUMNS,
        **job.table_files(),
        title="Table 2: time of inference by number of directions K",
        note="Time per image with post-averaging over that without, by the same engine and without "
        "early stop: the least of interleaved repeats, with the least and greatest ratio; "
        "processor time on a CPU, clock time on a card. This is the one table that differs between "
        "runs. Reported ratios are the document's, for ResNet-152 on ImageNet.",
        certificate=certificate,
    )


run(main, snakemake)
