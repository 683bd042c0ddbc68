"""Figure 6: accuracy behind a low-pass filter over its cut-off."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra import figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    figure = figures.draw_low_pass(table)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
