"""Figure 10: as the second part of Figure 4, for a network trained by the squared error."""

from bandlimit.provenance.job import run
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra import spectrum_figures
from bandlimit.studies.perturbation_spectra.figures import title


def main(job):
    i, p = job.input, job.params
    found = spectrum_figures.read_maps(i.maps, p.perturbation)
    figure = spectrum_figures.draw_maps(
        found, ["log_difference"], title(p.dataset, p.network, p.perturbation)
    )
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
