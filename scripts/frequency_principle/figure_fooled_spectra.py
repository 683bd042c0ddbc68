"""Figure 7 (a, b): mean spectra of perturbations of misclassified images."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.image import spectra_figures
from bandlimit.studies.perturbation_spectra.spectrum_figures import read


def main(job):
    p, maps = job.params, {}
    for training in ("natural", "adversarial"):
        paths = getattr(job.input, training)
        found = read(job.input.dataset, paths, p.perturbation, images=p.images)
        values, count = spectra_figures.of_fooled(found.changes, found.labels, found.after)
        if values is not None:
            maps[f"{training} training\nN = {count}"] = values
    figure = spectra_figures.draw(maps, "mean |F(δ)|", shared=True)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
