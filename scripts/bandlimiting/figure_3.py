"""Figure 3: the defence rate of each attack over epsilon."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.bandlimiting import curves, figures


def main(job):
    p = job.params
    rates = store.read(job.input.rates).to_pandas()
    figure = figures.defense_rate_by_epsilon(curves.by_epsilon(rates, p.experiments, p.epsilons))
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
