"""Fetch the files of a registered dataset from the first mirrors that have the right ones."""

from bandlimit import datasets
from job import run


def main(job):
    p = job.params
    datasets.download(p.loader, p.urls, p.sha256, job.output.archive)


run(main, snakemake)
