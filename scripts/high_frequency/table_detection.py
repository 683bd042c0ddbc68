"""Tables: objects found in images and their components, and what low frequencies alone gain."""

from bandlimit.provenance.job import run
from bandlimit.files import store, tables
from bandlimit.studies.high_frequency import coco
from bandlimit.studies.high_frequency.detection_rates import gains_table, precision_table

MAKERS = {"table_detection": precision_table, "table_detection_gains": gains_table}


def main(job):
    i, p = job.input, job.params
    data = coco.read(i.annotations, i.pictures).chosen(p.images, p.seed)
    rows = {name: store.read(i[name]).to_pandas() for name in ("full", "low", "high")}
    for number, name in enumerate(p.tables):
        table = MAKERS[name](data, rows, i.claims)
        tables.save(table, **job.forms(number), certificate=job.certificate())


run(main, snakemake)
