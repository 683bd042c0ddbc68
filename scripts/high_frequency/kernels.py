"""Figure 7 as a table: smoothness of the first layer's kernels."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.high_frequency.kernel_rates import smoothness
from bandlimit.studies.high_frequency.tables import table


def main(job):
    found = smoothness(job.input.models, job.params.experiments)
    tables.save(table("kernels", found), **job.forms(), certificate=job.certificate())


run(main, snakemake)
