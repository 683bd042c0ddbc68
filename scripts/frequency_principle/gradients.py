"""Simulation: gradients of a low and a high response frequency where weights are small."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.response.gradients import table


def main(job):
    tables.save(table(**vars(job.params)), **job.forms(), certificate=job.certificate())


run(main, snakemake)
