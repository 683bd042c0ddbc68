"""Judge a defence on clean images and on the attacks that it must stand, by fresh draws."""

import dataclasses

import pyarrow as pa
import torch

from bandlimit import datasets, judging, masking, models, progress, store
from examined import defenses
from job import run

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = models.device(p.device)
    model, examined = defenses(job, "judging by")
    defense = examined[w["examined"]]
    datasets.check_shape(job.input.dataset, model.shape)
    keep = datasets.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    # A defence that does not draw says the same in each draw.
    draws = range(p.draws if defense.random else 1)
    judge = {"draws": draws, "stop": p.stop, "error": p.error}
    tables = [judging.JUDGED.empty_table()]
    pictures = []
    for ids, labels, images in progress.images(
        datasets.stream(job.input.dataset, BATCH, w["shard"], keep),
        progress.count(job.input.dataset, w["shard"], keep),
        f"{w['examined']}, clean",
    ):
        pictures.append((ids, labels, images))
        tables.append(
            judging.rows(
                judging.JUDGED,
                defense.predict(images, ids, **judge),
                labels,
                image_id=ids,
                against="none",
                attack="clean",
                epsilon=0.0,
                confidence=None,
                restart=0,
                status="ok",
                linf=0.0,
            )
        )
    names = ("epsilon", "confidence", "restart", "status", "linf")
    for (against, attack), path in zip(p.sets, job.input.adversarial, strict=True):
        for columns, labels, images in progress.images(
            judging.batches(path, BATCH, names=names),
            progress.count(path),
            f"{w['examined']} against {attack} on {against}",
        ):
            tables.append(
                judging.rows(
                    judging.JUDGED,
                    defense.predict(images, columns["image_id"], **judge),
                    labels,
                    against=against,
                    attack=attack,
                    **columns,
                )
            )
    store.write(job.output.judged, pa.concat_tables(tables), job.certificate(device))
    found = []
    if pictures:  # a shard may have none of the chosen images
        symptoms = masking.symptoms(
            defense,
            torch.cat([images for _, _, images in pictures]),
            torch.cat([labels for _, labels, _ in pictures]),
            [name for ids, _, _ in pictures for name in ids],
        )
        found.append(dataclasses.asdict(symptoms))
    table = pa.Table.from_pylist(found, schema=judging.SYMPTOMS)
    store.write(job.output.symptoms, table, job.certificate(device))


run(main, snakemake)
