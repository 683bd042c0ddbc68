"""Bring a dataset into one Parquet file: image_id, label, split, image."""

from bandlimit import datasets
from job import run


def main(job):
    p = job.params
    source = datasets.Source(
        name=p.source,
        loader=p.loader,
        sha256=tuple(p.sha256),
        classes=p.classes,
        shape=tuple(p.shape) if p.shape else None,
        images=p.counts,
        path=p.path,
        resize=p.resize,
        crop=p.crop,
    )
    datasets.make(
        source,
        job.output.dataset,
        split=p.split,
        images=p.images,
        seed=p.seed,
        cache=job.input.get("archive"),
        certificate=job.certificate(),
    )


run(main, snakemake)
