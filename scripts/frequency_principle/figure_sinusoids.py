"""Figure: sinusoids of equal and of growing amplitudes along training."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.sinusoids_figures import draw_sinusoids

TABLES = ("sinusoids", "sinusoid_curves", "sinusoid_norms")


def main(job):
    figure = draw_sinusoids({name: store.read(job.input[name]).to_pandas() for name in TABLES})
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
