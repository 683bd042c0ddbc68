"""When each response frequency is learnt: all works on one scale."""

from bandlimit.provenance.job import run
from bandlimit.files import store, tables
from bandlimit.studies.frequency_principle.response import learning_times


def main(job):
    works = job.params.works
    read = {name: store.read(job.input[name]).to_pandas() for name in works}
    times = learning_times.learning_times(learning_times.chosen(read), works)
    tables.save(learning_times.table(times), **job.forms(), certificate=job.certificate())


run(main, snakemake)
