"""Ask each claim of the documents, and of our own studies, of this run's tables."""

import pandas as pd

from bandlimit.claims import ledger, verdicts
from bandlimit.provenance.job import run


def main(job):
    p = job.params
    paths = dict(zip(p.tables, job.input.tables, strict=True))
    frames = [
        verdicts.evaluate(path, paths, p.experiments, schema=job.input.schema, makeable=p.makeable)
        for path in job.input.claims
    ]
    pictures = {}
    for (subject, _), path in zip(p.figures, job.input.figures, strict=True):
        pictures.setdefault(subject, []).append(path)
    out = job.output
    ledger.write(
        pd.concat(frames, ignore_index=True),
        list(job.input.claims),
        pictures,
        markdown=out.markdown,
        html=out.html,
        parquet=out.parquet,
        certificate=job.certificate(),
    )


run(main, snakemake)
