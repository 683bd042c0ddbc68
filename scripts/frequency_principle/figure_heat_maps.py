"""Figures 3 and 4: Fourier heat maps."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.image import heat_maps_figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    figure = heat_maps_figures.draw_maps(table, job.params.experiments)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
