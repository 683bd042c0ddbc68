"""Ask each claim of the documents, and of our own studies, of this run's tables."""

import pandas as pd

from bandlimit.provenance.job import run
from bandlimit.claims import ledger, verdicts
from bandlimit.claims.wording import SMOKE
from bandlimit.studies import chance


def main(job):
    p = job.params
    paths = dict(zip(p.tables, job.input.tables, strict=True))
    clean = chance.clean(p.clean, job.input.undefended)
    guessing = {network for network, one in clean.items() if not one.above}
    experiments = [
        {**e, "at_chance": (e["dataset"], e["model"]) in guessing} for e in p.experiments
    ]
    frames = [
        verdicts.evaluate(
            path,
            paths,
            experiments,
            schema=job.input.schema,
            makeable=p.makeable,
            decides=not p.smoke,
        )
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
        alarms=[*([SMOKE] if p.smoke else []), *chance.alarms(clean)],
        markdown=out.markdown,
        html=out.html,
        parquet=out.parquet,
        certificate=job.certificate(),
    )


run(main, snakemake)
