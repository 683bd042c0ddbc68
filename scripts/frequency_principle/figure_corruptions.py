"""Figure 6: change of accuracy against the share of high frequencies of corruptions."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.image import corruptions_figures


def main(job):
    rates, slopes = (store.read(path).to_pandas() for path in (job.input.rates, job.input.slopes))
    figure = corruptions_figures.draw_corruptions(rates, slopes)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
