"""Smooth the first layer's kernels of a model, and attack it with the images of a shard."""

from bandlimit import progress
from bandlimit.data import stream
from bandlimit.defenses.smoothing import SmoothedKernels
from bandlimit.files import store
from bandlimit.models import classifier
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.studies.high_frequency import smoothing

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    found = smoothing.evaluate(
        model,
        lambda rho, normalize: SmoothedKernels(model, rho=rho, normalize=normalize),
        progress.images(
            stream.batches(job.input.dataset, BATCH, w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"smoothed kernels of {w['model']}",
        ),
        p.rhos,
        smoothing.Attacks(p.epsilons, p.steps, p.rel_stepsize),
        seed=p.seed,
        dataset=w["dataset"],
        model_name=w["model"],
    )
    with store.TableWriter(job.output.smoothed, smoothing.SCHEMA, job.certificate(device)) as out:
        for table in found:
            out.write(table)


run(main, snakemake)
