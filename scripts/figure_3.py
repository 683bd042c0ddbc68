"""Figure 3: the defence rate of each attack over epsilon."""

from bandlimit import curves, store
from bandlimit.plots import bandlimiting, files
from job import run


def main(job):
    p = job.params
    rates = store.read(job.input.rates).to_pandas()
    figure = bandlimiting.defense_rate_by_epsilon(
        curves.by_epsilon(rates, p.experiments, p.epsilons)
    )
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
