"""Table 2 as a figure: smoothed kernels under attack."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.high_frequency import figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    figure = figures.draw_smoothing(table)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
