"""Train a model on a dataset of the workflow."""

from bandlimit import store, training
from job import run


def main(job):
    p = job.params
    certificate = job.certificate()
    history = training.train(
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
