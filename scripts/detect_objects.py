"""Detect objects in one component of images."""

from bandlimit.provenance.job import run
from bandlimit import progress
from bandlimit.models.device import choose_device
from bandlimit.studies.high_frequency import coco, detection


def main(job):
    p, component = job.params, job.wildcards["component"]
    device = choose_device(p.device)
    data = coco.read(job.input.annotations, job.input.pictures).chosen(p.images, p.seed)
    detector = detection.build(job.input.weights, sha256=p.sha256)

    def detected(picture):
        (found,) = detection.detections(
            detector,
            [(picture.id, coco.pixels(picture))],
            component,
            device=device,
            # Nothing for whole images, which depend on no radius.
            **p.part,
        )
        return found

    with job.parts({job.output.detections: detection.SCHEMA}, device) as parts:
        for picture in progress.bar(
            data.pictures,
            len(data.pictures),
            "images",
            title=f"objects, {component}",
            resuming=parts.resuming,
        ):
            parts.add(detected, picture)


run(main, snakemake)
