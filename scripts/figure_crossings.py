"""Section 2.2: the share of hyperplanes crossed, layer by layer."""

from bandlimit import plots, store
from job import run


def main(job):
    figure = plots.crossings(store.read(job.input.layers).to_pandas())
    out = job.output
    plots.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
