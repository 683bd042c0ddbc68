"""Robust accuracy against epsilon: what is left of a defence under each kind of attacker."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.robustness import figures, rates


def main(job):
    robust = store.read(job.input.table).to_pandas()
    lines = rates.accuracy_curves(robust, job.params.attacks, job.params.defenses)
    figure = figures.robust_accuracy(lines)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
