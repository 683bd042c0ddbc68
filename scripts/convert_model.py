"""Turn a weights file into a model file, after its checksum has been verified."""

from bandlimit.provenance.job import run
from bandlimit.data import downloads
from bandlimit.models import weights


def main(job):
    p = job.params
    source = (
        weights.packaged_weights(p.architecture) if p.source == "package" else job.input.weights
    )
    if p.sha256:
        downloads.verify(source, p.sha256)
    weights.convert(
        source,
        job.output.model,
        architecture=p.architecture,
        mean=p.mean,
        std=p.std,
        shape=p.shape,
        classes=p.classes,
        own_code=getattr(p, "own_code", None),
        certificate=job.certificate(),
    )


run(main, snakemake)
