"""Section 2.2: the share of hyperplanes crossed, layer by layer."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.bandlimiting import figures


def main(job):
    figure = figures.crossings(store.read(job.input.layers).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
