"""Table 2: networks with smoothed kernels, clean and attacked."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.high_frequency.smoothing_rates import smoothed
from bandlimit.studies.high_frequency.tables import table


def main(job):
    found = smoothed(job.input.smoothed, job.params.experiments, job.input.claims)
    tables.save(table("table_2", found), **job.forms(), certificate=job.certificate())


run(main, snakemake)
