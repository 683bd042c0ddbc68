"""Attack one shard of a dataset, and check what was stored by reading it again."""

from bandlimit import attacks, datasets, models, progress, store
from job import run

BATCH = {True: 256, False: 8}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""


def main(job):
    p = job.params
    device = models.device(p.device)
    model = models.load(job.input.model, p.device)
    datasets.check_shape(job.input.dataset, model.shape)
    parameters = dict(p.parameters)
    epsilons = parameters.pop("epsilons", ())
    size = BATCH[max(model.shape[1:]) <= 64]
    images = progress.images(
        datasets.stream(job.input.dataset, size, job.wildcards["shard"]),
        progress.count(job.input.dataset, job.wildcards["shard"]),
        f"{job.wildcards['attack']} on {job.wildcards['model']}",
    )
    with store.TableWriter(
        job.output.adversarial, attacks.schema(model.shape), job.certificate(device)
    ) as writer:
        for table in attacks.generate(
            model,
            attacks.create(job.wildcards["attack"], **parameters),
            images,
            seed=p.seed,
            dataset=job.wildcards["dataset"],
            model_name=job.wildcards["model"],
            epsilons=epsilons,
        ):
            writer.write(table)
    attacks.recheck(
        job.output.adversarial,
        model,
        datasets.stream(job.input.dataset, size, job.wildcards["shard"]),
    )


run(main, snakemake)
