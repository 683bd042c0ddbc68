"""Equations 6 to 8: how the ball, and the sampler that is used, damp frequencies."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.bandlimiting import theory_figures


def main(job):
    figure = theory_figures.response(store.read(job.input.response).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
