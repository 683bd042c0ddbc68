"""Corollary 1 as a figure: how far low-frequency images lie from images."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.high_frequency.component_rates import fooled
from bandlimit.studies.high_frequency.figures import draw_distances


def main(job):
    found = fooled(job.input.components, job.params.experiments)
    figure = draw_distances(found)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
