"""Figure 6: BatchNorm in networks that are trained on low frequencies."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.high_frequency import figures


def main(job):
    curves, pairs = (
        store.read(path).to_pandas() for path in (job.input.curves, job.input.batchnorm)
    )
    figure = figures.draw_batchnorm(curves, pairs)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
