"""Figure 1: the linear regions of a network, and an adversarial step across them."""

from bandlimit import plots, store
from job import run


def main(job):
    parts = zip(job.params.parts, job.input.tables, strict=True)
    figure = plots.linear_regions({name: store.read(path).to_pandas() for name, path in parts})
    out = job.output
    plots.save(figure, out.png, out.pdf, out.svg, job.certificate())


run(main, snakemake)
