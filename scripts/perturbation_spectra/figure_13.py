"""Figure 13: share of low frequencies, image by image."""

import numpy as np

from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.spectral import shells
from bandlimit.studies.perturbation_spectra import figures


def main(job):
    p = job.params
    of = shells.shells(p.sides)

    def ratios(paths, column):
        tables = [store.read(path) for path in paths]
        energies = [
            shells.per_shell(table, column)[
                np.array(table["perturbation"].to_pylist()) == p.perturbation
            ]
            for table in tables
        ]
        return shells.lfc_ratio(np.concatenate(energies), of, p.radius)

    figure = figures.draw_shares(
        ratios(job.input.spectra_natural, "clean_energies"),
        ratios(job.input.spectra_natural, "energies"),
        ratios(job.input.spectra_adversarial, "energies"),
        shells.uniform_share(of, p.radius),
        p.radius,
    )
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
