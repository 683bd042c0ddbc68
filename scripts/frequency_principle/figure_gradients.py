"""Figure: which of two response frequencies has the greater gradient."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.gradients_figure import draw_gradients


def main(job):
    figure = draw_gradients(store.read(job.input.gradients).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
