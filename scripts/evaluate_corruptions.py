"""Show networks the images of a shard, corrupted and with noise of bands of frequencies."""

from bandlimit import progress
from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models import classifier
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.studies.frequency_principle.image import corruptions

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
    batches = progress.images(
        stream.batches(job.input.dataset, BATCH, w["shard"], keep),
        progress.count(job.input.dataset, w["shard"], keep),
        f"corruptions for {w['model']} and others",
    )
    found = corruptions.evaluate(models, batches, seed=p.seed, dataset=w["dataset"], **p.changes)
    with store.TableWriter(
        job.output.corrupted, corruptions.SCHEMA, job.certificate(device)
    ) as out:
        for table in found:
            out.write(table)


run(main, snakemake)
