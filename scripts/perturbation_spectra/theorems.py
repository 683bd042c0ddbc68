"""Numerical experiments on the theorems of the document."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.perturbation_spectra.theorem_tables import table


def main(job):
    for i, name in enumerate(job.params.tables):
        made = table(name, job.params.seed)
        tables.save(made, **job.forms(i), certificate=job.certificate())


run(main, snakemake)
