"""Detect objects in one component of images."""

from bandlimit import progress
from bandlimit.files import store
from bandlimit.models.device import choose_device
from bandlimit.provenance.job import run
from bandlimit.studies.high_frequency import coco, detection


def main(job):
    p, component = job.params, job.wildcards["component"]
    device = choose_device(p.device)
    data = coco.read(job.input.annotations, job.input.pictures).chosen(p.images, p.seed)
    detector = detection.build(job.input.weights, sha256=p.sha256)
    found = detection.detections(
        detector,
        progress.bar(
            ((picture.id, coco.pixels(picture)) for picture in data.pictures),
            len(data.pictures),
            "images",
            title=f"objects, {component}",
        ),
        component,
        device=device,
        # Nothing for whole images, which depend on no radius.
        **p.part,
    )
    with store.TableWriter(
        job.output.detections, detection.SCHEMA, job.certificate(device)
    ) as rows:
        for table in found:
            rows.write(table)


run(main, snakemake)
