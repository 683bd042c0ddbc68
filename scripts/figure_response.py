"""Equations 6 to 8: how the ball, and the sampler that is used, damp frequencies."""

from bandlimit import store
from bandlimit.plots import files, theory
from job import run


def main(job):
    figure = theory.response(store.read(job.input.response).to_pandas())
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
