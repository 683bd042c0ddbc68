"""Figures 8 and 9: objects that are found better, or worse, in low frequencies."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.high_frequency import coco
from bandlimit.studies.high_frequency.detection_figures import draw_examples, examples


def main(job):
    i, p = job.input, job.params
    data = coco.read(i.annotations, i.pictures).chosen(p.images, p.seed)
    rows = {name: store.read(i[name]).to_pandas() for name in ("full", "low", "high")}
    found = examples(data, rows, **p.part)
    figure = draw_examples(found, f"RetinaNet on COCO, r = {p.part['radius']:g}")
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
