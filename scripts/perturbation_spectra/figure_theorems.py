"""Figure: the theorems of the document by simulation."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra.theorem_figures import draw_theorems

TABLES = ("theorem_1", "theorem_2", "theorem_3", "theorem_4")


def main(job):
    figure = draw_theorems({name: store.read(job.input[name]).to_pandas() for name in TABLES})
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
