"""Section 3.2: random directions against directions towards the nearest hyperplanes."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.bandlimiting import samplers


def main(job):
    table = samplers.table(job.params.names, job.input.adversarial, job.input.evaluations)
    tables.save(table, **job.forms(), certificate=job.certificate())


run(main, snakemake)
