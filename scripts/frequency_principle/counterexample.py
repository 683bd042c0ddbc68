"""Simulation: a kernel that learns a middle response frequency first."""

from bandlimit.provenance.job import run
from bandlimit.files.tables import save
from bandlimit.studies.frequency_principle.response.counterexample import tables


def main(job):
    for i, made in enumerate(tables(**vars(job.params)).values()):
        save(made, **job.forms(i), certificate=job.certificate())


run(main, snakemake)
