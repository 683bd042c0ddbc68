"""Section 2.2: the share of hyperplanes crossed, layer by layer."""

from bandlimit import store
from bandlimit.plots import bandlimiting, files
from job import run


def main(job):
    figure = bandlimiting.crossings(store.read(job.input.layers).to_pandas())
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
