"""Figure: outputs by eigenvector of a kernel along training."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.kernels_figures import draw_learning


def main(job):
    frames = (store.read(job.input[name]).to_pandas() for name in ("bins", "curves", "validation"))
    files.save(draw_learning(*frames), **job.pictures(), certificate=job.certificate())


run(main, snakemake)
