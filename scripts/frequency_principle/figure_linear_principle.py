"""Figure: the linear frequency principle beside what networks have learnt."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.linear_principle_figure import (
    draw_linear_principle,
)


def main(job):
    figure = draw_linear_principle(
        store.read(job.input.linear_principle).to_pandas(),
        store.read(job.input.linear_principle_points).to_pandas(),
    )
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
