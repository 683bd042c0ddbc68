"""Attack one shard of a dataset through a defence that the attack knows, and read it again."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.attacks.adaptive import records
from bandlimit.attacks.adaptive.catalogue import KINDS
from bandlimit.attacks.base import create
from bandlimit.data import stream
from bandlimit.defenses.post_averaging import PostAveraging
from bandlimit.models import memory
from bandlimit.models.device import choose_device
from bandlimit.studies.robustness.configured import defenses

BATCH = {True: 64, False: 4}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""

PASSES = {True: 1536, False: 16}
"""Forward passes that one gradient may keep in memory, likewise."""


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model, made = defenses(job, f"attack {w['defense_attack']} on")
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    small = max(model.shape[1:]) <= 64
    defense = made[w["defense"]]
    # A defence that does not draw is differentiated as it stands.
    few = (
        p.parameters.get("samples", 8 if p.kind == "eot_pgd" else None) if defense.random else None
    )
    passes = few or (defense.samples() if isinstance(defense, PostAveraging) else 1)
    # A card takes more in one pass, and would pad what is less.
    size = max(BATCH[small], model.network.size)
    size = max(1, min(size, PASSES[small] // passes))

    def images():
        return stream.batches(job.input.dataset, size, w["shard"], keep)

    attack = create(KINDS, p.kind, **p.parameters)

    def attacked(batch):
        found = records.generate(
            defense,
            attack,
            [batch],
            seed=p.seed,
            dataset=w["dataset"],
            model_name=w["model"],
            defense_name=w["defense"],
            attack_name=w["defense_attack"],
            epsilons=p.epsilons,
        )
        return pa.concat_tables(found)

    work = memory.Halving(attacked)
    with job.parts({job.output.adversarial: records.schema(model.shape)}, device) as parts:
        for batch in progress.images(
            images(),
            progress.count(job.input.dataset, w["shard"], keep),
            f"{w['defense_attack']} on {w['defense']}",
            parts.resuming,
        ):
            parts.add(work, batch)
        parts.finish()
        records.recheck(job.output.adversarial, images())


run(main, snakemake)
