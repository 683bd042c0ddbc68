"""Count the hyperplanes that adversarial images, and random controls, lie beyond."""

from bandlimit import progress
from bandlimit.files import store
from bandlimit.models import classifier
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.studies.bandlimiting import crossing_counts, crossings

BATCH = {True: 64, False: 4}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    with store.TableWriter(
        job.output.crossings, crossings.SCHEMA, job.certificate(device)
    ) as writer:
        tables = crossing_counts.count(
            model,
            job.input.adversarial,
            job.input.dataset,
            shard=w["shard"],
            # A card takes more in one pass, and would pad what is less.
            size=max(BATCH[max(model.shape[1:]) <= 64], model.network.size),
            segments=p.segments,
            seed=p.seed,
            dataset_name=w["dataset"],
            model_name=w["model"],
        )
        for table in progress.bar(
            tables,
            progress.count(job.input.adversarial, success=True) * len(crossings.KINDS),
            "paths",
            # A path has a row for each layer.
            size=lambda table: len(table) // len(table["layer"].unique()),
            title=f"crossings of {w['attack']}",
        ):
            writer.write(table)


run(main, snakemake)
