"""Figure 2: images that are right, their high frequencies too, and their low ones not."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.high_frequency import pictures


def main(job):
    i, p = job.input, job.params
    found = pictures.read_hidden(i.dataset, i.components, p.radii, p.images)
    figure = pictures.draw_hidden(found, f"{p.dataset}, {p.model}")
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
