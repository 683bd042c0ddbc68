"""Networks with BatchNorm by running statistics and by those of the batch, as the code has it."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.models.device import choose_device
from bandlimit.studies.high_frequency.batch_statistics import batch_statistics_table
from bandlimit.studies.high_frequency.tables import table


def main(job):
    p = job.params
    found = batch_statistics_table(
        job.input.models, job.input.datasets, p.experiments, seed=p.seed, device=p.device
    )
    proof = job.certificate(choose_device(p.device))
    tables.save(table("batch_statistics", found), **job.forms(), certificate=proof)


run(main, snakemake)
