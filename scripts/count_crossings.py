"""Count the hyperplanes that adversarial images, and random controls, lie beyond."""

from bandlimit import crossings, models, store
from job import run

BATCH = {True: 64, False: 4}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""


def main(job):
    p, w = job.params, job.wildcards
    device = models.device(p.device)
    model = models.load(job.input.model, p.device)
    with store.TableWriter(
        job.output.crossings, crossings.SCHEMA, job.certificate(device)
    ) as writer:
        for table in crossings.count(
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
        ):
            writer.write(table)


run(main, snakemake)
