"""Count, for each attack, epsilon and setting, what the defence restores."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.bandlimiting import all_rates


def main(job):
    table = all_rates.table(job.params.experiments)
    tables.save(table, **job.forms(), certificate=job.certificate())


run(main, snakemake)
