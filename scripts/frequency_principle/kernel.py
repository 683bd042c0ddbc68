"""Eigenvectors of a Gaussian kernel, and when networks learn them."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.response import kernels_tables


def main(job):
    found = kernels_tables.tables(job.input.dataset, **job.params.settings)
    for i, made in enumerate(found):
        tables.save(made, **job.forms(i), certificate=job.certificate())


run(main, snakemake)
