"""Figure 1: the spectrum of one perturbation, and the log-spectrum difference."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra import spectrum_figures
from bandlimit.studies.perturbation_spectra.figures import title


def main(job):
    i, p = job.input, job.params
    found = spectrum_figures.read(i.dataset, i.perturbations, p.perturbation, place=p.place)
    figure = spectrum_figures.draw_spectrum(found, title(p.dataset, p.network, p.perturbation))
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
