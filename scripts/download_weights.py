"""Fetch the weights of a registered model from the first mirror whose file has the checksum."""

from bandlimit.provenance.job import run
from bandlimit.config import registry
from bandlimit.data import downloads


def main(job):
    # Not a parameter: what is fetched is told by its checksum, from whichever mirror it comes.
    urls = registry.urls(job.home / "workflow/registry/models.csv", job.wildcards["model"])
    downloads.fetch(urls, job.params.sha256, job.output.weights)


run(main, snakemake)
