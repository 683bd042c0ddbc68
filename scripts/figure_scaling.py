"""The share restored when minimal perturbations are stretched."""

from bandlimit import store
from bandlimit.plots import files
from bandlimit.plots import robustness as plots
from job import run


def main(job):
    figure = plots.restored_by_scaling(store.read(job.input.table).to_pandas())
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
