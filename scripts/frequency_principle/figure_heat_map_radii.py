"""Figures 3 and 4: error under waves, by radius."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.image import heat_maps_figures


def main(job):
    table, comparisons = (
        store.read(path).to_pandas() for path in (job.input.table, job.input.comparisons)
    )
    figure = heat_maps_figures.draw_radii(table, comparisons, job.params.experiments)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
