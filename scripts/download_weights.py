"""Fetch the weights of a registered model from the first mirror whose file has the checksum."""

from bandlimit import downloads
from job import run


def main(job):
    downloads.fetch(job.params.urls, job.params.sha256, job.output.weights)


run(main, snakemake)
