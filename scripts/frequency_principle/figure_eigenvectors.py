"""Figure: spectra of the eigenvectors of a kernel."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.kernels_figures import draw_eigenvectors


def main(job):
    frames = (store.read(job.input[name]).to_pandas() for name in ("spectrum",))
    files.save(draw_eigenvectors(*frames), **job.pictures(), certificate=job.certificate())


run(main, snakemake)
