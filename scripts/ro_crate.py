"""Describe the run as a research object: an RO-Crate with a folder and a zip file of it."""

import os
from pathlib import Path

from bandlimit.provenance.job import run
from bandlimit.provenance import crate


def main(job):
    crate.write(
        job.output.crate,
        job.output.zip,
        results=Path(job.input.manifest).parents[1],
        home=job.home,
        sources=[os.path.relpath(path, job.home) for path in job.input.sources],
        benchmarks=job.params.benchmarks,
    )


run(main, snakemake)
