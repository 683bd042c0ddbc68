"""Perturb the images of a shard along the gradient, and take their spectra."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.attacks import perturbations
from bandlimit.data import stream
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.studies.perturbation_spectra import measuring
from bandlimit.training.perturbations import Perturbation

BATCH = {True: 128, False: 8}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    sides = model.shape[1:]
    ways = {name: Perturbation(**way) for name, way in p.perturbations.items()}

    def measured(batch):
        images, spectra = [], []
        for name, table, x, d in perturbations.generate(
            model,
            ways,
            [batch],
            seed=p.seed,
            dataset=w["dataset"],
            model_name=w["model"],
        ):
            images.append(table)
            spectra.append(measuring.spectra(name, table["image_id"].to_pylist(), x, d))
        return pa.concat_tables(images), pa.concat_tables(spectra)

    work = memory.Halving(measured, groups=len(ways))
    outputs = {
        job.output.perturbations: perturbations.schema(model.shape),
        job.output.spectra: measuring.schema(sides),
    }
    with job.parts(outputs, device) as parts:
        for batch in progress.images(
            stream.batches(job.input.dataset, BATCH[max(sides) <= 64], w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"gradients of {w['model']}",
            parts.resuming,
        ):
            parts.add(work, batch)


run(main, snakemake)
