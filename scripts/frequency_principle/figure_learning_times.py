"""Figure: which response frequencies are learnt when, under which theory."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.learning_figures import draw_learning_times


def main(job):
    figure = draw_learning_times(store.read(job.input.learning_times).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
