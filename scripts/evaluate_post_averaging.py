"""Judge clean or adversarial images by post-averaging, at all its settings in one pass."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.defenses import evaluation
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.sweep import Setting, sweep
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.models.fused import evaluator

BATCH = 64


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.images, model.shape)
    network = evaluator(model, bfloat16=p.bfloat16)
    settings = [Setting(*setting) for setting in p.settings]
    # Clean and attacked images see different draws, as in the document's experiments.
    name = DrawName(p.seed, f"post_averaging of {w['inputs']}", w["dataset"], w["model"])
    clean = w["inputs"] == "clean"

    def judged(batch):
        ids, epsilons, labels, images = batch
        found = sweep(model, network, images, ids, labels, settings, name=name)
        return pa.concat_tables(evaluation.defended(ids, epsilons, labels, each) for each in found)

    work = memory.Halving(judged, groups=None)
    outputs = {job.output.evaluation: evaluation.SCHEMA}
    with job.parts(outputs, device, evaluation.in_order) as parts:
        for batch in progress.images(
            evaluation.inputs(job.input.images, BATCH, w["shard"], clean),
            progress.count(job.input.images, w["shard"])
            if clean
            else progress.count(job.input.images, success=True),
            f"post-averaging on {w['inputs']}",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
