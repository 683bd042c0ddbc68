"""Equations 6 to 8: how the ball, and the sampler that is used, damp frequencies."""

from bandlimit import plots, store
from job import run


def main(job):
    figure = plots.response(store.read(job.input.response).to_pandas())
    out = job.output
    plots.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
