"""Figure 1: the linear regions of a network, and an adversarial step across them."""

from bandlimit import store
from bandlimit.plots import files, theory
from job import run


def main(job):
    parts = zip(job.params.parts, job.input.tables, strict=True)
    figure = theory.linear_regions({name: store.read(path).to_pandas() for name, path in parts})
    out = job.output
    files.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
