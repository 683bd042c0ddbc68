"""The loss that adaptive attacks raise, step by step."""

from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.studies.robustness import figures


def main(job):
    figure = figures.loss_curves(store.read(job.input.table).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
