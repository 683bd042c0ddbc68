"""Figure 2: the defence rate of each attack over the radius of averaging."""

from bandlimit import curves, store
from bandlimit.plots import bandlimiting, files
from job import run


def main(job):
    p = job.params
    rates = store.read(job.input.rates).to_pandas()
    figure = bandlimiting.defense_rate_by_radius(curves.by_radius(rates, p.experiments, p.epsilon))
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
