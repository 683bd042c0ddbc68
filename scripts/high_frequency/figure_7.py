"""Figure 7: kernels of the first layer."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.high_frequency import pictures


def main(job):
    found = pictures.read_kernels(job.input.models, job.params.experiments)
    figure = pictures.draw_kernels(found)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
