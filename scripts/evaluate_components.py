"""Show a model the images of a shard and their parts: frequencies and singular values."""

from bandlimit import progress
from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models import classifier
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.studies.high_frequency import components

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    batches = progress.images(
        stream.batches(job.input.dataset, BATCH, w["shard"], keep),
        progress.count(job.input.dataset, w["shard"], keep),
        f"components for {w['model']}",
    )
    with store.TableWriter(
        job.output.components, components.SCHEMA, job.certificate(device)
    ) as out:
        for table in components.evaluate(model, batches, p.radii):
            out.write(table)


run(main, snakemake)
