"""Attack one shard of a dataset, and check what was stored by reading it again."""

from bandlimit import progress
from bandlimit.attacks import records
from bandlimit.attacks.base import create
from bandlimit.attacks.catalogue import ATTACKS
from bandlimit.data import stream
from bandlimit.files import store
from bandlimit.models import classifier
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run

BATCH = {True: 256, False: 8}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""


def main(job):
    p = job.params
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    stream.check_shape(job.input.dataset, model.shape)
    parameters = dict(p.parameters)
    epsilons = parameters.pop("epsilons", ())
    size = BATCH[max(model.shape[1:]) <= 64]
    images = progress.images(
        stream.batches(job.input.dataset, size, job.wildcards["shard"]),
        progress.count(job.input.dataset, job.wildcards["shard"]),
        f"{job.wildcards['attack']} on {job.wildcards['model']}",
    )
    with store.TableWriter(
        job.output.adversarial, records.schema(model.shape), job.certificate(device)
    ) as writer:
        for table in records.generate(
            model,
            create(ATTACKS, job.wildcards["attack"], **parameters),
            images,
            seed=p.seed,
            dataset=job.wildcards["dataset"],
            model_name=job.wildcards["model"],
            epsilons=epsilons,
        ):
            writer.write(table)
    records.recheck(
        job.output.adversarial,
        model,
        stream.batches(job.input.dataset, size, job.wildcards["shard"]),
    )


run(main, snakemake)
