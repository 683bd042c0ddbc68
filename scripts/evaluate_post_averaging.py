"""Judge clean or adversarial images by post-averaging, at all its settings in one pass."""

import pyarrow as pa

from bandlimit import datasets, evaluation, models, progress
from bandlimit.defenses.inference import evaluator
from bandlimit.defenses.post_averaging import DrawName
from bandlimit.defenses.sweep import Setting, sweep
from job import run

BATCH = 64


def main(job):
    p, w = job.params, job.wildcards
    device = models.device(p.device)
    model = models.load(job.input.model, p.device)
    datasets.check_shape(job.input.images, model.shape)
    network = evaluator(model, bfloat16=p.bfloat16)
    settings = [Setting(*setting) for setting in p.settings]
    # Clean and attacked images see different draws, as in the document's experiments.
    name = DrawName(p.seed, f"post_averaging of {w['inputs']}", w["dataset"], w["model"])
    tables = [evaluation.COLUMNS.empty_table()]
    clean = w["inputs"] == "clean"
    for ids, epsilons, labels, images in progress.images(
        evaluation.inputs(job.input.images, BATCH, w["shard"], clean),
        progress.count(job.input.images, w["shard"])
        if clean
        else progress.count(job.input.images, success=True),
        f"post-averaging on {w['inputs']}",
    ):
        for judgement in sweep(model, network, images, ids, labels, settings, name=name):
            tables.append(evaluation.defended(ids, epsilons, labels, judgement))
    evaluation.write(job.output.evaluation, pa.concat_tables(tables), job.certificate(device))


run(main, snakemake)
