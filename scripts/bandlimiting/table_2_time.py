"""Table 2: time of inference by number of directions, beside one pass of the network."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.models.device import choose_device
from bandlimit.studies.bandlimiting import timing


def main(job):
    i, p = job.input, job.params
    certificate = job.certificate(choose_device(p.device))
    table = timing.table(
        p.experiments,
        i.datasets,
        i.models,
        i.claims,
        device=p.device,
        name=certificate["device"],
        seed=p.seed,
        directions=p.timed_directions,
        seconds=p.timed_seconds,
    )
    tables.save(table, **job.forms(), certificate=certificate)


run(main, snakemake)
