"""Outputs of networks in training, transformed along the first principal component of images."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.response import projections
from bandlimit.studies.frequency_principle.response.projections_records import read_all
from bandlimit.studies.frequency_principle.response.projections_tables import table


def main(job):
    p = job.params
    answers = read_all(job.input.responses, job.input.datasets)
    found = projections.tables(p.networks, answers, **p.projection)
    for i, name in enumerate(p.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
