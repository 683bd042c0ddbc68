"""Figure 7: kernels of the first layer."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.high_frequency import kernel_pictures


def main(job):
    found = kernel_pictures.read_kernels(job.input.models, job.params.experiments)
    figure = kernel_pictures.draw_kernels(found)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
