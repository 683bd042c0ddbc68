"""Figure: other architectures."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.high_frequency import figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    chosen = job.params.experiments
    figure = figures.draw_networks(table, chosen, "architectures", always=["architecture"])
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
