"""Figure 4: batch sizes, at equal epochs and at equal updates."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.high_frequency import figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    figure = figures.draw_batch_sizes(table)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
