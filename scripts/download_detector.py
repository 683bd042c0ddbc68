"""Fetch the detector's weights that torchvision publishes, and check them."""

from bandlimit.provenance.job import run
from bandlimit.data import downloads
from bandlimit.studies.high_frequency.settings import DETECTOR_URL


def main(job):
    downloads.fetch([DETECTOR_URL], job.params.sha256, job.output.weights)


run(main, snakemake)
