"""Figure 2: the LFC ratio of perturbations along training."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra import figures


def main(job):
    table = store.read(job.input.table).to_pandas()
    figure = figures.draw_trajectories(table, job.params.networks)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
