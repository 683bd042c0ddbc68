"""Show networks the images of a shard, corrupted and with noise of bands of frequencies."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.studies.frequency_principle.image import corruptions
from bandlimit.studies.frequency_principle.image.corruptions_records import SCHEMA

BATCH = 128
"""Images in flight; memory, not results."""


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    models = [
        (classifier.load(path, p.device), filtered)
        for path, filtered in zip(job.input.models, p.filters, strict=True)
    ]
    for model, _ in models:
        stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)

    def shown(batch):
        found = corruptions.evaluate(
            models, [batch], seed=p.seed, dataset=w["dataset"], **p.changes
        )
        return pa.concat_tables(found)

    work = memory.Halving(shown, groups=None)
    with job.parts({job.output.corrupted: SCHEMA}, device) as parts:
        for batch in progress.images(
            stream.batches(job.input.dataset, BATCH, w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"corruptions for {w['model']} and others",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
