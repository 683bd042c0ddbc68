"""Show networks the images of a shard with waves of one frequency each: a Fourier heat map."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.studies.frequency_principle.image import heat_maps

BATCH = 128
"""Images in flight; memory, not results."""


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    models = {
        name: classifier.load(path, p.device)
        for name, path in zip(p.networks, job.input.models, strict=True)
    }
    for model in models.values():
        stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    pairs = heat_maps.frequencies(model.shape[1:], stride=p.stride, bandwidth=p.bandwidth)

    def shown(batch):
        found = heat_maps.evaluate(
            models, lambda: [batch], pairs, norms=p.norms, seed=p.seed, dataset=w["dataset"]
        )
        return pa.concat_tables(found)

    work = memory.Halving(shown)
    with job.parts({job.output.sensitivity: heat_maps.SCHEMA}, device) as parts:
        for batch in progress.images(
            stream.batches(job.input.dataset, BATCH, w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"waves for {w['model']} and others",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
