"""The defence rate against the confidence that Carlini-Wagner asks for."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.robustness import figures


def main(job):
    figure = figures.defense_rate_by_confidence(store.read(job.input.table).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
