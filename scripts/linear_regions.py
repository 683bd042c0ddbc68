"""Cut a plane into the linear regions of a small trained network, exactly."""

import pyarrow as pa

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.studies.bandlimiting import regions


def main(job):
    parts = regions.figure_1(job.params.seed)
    certificate = job.certificate()
    for name, path in zip(job.params.parts, job.output, strict=True):
        store.write(path, pa.table(parts[name]), certificate)


run(main, snakemake)
