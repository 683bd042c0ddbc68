"""Judge a defence on clean images and on the attacks that it must stand, by fresh draws."""

import dataclasses

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.defenses.post_averaging import PostAveraging
from bandlimit.files import store
from bandlimit.models import memory
from bandlimit.models.device import choose_device
from bandlimit.studies.robustness import judging, symptoms
from bandlimit.studies.robustness.configured import defenses

BATCH = 128

PICTURES = {True: 8, False: 4}
"""Images in flight whose gradients are taken, small (up to 64 x 64) and large.

Memory, not results.
"""

PASSES = {True: 1536, False: 16}
"""Forward passes that one gradient may keep in memory, likewise."""


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model, made = defenses(job, "judging by")
    defense = made[w["defense"]]
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    judge = {"draws": p.draws, "stop": p.stop, "error": p.error}
    unattacked = {
        "against": "none",
        "attack": "clean",
        "epsilon": 0.0,
        "confidence": None,
        "restart": 0,
        "status": "ok",
        "linf": 0.0,
    }

    def judged(batch):
        shared, columns, labels, images = batch
        found = judging.drawn(defense, images, columns["image_id"], labels, **judge)
        return judging.rows(judging.JUDGED, found, labels, **shared[0], **columns)

    def pictures(parts):
        small = max(model.shape[1:]) <= 64
        passes = defense.samples() if isinstance(defense, PostAveraging) else 1
        size = max(1, min(PICTURES[small], PASSES[small] // passes))
        for batch in stream.batches(job.input.dataset, size, w["shard"], keep):
            parts.stop_if_asked()
            yield batch

    work = memory.Halving(judged)
    clean = progress.count(job.input.dataset, w["shard"], keep)
    with job.parts({job.output.judgements: judging.JUDGED}, device) as parts:
        for ids, labels, images in progress.images(
            stream.batches(job.input.dataset, BATCH, w["shard"], keep),
            clean,
            f"{w['defense']}, clean",
            parts.resuming,
        ):
            parts.add(work, ([unattacked] * len(ids), {"image_id": ids}, labels, images))
        names = ("epsilon", "confidence", "restart", "status", "linf")
        for (against, attack), path in zip(p.sets, job.input.adversarial, strict=True):
            shared = {"against": against, "attack": attack}
            for columns, labels, images in progress.images(
                judging.batches(path, BATCH, names=names),
                progress.count(path),
                f"{w['defense']} against {attack} on {against}",
                parts.resuming,
            ):
                parts.add(work, ([shared] * len(labels), columns, labels, images))
        found = []
        if clean:  # a shard may have none of the chosen images
            found.append(dataclasses.asdict(symptoms.symptoms(defense, pictures(parts))))
        parts.finish()
        table = pa.Table.from_pylist(found, schema=judging.SYMPTOMS)
        store.write(job.output.symptoms, table, job.certificate(device))


run(main, snakemake)
