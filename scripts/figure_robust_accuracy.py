"""Robust accuracy against epsilon: what is left of a defence under each kind of attacker."""

from bandlimit import robustness, store
from bandlimit.plots import files
from bandlimit.plots import robustness as plots
from job import run


def main(job):
    robust = store.read(job.input.table).to_pandas()
    lines = robustness.accuracy_curves(robust, job.params.attacks, job.params.defenses)
    figure = plots.robust_accuracy(lines)
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
