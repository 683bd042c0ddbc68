"""Figure: sinusoids on curves of few and of many turns, along training."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.manifolds_figures import draw_manifolds

TABLES = ("manifolds", "manifold_curves", "manifold_levels")


def main(job):
    figure = draw_manifolds({name: store.read(job.input[name]).to_pandas() for name in TABLES})
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
