"""Figure 1: networks trained and tested behind filters."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.image import corruptions_figures


def main(job):
    figure = corruptions_figures.draw_band_pass(store.read(job.input.table).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
