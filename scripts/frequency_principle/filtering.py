"""Outputs of networks in training, smoothed over the images."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.response import filtering
from bandlimit.studies.frequency_principle.response.projections_records import read_all
from bandlimit.studies.frequency_principle.response.projections_tables import table


def main(job):
    p = job.params
    answers = read_all(job.input.responses, job.input.datasets)
    found = filtering.tables(p.networks, answers, **p.filtering)
    for i, name in enumerate(p.tables):
        tables.save(table(name, found[name]), **job.forms(i), certificate=job.certificate())


run(main, snakemake)
