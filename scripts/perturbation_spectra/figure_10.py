"""Figure 10: mean log-spectrum difference for a network of the squared error."""

from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.studies.perturbation_spectra import spectrum_figures as figures
from bandlimit.studies.perturbation_spectra.figures import title


def main(job):
    p = job.params
    rows = store.read(job.input.maps[0]).to_pylist()
    row = next(row for row in rows if row["perturbation"] == p.perturbation)
    figure = figures.draw_maps(row, ["log_difference"], title(p.network, p.perturbation))
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
