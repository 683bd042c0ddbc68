"""Figure: low frequencies while a network is trained, on one sample and on many."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.perturbation_spectra.theorem_figures import draw_training

TABLES = ("training", "training_curves")


def main(job):
    figure = draw_training({name: store.read(job.input[name]).to_pandas() for name in TABLES})
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
