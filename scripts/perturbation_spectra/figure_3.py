"""Figure 3: images, and the spectra of their perturbations."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra import spectrum_figures
from bandlimit.studies.perturbation_spectra.figures import title


def main(job):
    i, p = job.input, job.params
    found = spectrum_figures.read(i.dataset, i.perturbations, p.perturbation, images=p.images)
    figure = spectrum_figures.draw_gallery(found, title(p.dataset, p.network, p.perturbation))
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
