"""Accuracy behind a low-pass filter: clean, attacked unaware of it, and attacked through it."""

import itertools

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.studies.perturbation_spectra import filtering


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    others = filtering.perturbed(job.input.adversarial, p.attack)

    def filtered(batch):
        ids, others, labels, images = batch
        found = filtering.evaluate(
            model,
            [(ids, labels, images)],
            others,
            cutoffs=p.cutoffs,
            epsilon=p.epsilon,
            steps=p.steps,
            rel_stepsize=p.rel_stepsize,
            loss=p.loss,
            seed=p.seed,
            dataset=w["dataset"],
            model_name=w["model"],
        )
        return pa.concat_tables(found)

    work = memory.Halving(filtered, groups=None)
    with job.parts({job.output.filtered: filtering.SCHEMA}, device) as parts:
        for ids, labels, images in progress.images(
            stream.batches(job.input.dataset, filtering.BATCH, w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"filters of {w['model']}",
            parts.resuming,
        ):
            beside = list(itertools.islice(others, len(ids)))
            parts.add(work, (ids, beside, labels, images))


run(main, snakemake)
