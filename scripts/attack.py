"""Attack one shard of a dataset, and check what was stored by reading it again."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.attacks import records
from bandlimit.attacks.base import create
from bandlimit.attacks.catalogue import ATTACKS
from bandlimit.data import stream
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device

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
    attack = create(ATTACKS, job.wildcards["attack"], **parameters)

    def images():
        return stream.batches(job.input.dataset, size, job.wildcards["shard"])

    def attacked(batch):
        found = records.generate(
            model,
            attack,
            [batch],
            seed=p.seed,
            dataset=job.wildcards["dataset"],
            model_name=job.wildcards["model"],
            epsilons=epsilons,
        )
        return pa.concat_tables(found)

    work = memory.Halving(attacked)
    with job.parts({job.output.adversarial: records.schema(model.shape)}, device) as parts:
        for batch in progress.images(
            images(),
            progress.count(job.input.dataset, job.wildcards["shard"]),
            f"{job.wildcards['attack']} on {job.wildcards['model']}",
            parts.resuming,
        ):
            parts.add(work, batch)
        parts.finish()
        records.recheck(job.output.adversarial, model, images())


run(main, snakemake)
