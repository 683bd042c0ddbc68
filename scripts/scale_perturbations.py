"""Stretch the perturbations of minimal attacks, and see what a defence still restores."""

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
        stretch(job, parts, work, keep, made)


def stretch(job, parts, work, keep, made):
    """Judge all stretched perturbations of the attacks, batch by batch."""
    p = job.params
    for attack, path in zip(p.attacks, job.input.adversarial, strict=True):
        for ids, labels, start, images in progress.images(
            judging.successes(
                path, job.input.dataset, BATCH, shard=job.wildcards["shard"], keep=keep
            ),
            progress.count(path, keep=keep, success=True),
            f"stretching {attack}",
            parts.resuming,
        ):
            for factor in p.factors:
                moved = (start + factor * (images - start)).clamp(0, 1)
                for name in made:
                    told = [(attack, factor, name)] * len(ids)
                    parts.add(work, (told, ids, labels, start, moved))


run(main, snakemake)
