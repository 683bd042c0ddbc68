"""Smooth the first layer's kernels of a model, and attack it with the images of a shard."""

from functools import cache

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.defenses.smoothing import SmoothedKernels
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.studies.high_frequency import smoothing

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)

    @cache
    def smoothed(rho, normalize):
        return SmoothedKernels(model, rho=rho, normalize=normalize)

    def attacked(batch):
        found = smoothing.evaluate(
            model,
            smoothed,
            [batch],
            p.rhos,
            smoothing.Attacks(p.epsilons, p.steps, p.rel_stepsize),
            seed=p.seed,
            dataset=w["dataset"],
            model_name=w["model"],
        )
        return pa.concat_tables(found)

    work = memory.Halving(attacked, groups=None)
    with job.parts({job.output.smoothed: smoothing.SCHEMA}, device) as parts:
        for batch in progress.images(
            stream.batches(job.input.dataset, BATCH, w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"smoothed kernels of {w['model']}",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
