"""Figure 13: the LFC ratio of images and of their perturbations, image by image."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra import figures


def main(job):
    i, p = job.input, job.params
    shares = figures.read_shares(
        i.spectra_natural, i.spectra_adversarial, p.perturbation, p.sides, p.radius
    )
    heading = figures.title(p.dataset, p.network, p.perturbation, training=False)
    figure = figures.draw_shares(shares, heading)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
