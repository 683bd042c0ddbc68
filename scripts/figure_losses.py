"""The loss that adaptive attacks raise, step by step."""

from bandlimit import store
from bandlimit.plots import files
from bandlimit.plots import robustness as plots
from job import run


def main(job):
    figure = plots.loss_curves(store.read(job.input.table).to_pandas())
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
