"""Figure 3: images and the spectra of their perturbations."""

from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.studies.perturbation_spectra import spectrum_figures as figures
from bandlimit.studies.perturbation_spectra.figures import title


def main(job):
    p = job.params
    found = figures.read(job.input.dataset, job.input.perturbations, p.perturbation, p.images)
    figure = figures.draw_gallery(found, title(p.network, p.perturbation))
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
