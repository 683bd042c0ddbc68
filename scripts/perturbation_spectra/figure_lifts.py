"""Where perturbations lie in the spectrum: network by network, from start to end."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra import figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    figure = figures.draw_lifts(table)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
