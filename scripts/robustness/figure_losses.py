"""The loss that adaptive attacks raise, step by step."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.robustness import figures
from bandlimit.studies.robustness.settings import LARGER


def main(job):
    frame = store.read(job.input.table).to_pandas()
    # Those with a larger budget are a check, no curves to look at.
    frame = frame[~frame["attack"].str.endswith(LARGER)]
    figure = figures.loss_curves(frame)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
