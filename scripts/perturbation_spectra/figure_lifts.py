"""Where perturbations lie in the spectrum, cell by cell of the grid."""

from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.studies.perturbation_spectra import figures

SIDES = {
    "low": "A Frequency Domain Analysis ...",
    "uniform": "Yin et al.",
    "high": "Bandlimiting; Wang et al.",
}


def main(job):
    figure = figures.draw_lifts(store.read(job.input.table).to_pandas(), SIDES)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
