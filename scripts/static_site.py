"""Write the site: claims, tables and figures, images one by one, and the lineage of each file."""

from bandlimit import site
from job import run


def main(job):
    i, p = job.input, job.params
    choice = None
    if p.browser:
        choice = site.Choice(
            **p.browser,
            images_file=i.dataset,
            adversarial=list(i.adversarial),
            clean=list(i.clean),
            attacked=list(i.attacked),
            controls=list(i.controls),
        )
    site.write(
        job.output.index,
        job.output.pages,
        claims=i.claims,
        documents=list(i.documents),
        tables=list(i.tables),
        figures=list(i.figures),
        captions=list(i.captions),
        page=i.ledger,
        choice=choice,
        certificate=job.certificate(),
    )


run(main, snakemake)
