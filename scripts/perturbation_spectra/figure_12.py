"""Figure 12: mean log-spectrum and log-spectrum difference of the two-layer network."""

from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.studies.perturbation_spectra import spectrum_figures as figures
from bandlimit.studies.perturbation_spectra.figures import title


def main(job):
    p = job.params
    rows = store.read(job.input.maps[0]).to_pylist()
    row = next(row for row in rows if row["perturbation"] == p.perturbation)
    figure = figures.draw_maps(
        row, ["log_magnitudes", "log_difference"], title(p.network, p.perturbation)
    )
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
