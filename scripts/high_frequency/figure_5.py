"""Figure 5: heuristics."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.high_frequency import figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    figure = figures.draw_networks(table, job.params.experiments, "heuristics")
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
