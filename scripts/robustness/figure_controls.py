"""What post-averaging restores beside cheap transforms."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.robustness import figures


def main(job):
    figure = figures.restored_by_controls(store.read(job.input.table).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
