"""Mean spectra over images, as maps of the whole plane."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.studies.perturbation_spectra import measuring


def main(job):
    maps = measuring.averaged(job.input.dataset, job.input.perturbations)
    store.write(job.output.maps, measuring.maps_table(maps), job.certificate())


run(main, snakemake)
