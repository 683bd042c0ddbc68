"""Figure: errors of the smooth part of a network's outputs and of the rest."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.projections_figures import draw_filtering


def main(job):
    frames = (store.read(job.input[name]).to_pandas() for name in ("curves", "summary"))
    files.save(draw_filtering(*frames), **job.pictures(), certificate=job.certificate())


run(main, snakemake)
