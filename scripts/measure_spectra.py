"""Perturb the images of a shard along the gradient, and take their spectra."""

from bandlimit import progress
from bandlimit.attacks import perturbations
from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models import classifier
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
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
    found = perturbations.generate(
        model,
        {name: Perturbation(**way) for name, way in p.perturbations.items()},
        progress.images(
            stream.batches(job.input.dataset, BATCH[max(sides) <= 64], w["shard"], keep),
            progress.count(job.input.dataset, w["shard"], keep),
            f"gradients of {w['model']}",
        ),
        seed=p.seed,
        dataset=w["dataset"],
        model_name=w["model"],
    )
    made = job.certificate(device)
    with (
        store.TableWriter(
            job.output.perturbations, perturbations.schema(model.shape), made
        ) as images,
        store.TableWriter(job.output.spectra, measuring.schema(sides), made) as spectra,
    ):
        for name, table, x, d in found:
            images.write(table)
            spectra.write(measuring.spectra(name, table["image_id"].to_pylist(), x, d))


run(main, snakemake)
