"""Accuracy behind a low-pass filter: clean, attacked unaware of it, and attacked through it."""

from bandlimit import progress
from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models import classifier
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.studies.perturbation_spectra import filtering


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    with store.TableWriter(job.output.filtered, filtering.SCHEMA, job.certificate(device)) as out:
        for table in filtering.evaluate(
            model,
            progress.images(
                stream.batches(job.input.dataset, filtering.BATCH, w["shard"], keep),
                progress.count(job.input.dataset, w["shard"], keep),
                f"filters of {w['model']}",
            ),
            filtering.perturbed(job.input.adversarial, p.attack),
            cutoffs=p.cutoffs,
            epsilon=p.epsilon,
            steps=p.steps,
            rel_stepsize=p.rel_stepsize,
            loss=p.loss,
            seed=p.seed,
            dataset=w["dataset"],
            model_name=w["model"],
        ):
            out.write(table)


run(main, snakemake)
