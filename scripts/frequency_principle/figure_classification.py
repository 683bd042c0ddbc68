"""Figure: two networks that agree on a curve, and what they say of the plane around it."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.manifolds_figures import draw_classification


def main(job):
    pictures, table = (
        store.read(path).to_pandas()
        for path in (job.input.pictures, job.input.manifold_classification)
    )
    figure = draw_classification(pictures, table, job.params.turns, job.params.frequency)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
