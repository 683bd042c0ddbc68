"""Show a model the images of a shard and their parts: frequencies and singular values."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.studies.high_frequency import components
from bandlimit.studies.high_frequency.components_records import SCHEMA

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    work = memory.Halving(
        lambda batch: pa.concat_tables(components.evaluate(model, [batch], p.radii)), groups=None
    )
    with job.parts({job.output.components: SCHEMA}, device) as parts:
        for batch in progress.images(
            stream.batches(job.input.dataset, BATCH, w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"components for {w['model']}",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
