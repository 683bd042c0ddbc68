"""Train a model on a dataset of the workflow."""

from bandlimit.files import store
from bandlimit.provenance.job import run
from bandlimit.training import loop


def main(job):
    p = job.params
    certificate = job.certificate()
    history = loop.train(
        job.input.dataset,
        job.output.model,
        architecture=p.architecture,
        classes=p.classes,
        mean=p.mean,
        std=p.std,
        seed=p.seed,
        model_name=job.wildcards["model"],
        certificate=certificate,
        threads=job.threads,
        **p.recipe,
    )
    store.write(job.output.history, history, certificate)


run(main, snakemake)
