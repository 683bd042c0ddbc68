"""Figure 5: an image, its perturbation, and their spectra."""

from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.studies.perturbation_spectra import spectrum_figures as figures
from bandlimit.studies.perturbation_spectra.figures import title


def main(job):
    p = job.params
    found = figures.read(job.input.dataset, job.input.perturbations, p.perturbation, p.place + 1)
    figure = figures.draw_image(found, p.place, title(p.network, p.perturbation))
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
