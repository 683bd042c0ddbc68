"""Figure: frequencies of a sum of sines along training."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.sinusoids_figures import draw_one_dimension

TABLES = ("one_dimension", "one_dimension_curves", "one_dimension_functions")


def main(job):
    figure = draw_one_dimension({name: store.read(job.input[name]).to_pandas() for name in TABLES})
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
