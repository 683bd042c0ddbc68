"""Write the site: what was found, claims, tables and figures, images, the lineage of each file."""

from bandlimit.provenance.job import run
from bandlimit.claims.wording import SMOKE
from bandlimit.site import browser, front, pages
from bandlimit.studies import chance


def main(job):
    i, p = job.input, job.params
    choice = None
    if p.browser:
        choice = browser.Choice(
            **p.browser,
            images_file=i.dataset,
            adversarial=list(i.adversarial),
            clean=list(i.clean),
            attacked=list(i.attacked),
            controls=list(i.controls),
        )
    pages.write(
        job.output.index,
        job.output.pages,
        claims=i.claims,
        documents=list(i.documents),
        files=list(i.artifacts),
        captions=list(i.captions),
        faces=p.faces,
        defenses=[path for path in i.defenses if path.endswith(".html")],
        page=i.ledger,
        choice=choice,
        report=front.Page(job.output.report, i.report),
        alarms=[
            *([SMOKE] if p.smoke else []),
            *chance.alarms(chance.clean(p.clean, i.undefended)),
        ],
        certificate=job.certificate(),
    )


run(main, snakemake)
