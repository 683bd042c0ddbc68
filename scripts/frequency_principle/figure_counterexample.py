"""Figure: the kernel of E, Ma and Wu, and what it learns first."""

from bandlimit.provenance.job import run
from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.studies.frequency_principle.response.counterexample_figure import (
    draw_counterexample,
)


def main(job):
    figure = draw_counterexample(
        store.read(job.input.counterexample).to_pandas(),
        store.read(job.input.counterexample_snapshots).to_pandas(),
        store.read(job.input.counterexample_times).to_pandas(),
    )
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
