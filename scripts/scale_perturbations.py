"""Stretch the perturbations of minimal attacks, and see what a defence still restores."""

import torch

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.data import stream
from bandlimit.models import memory
from bandlimit.models.device import choose_device
from bandlimit.studies.robustness import judging
from bandlimit.studies.robustness.configured import defenses

BATCH = 128


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model, made = defenses(job, "scaling by")
    stream.check_shape(job.input.dataset, model.shape)
    keep = stream.chosen(job.input.dataset, p.images, name=w["dataset"], seed=p.seed)
    clean = {}
    for ids, _, images in stream.batches(job.input.dataset, BATCH, w["shard"], keep):
        clean.update(zip(ids, images, strict=True))

    def judged(batch):
        told, ids, labels, start, moved = batch
        attack, factor, name = told[0]
        found = judging.drawn(
            made[name], moved, ids, labels, draws=p.draws, stop=p.stop, error=p.error
        )
        return judging.rows(
            judging.SCALED,
            found,
            labels,
            image_id=ids,
            attack=attack,
            factor=factor,
            defense=name,
            linf=(moved - start).abs().flatten(1).amax(dim=1).double().numpy(),
        )

    work = memory.Halving(judged)
    with job.parts({job.output.scalings: judging.SCALED}, device) as parts:
        stretch(job, parts, work, clean, made)


def stretch(job, parts, work, clean, made):
    """Judge all stretched perturbations of the attacks, batch by batch."""
    p = job.params
    for attack, path in zip(p.attacks, job.input.adversarial, strict=True):
        for columns, labels, images in progress.images(
            judging.batches(path, BATCH, frozenset(clean), ["success"]),
            progress.count(path, keep=frozenset(clean)),
            f"stretching {attack}",
            parts.resuming,
        ):
            won = torch.tensor(columns["success"])
            if not won.any():
                continue
            ids = [name for name, row in zip(columns["image_id"], won, strict=True) if row]
            start = torch.stack([clean[name] for name in ids])
            for factor in p.factors:
                moved = (start + factor * (images[won] - start)).clamp(0, 1)
                for name in made:
                    told = [(attack, factor, name)] * len(ids)
                    parts.add(work, (told, ids, labels[won], start, moved))


run(main, snakemake)
