"""Figure 2: mean spectra of images and of corruptions."""

from bandlimit.provenance.job import run
from bandlimit.data import stream
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.image import spectra_figures

BATCH = 256


def main(job):
    p = job.params
    keep = stream.chosen(job.input.dataset, p.images, name=p.dataset, seed=p.seed)
    maps = spectra_figures.of_corruptions(
        stream.arrays(job.input.dataset, BATCH, "1of1", keep),
        corruptions=p.corruptions,
        severity=p.severity,
        seed=p.seed,
        dataset=p.dataset,
    )
    titles = {name.replace("_", " "): values for name, values in maps.items()}
    figure = spectra_figures.draw(
        titles, "mean |F| of the images X and of what corruptions change, C(X) - X", shared=False
    )
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
