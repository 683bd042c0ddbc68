"""List every file that led to the final artifacts, with one hash over them all."""

from pathlib import Path

from bandlimit.provenance.job import run
from bandlimit.provenance import manifest


def main(job):
    out = Path(job.output.manifest)
    manifest.write(out, manifest.build(out.parents[1], job.input.artifacts), job.certificate())


run(main, snakemake)
