"""Stretch the perturbations of minimal attacks, and see what a defence still restores."""

import pyarrow as pa
import torch

from bandlimit import datasets, judging, models, progress, store
from examined import defenses
from job import run

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = models.device(p.device)
    model, examined = defenses(job, "scaling by")
    datasets.check_shape(job.input.dataset, model.shape)
    keep = datasets.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    clean = {}
    for ids, _, images in datasets.stream(job.input.dataset, BATCH, w["shard"], keep):
        clean.update(zip(ids, images, strict=True))
    tables = [judging.SCALED.empty_table()]
    for attack, path in zip(p.attacks, job.input.adversarial, strict=True):
        for columns, labels, images in progress.images(
            judging.batches(path, BATCH, frozenset(clean), ["success"]),
            progress.count(path, keep=frozenset(clean)),
            f"stretching {attack}",
        ):
            won = torch.tensor(columns["success"])
            if not won.any():
                continue
            ids = [name for name, row in zip(columns["image_id"], won, strict=True) if row]
            start = torch.stack([clean[name] for name in ids])
            for factor in p.factors:
                moved = (start + factor * (images[won] - start)).clamp(0, 1)
                for name, defense in examined.items():
                    draws = range(p.draws if defense.random else 1)
                    found = defense.predict(moved, ids, draws, stop=p.stop, error=p.error)
                    tables.append(
                        judging.rows(
                            judging.SCALED,
                            found,
                            labels[won],
                            image_id=ids,
                            attack=attack,
                            factor=factor,
                            defense=name,
                            linf=(moved - start).abs().flatten(1).amax(dim=1).double().numpy(),
                        )
                    )
    store.write(job.output.scaled, pa.concat_tables(tables), job.certificate(device))


run(main, snakemake)
