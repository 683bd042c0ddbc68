"""Noise of low and of high response frequency on labels of images."""

from bandlimit.provenance.job import run
from bandlimit.files import tables
from bandlimit.studies.frequency_principle.response import label_noise


def main(job):
    found = label_noise.tables(job.input.dataset, **job.params.settings)
    for i, made in enumerate(found):
        tables.save(made, **job.forms(i), certificate=job.certificate())


run(main, snakemake)
