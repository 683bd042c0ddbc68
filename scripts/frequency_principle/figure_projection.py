"""Figure: when a network has learnt which frequency along the first principal component."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.projections_figures import draw_projection


def main(job):
    frames = (store.read(job.input[name]).to_pandas() for name in ("spectrum", "curves"))
    files.save(draw_projection(*frames), **job.pictures(), certificate=job.certificate())


run(main, snakemake)
