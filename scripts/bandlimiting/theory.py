"""Tables of the theory: each formula of the document beside what a simulation measures."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.bandlimiting import theory_tables


def main(job):
    certificate = job.certificate()
    for i, name in enumerate(job.params.tables):
        table = theory_tables.table(name, job.input.claims, job.params.seed)
        tables.save(table, **job.forms(i), certificate=certificate)


run(main, snakemake)
