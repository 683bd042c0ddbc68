"""Figure 1: the linear regions of a network, and an adversarial step across them."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.bandlimiting import theory_figures


def main(job):
    parts = zip(job.params.parts, job.input.tables, strict=True)
    figure = theory_figures.linear_regions(
        {name: store.read(path).to_pandas() for name, path in parts}
    )
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
