"""Figure: what noise on the parameters leaves of each frequency."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.sinusoids_figures import draw_parameter_noise


def main(job):
    figure = draw_parameter_noise(store.read(job.input.sinusoid_noise).to_pandas())
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
