"""Predict the images of a dataset, and stop the run if the model is not what its entry says."""

import numpy as np

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.defenses import evaluation
from bandlimit.errors import UserError
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device

BATCH = 256


def main(job):
    p = job.params
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)

    def gated(table):
        if p.gate is not None:
            expected, tolerance = p.gate
            accuracy = float(np.mean(table["correct"].to_numpy(zero_copy_only=False)))
            if accuracy < expected - tolerance:
                raise UserError(
                    f"The model {job.wildcards['model']!r} has accuracy {accuracy:.4f} on "
                    f"{job.wildcards['dataset']!r}, but its entry states {expected} "
                    f"(tolerance {tolerance}); nothing is attacked with it."
                )
        return evaluation.in_order(table)

    work = memory.Halving(lambda batch: evaluation.predicted(model, [batch]))
    with job.parts({job.output.evaluation: evaluation.SCHEMA}, device, gated) as parts:
        for batch in progress.images(
            stream.batches(job.input.dataset, BATCH, job.wildcards["shard"]),
            progress.count(job.input.dataset, job.wildcards["shard"]),
            f"{job.wildcards['model']} on {job.wildcards['dataset']}",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
