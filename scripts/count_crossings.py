"""Count the hyperplanes that adversarial images, and random controls, lie beyond."""

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.models import classifier, memory
from bandlimit.models.device import choose_device
from bandlimit.studies.bandlimiting import crossing_counts, crossings

BATCH = {True: 64, False: 4}
"""Images in flight, small (up to 64 x 64) and large; memory, not results."""


def main(job):
    p, w = job.params, job.wildcards
    device = choose_device(p.device)
    model = classifier.load(job.input.model, p.device)
    # A card takes more in one pass, and would pad what is less.
    size = max(BATCH[max(model.shape[1:]) <= 64], model.network.size)

    def crossed(batch):
        kinds, rows, clean = batch
        return crossing_counts.crossed(
            model,
            kinds[0],
            rows,
            clean,
            segments=p.segments,
            seed=p.seed,
            dataset_name=w["dataset"],
            model_name=w["model"],
        )

    work = memory.Halving(crossed)
    with job.parts({job.output.crossings: crossings.SCHEMA}, device) as parts:
        for rows, clean in progress.images(
            crossing_counts.pairs(
                job.input.adversarial, job.input.dataset, shard=w["shard"], size=size
            ),
            progress.count(job.input.adversarial, success=True),
            f"crossings of {w['attack']}",
            parts.resuming,
        ):
            for kind in crossings.KINDS:
                parts.add(work, ([kind] * len(rows), rows, clean))


run(main, snakemake)
