"""Figure 2: the defence rate of each attack over the radius of averaging."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.bandlimiting import curves, figures


def main(job):
    rates = store.read(job.input.rates).to_pandas()
    figure = figures.defense_rate_by_radius(curves.by_radius(rates, job.params.experiments))
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
