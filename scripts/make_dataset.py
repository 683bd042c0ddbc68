"""Bring a dataset into one Parquet file: image_id, label, split, image, shuffled labels or not."""

from bandlimit.provenance.job import run
from bandlimit.data import source as data_source
from bandlimit.data.make import make_dataset


def main(job):
    p = job.params
    source = data_source.Source(
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
    make_dataset(
        source,
        job.output.dataset,
        split=p.split,
        images=p.images,
        shuffled=job.wildcards["dataset"] if getattr(p, "shuffle_labels", False) else None,
        seed=p.seed,
        cache=job.input.get("archive"),
        certificate=job.certificate(),
    )


run(main, snakemake)
