import base64
import hashlib
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import yaml
from docutils.core import publish_parts
from matplotlib.figure import Figure
from PIL import Image

from bandlimit.claims import ledger, verdicts
from bandlimit.errors import UserError
from bandlimit.files import certificates, contents, store, tables
from bandlimit.provenance import origin
from bandlimit.site import artifacts, browser, defense, front, pages
from bandlimit.site import browser as site_browser
from bandlimit.spectral import fourier, masks
from bandlimit.studies.robustness import summaries

TABLE = "results/tables/first/table_1"
FORMS = {"parquet": "parquet", "markdown": "md", "latex": "tex", "csv": "csv", "html": "html"}
FIGURE = "results/figures/first/figure_2.png"
DATASET = "results/datasets/own.parquet"
ADVERSARIAL = "results/adversarial/own/net/pgd/1of1.parquet"
EVALUATED = "results/evaluations/own/net/{}/post_averaging/1of1.parquet"
CONTROLS = "results/controls/own/net/1of1.parquet"
LEDGER = "results/claims/claims.parquet"
DATA = "data/own images.bin"
EPSILON = 8 / 255
CAPTION = """Rates at {{ snakemake.params.identity.epsilon * 255 }}/255, by
``{{ snakemake.params.identity.who }}``."""


def proof(rule, *inputs, **params):
    return origin.certificate(
        rule=rule,
        params={**params, "wildcards": {}},
        inputs={name: name for name in inputs},
        script="code.py",
        code={"code.py": store.sha256("code.py")},
        lock="requirements.lock",
        home=".",
        device="cpu",
    )


def images(count, shape=(1, 8, 8)):
    return np.random.default_rng(3).integers(40, 200, (count, *shape)).astype(np.uint8)


def write_dataset(count=3, shape=(1, 8, 8)):
    table = pa.table(
        {
            "image_id": [f"image {i}" for i in range(count)],
            "label": list(range(count)),
            "split": ["test"] * count,
            "image": store.image_column(images(count, shape)),
        }
    )
    store.write(DATASET, table, proof("make_dataset", DATA, source="fashion_mnist"))


def write_adversarial(count=3, shape=(1, 8, 8)):
    """The first image is fooled, the second resists, the third was mislabelled before."""
    clean = images(count, shape).astype(np.float32) / 255
    attacked = clean.copy()
    attacked[0] += np.float32(0.02)
    found = np.arange(count) == 0
    rows = {
        "image_id": [f"image {i}" for i in range(count)],
        "epsilon": [EPSILON] * count,
        "label": list(range(count)),
        "status": ["ok", "failed", "misclassified"][:count],
        "success": found,
        "prediction_before": [0, 1, 7][:count],
        "prediction_after": [5, 1, 7][:count],
        "linf": np.where(found, 0.02, 0.0),
        "l2": np.where(found, 0.16, 0.0),
        "steps": [3] * count,
        "image": store.image_column(attacked),
    }
    store.write(ADVERSARIAL, pa.table(rows), proof("attack", DATASET, steps=3))


def write_evaluations():
    for inputs in ("clean", "pgd"):
        rows = [
            {"image_id": f"image {i}", "epsilon": None if inputs == "clean" else EPSILON,
             "label": i, "radius": radius, "directions": 15, "draw": draw,
             "prediction": i if inputs == "clean" or draw else 9}
            for i in range(3) for radius in (1.0, 2.0) for draw in range(3)
        ]  # fmt: skip
        table = pa.Table.from_pandas(pd.DataFrame(rows).astype({"epsilon": "float64"}))
        store.write(EVALUATED.format(inputs), table, proof("evaluate", ADVERSARIAL))
    rows = [
        {"image_id": f"image {i}", "inputs": inputs, "control": control, "label": i, "draw": 0,
         "epsilon": None if inputs == "clean" else EPSILON, "prediction": 4}
        for i in range(3) for inputs in ("clean", "pgd", "fgsm")
        for control in ("undefended", "post_averaging", "low_pass")
    ]  # fmt: skip
    table = pa.Table.from_pandas(pd.DataFrame(rows).astype({"epsilon": "float64"}))
    store.write(CONTROLS, table, proof("evaluate_controls", ADVERSARIAL))


def write_table(rows=3, rule="table_1"):
    frame = pd.DataFrame({"attack": ["<pgd>"] * rows, "rate": np.linspace(0, 1, rows)})
    tables.save(
        tables.Table(
            frame,
            {"attack": tables.Column("Attack"), "rate": tables.Column("Rate", 2)},
            title="Table 1: rates",
            note="A rate is a share.",
        ),
        **{form: f"{TABLE}.{end}" for form, end in FORMS.items()},
        certificate=proof(rule, ADVERSARIAL, epsilon=EPSILON, who="<us>"),
    )


def write_figure():
    Path(FIGURE).parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    image = Image.new("RGB", (600, 300), "white")
    image.save(buffer, format="PNG")
    sealed = certificates.sealed(
        proof("figure_2", f"{TABLE}.parquet"), FIGURE, contents.pixels(image)
    )
    Path(FIGURE).write_bytes(
        contents.with_png_text(buffer.getvalue(), certificates.as_text(sealed))
    )


def write_claims():
    document = {
        "document": "A <document>",
        "summary": [{"say": "The rate is {C01.measured:.0%} of *all*."}],
        "claims": [
            {"id": f"first.C0{i}", "where": "Table 1", "statement": f"Statement {i}.",
             "in_substance": {"tests": [{"records": "tables/first/table_1"}]},
             "as_reported": {"tests": [{"records": "tables/first/table_1"}]}}
            for i in (1, 2)
        ],
    }  # fmt: skip
    Path("workflow/claims").mkdir(parents=True)
    Path("workflow/claims/first.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    asked = {"records": f"{TABLE}.parquet", "rows": "attack == 'pgd'"}
    facts = asked | {
        "measured": 0.5, "low": 0.4, "high": 0.6, "cases": 77.0, "measured_on": "own/net",
        "stand_in": True, "networks": "own/net: holds; own/other: not asked",
        "reading": "Rate: 0.5 [0.4, 0.6].",
    }  # fmt: skip
    nothing = dict.fromkeys(verdicts.FACTS, "") | asked | {"reading": "Nothing decides."}
    nothing |= dict.fromkeys(("measured", "low", "high", "cases", "needed", "stand_in"))
    rows = []
    for i, substance, reported in (
        (1, "holds", "not run at this scale"),
        (2, "does not hold", "contradicted"),
    ):
        found = facts | {"decided_by": f"tables/first/table_1: {i}", "checks_failed": ""}
        row = {
            "id": f"first.C0{i}", "study": "first", "document": "A <document>",
            "where": "Table 1", "statement": f"Statement {i}.", "substance": f"Substance {i}.",
            "reported": 0.93, "in_substance": substance, "as_reported": reported,
        }  # fmt: skip
        row |= {f"in_substance_{fact}": value for fact, value in found.items()}
        own = found | {"measured": 0.25, "low": 0.2} if i == 2 else nothing
        row |= {f"as_reported_{fact}": value for fact, value in own.items()}
        rows.append(row)
    frame = pd.DataFrame(rows, columns=list(verdicts.COLUMNS)).astype(verdicts.COLUMNS)
    ledger.write(
        frame,
        ["workflow/claims/first.yaml"],
        {},
        markdown="results/claims/claims.md",
        html="results/claims/claims.html",
        parquet=LEDGER,
        certificate=proof("evaluate_claims", f"{TABLE}.parquet", "workflow/claims/first.yaml"),
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of one study, with all that the site shows."""
    folder = tmp_path / "a project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, text in ((DATA, "images"), ("code.py", "pass\n"), ("requirements.lock", "\n")):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    Path("captions/first").mkdir(parents=True)
    Path("captions/first/table_1.rst").write_text(CAPTION, encoding="utf-8")
    write_dataset()
    write_adversarial()
    write_evaluations()
    write_table()
    write_figure()
    write_claims()
    return folder


CHOICE = {
    "dataset": "own",
    "source": "fashion_mnist",
    "model": "net",
    "attack": "pgd",
    "images": 3,
    "epsilon": EPSILON,
    "radius": 2.0,
    "directions": 15,
    "images_file": DATASET,
    "adversarial": [ADVERSARIAL],
    "clean": [EVALUATED.format("clean")],
    "attacked": [EVALUATED.format("pgd")],
    "controls": [CONTROLS],
}


def write_site(choice=CHOICE, **changes):
    named = {
        "claims": LEDGER,
        "documents": ["workflow/claims/first.yaml"],
        "tables": [f"{TABLE}.{end}" for end in FORMS.values()],
        "figures": [FIGURE],
        "captions": ["captions/first/table_1.rst"],
        "faces": {"first": FIGURE},
        "page": "results/claims/claims.html",
        **changes,
    }
    named["files"] = [*named.pop("tables"), *named.pop("figures")]
    if named["faces"].get("first") not in named["files"]:
        named["faces"] = {}
    read = [LEDGER, *named["files"]]
    pages.write(
        "results/index.html",
        "results/site",
        **named,
        choice=site_browser.Choice(**choice) if choice else None,
        certificate=proof("static_site", *read),
    )
    return Path("results/index.html").read_text(encoding="utf-8")


def lineage_page(name):
    path = Path(f"results/site/lineage/{name.removeprefix('results/')}.html")
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The links, places, pictures and words of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.images, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.ids += [given["id"]] if "id" in given else []
        self.images += [given] if tag == "img" else []

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def html_pages():
    return [Path("results/index.html"), *sorted(Path("results/site").rglob("*.html"))]


def test_the_index_has_a_sentence_per_document_and_each_claim_with_its_numbers(run):
    text = Reader(write_site()).text
    assert "A <document> The rate is 50% of *all*." in text
    for i in (1, 2):
        assert f"Substance {i}." in text and f"As reported: Statement {i}." in text
    for shown in ("0.93", "0.5 [0.4, 0.6]", "0.25 [0.2, 0.6]", "77", "contradicted"):
        assert shown in text


def first_screen(page):
    """Return what stands before the contents."""
    return page[page.index("<h1>") :].partition("<nav")[0]


def test_the_page_begins_with_what_was_found(run):
    shown = first_screen(write_site())
    text = Reader(shown).text
    assert text.startswith(pages.TITLE)
    assert text.removeprefix(pages.TITLE).split("In substance")[0].strip() == (
        "A <document> The rate is 50% of *all*."
    )
    # Of both parts only the verdicts that there are, in their order.
    assert text.endswith(
        "In substance 1 holds 1 does not hold As reported 1 contradicted 1 not run at this scale"
    )
    picture = Reader(shown)
    assert picture.links == [
        "#claims-first",
        "#figure-first-figure_2",
        "figures/first/figure_2.png",
    ]
    assert picture.images[0]["alt"].startswith("Figure 2")


def examined(verdict, on="own"):
    rate = {"mean": 0.5, "low": 0.4, "high": 0.6, "images": 9}
    return {
        "dataset": on, "model": "net: <one>, small", "epsilon": EPSILON, "verdict": verdict,
        "judged_at": EPSILON, "reading": f"At epsilon = 8/255, it {verdict}: 50% < 90%.",
        "clean": {"bare": rate, "defended": rate},
        "cost": {"difference": 0.0, "low": -0.1, "high": 0.1},
        "suggested": [], "attacked": [{"epsilon": EPSILON, **rate, "bare": rate}], "attacks": [],
        "failed": [], "passed": 1, "not_run": [], "controls": [],
    }  # fmt: skip


def write_defense(name, *verdicts):
    defense.write(
        f"results/defenses/{name}.html",
        f"results/defenses/{name}.md",
        defense=name,
        entry={"kind": "python"},
        found=[examined(verdict, f"set {i}") for i, verdict in enumerate(verdicts)],
        figure=Figure(),
        certificate=proof("defense_page", f"{TABLE}.parquet"),
    )
    return f"results/defenses/{name}.html"


def test_the_index_leads_to_each_defence_with_its_verdict_and_why(run):
    verdicts = (summaries.HOLDS, summaries.FAILS, summaries.OPEN)
    page = write_site(
        defenses=[write_defense("mine", *verdicts), write_defense("other", summaries.HOLDS)]
    )
    read = Reader(page)
    assert {"defenses/mine.html", "defenses/other.html", "#defenses"} <= set(read.links)
    for i, verdict in enumerate(verdicts):
        assert (
            f"mine {verdict} On set {i}, net: <one>, small. At epsilon = 8/255, it {verdict}: "
            "50% < 90%."
        ) in read.text
    assert page.index('id="defenses"') < page.index('id="claims"')
    marks = re.findall(r'class="verdict (\w+)">[a-z ]+</span> <span class="soft">On set', page)
    assert marks == ["yes", "no", "open", "yes"]


def test_a_run_that_examines_no_defence_names_none(run):
    page = write_site()
    assert "Defences" not in Reader(page).text and "#defenses" not in page


def test_the_verdicts_are_explained_with_the_claims(run):
    page = write_site()
    said = ledger.NOTE[:40]
    assert said not in first_screen(page)
    assert said in page[page.index('<h2 id="claims">') :].partition("<form")[0]


def test_a_study_without_a_picture_has_its_sentence(run):
    shown = Reader(first_screen(write_site(faces={})))
    assert "The rate is 50%" in shown.text and not shown.images


def test_a_claim_is_answered_in_substance_and_as_reported(run):
    page = write_site()
    row = page[page.index('<tr id="first.C01"') :].partition("</tr>")[0]
    _, substance, reported = (Reader(cell).text for cell in row.split("<td")[1:])
    assert "holds 0.5 [0.4, 0.6] , N = 77" in substance and "reported" not in substance
    assert "Asked of own/net: holds; own/other: not asked" in substance
    assert "Measured on own/net, a stand-in" in substance
    assert "Decided by Table 1: rates , row 1" in substance
    assert "not run at this scale reported 0.93 Nothing decides." in reported
    assert "To be decided by Table 1: rates" in reported and "Asked of" not in reported


def test_filters_ask_for_study_verdicts_of_both_parts_and_words(run):
    page = write_site()
    form = page[page.index("<form") :].partition("</form>")[0]
    boxes = re.findall(r'type="checkbox" name="(\w+)" value="([\w ]+)"', form)
    assert boxes == [(part, name) for part, names in verdicts.VERDICTS.items() for name in names]
    assert 'name="study"' in form and 'name="words"' in form
    # The script compares these with the rows.
    rows = re.findall(r'<tr id="(first.C0\d)" data-study="first" (data-.*?)>', page)
    assert rows == [
        ("first.C01", 'data-in_substance="holds" data-as_reported="not run at this scale"'),
        ("first.C02", 'data-in_substance="does not hold" data-as_reported="contradicted"'),
    ]


# The front page of Snakemake's report

TEMPLATE = Path(__file__).parents[2] / "workflow/report/workflow.rst"


def snakemake_page(text):
    """Return a page as Snakemake's report shows it."""
    filled = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(text).render()
    settings = {"halt_level": 2, "report_level": 2}
    page = publish_parts(filled, writer="html", settings_overrides=settings)["html_body"]
    return re.sub("<style>.*?</style>", "", page)


def test_the_report_begins_with_what_was_found(run):
    write_site(report=front.Page("results/report.rst", TEMPLATE))
    assert contents.fault("results/report.rst") is None
    page = Reader(snakemake_page(Path("results/report.rst").read_text(encoding="utf-8")))
    assert page.text.startswith(
        "A <document>. The rate is 50% of *all*. In substance: 1 holds, 1 does not hold "
        "As reported: 1 contradicted, 1 not run at this scale Go on with the ledger"
    )
    assert page.images[0]["alt"].startswith("Figure 2")
    code = base64.b64encode(Path(FIGURE).read_bytes()).decode()
    assert page.images[0]["src"] == f"data:image/png;base64,{code}"


def test_an_alarm_stands_on_each_page_before_what_was_found(run):
    alarm = "No number of net_a on own_images says anything: its accuracy is 0.000 [0.000, 0.04]."
    index = write_site(alarms=[alarm], report=front.Page("results/report.rst", TEMPLATE))
    report = snakemake_page(Path("results/report.rst").read_text(encoding="utf-8"))
    pages = [index, report, lineage_page(f"{TABLE}.parquet"), lineage_page(LEDGER)]
    for page in pages:
        assert alarm in Reader(page).text
    for page in pages[:2]:
        text = Reader(page).text
        assert text.index(alarm) < text.index("The rate is 50% of")


def test_the_report_before_any_run_has_the_rest_of_its_page():
    page = Reader(snakemake_page(TEMPLATE.read_text(encoding="utf-8")))
    assert page.text.startswith("Go on with the ledger") and not page.images


def test_braces_of_a_document_mean_nothing_in_the_report(run):
    path = Path("workflow/claims/first.yaml")
    text = path.read_text(encoding="utf-8").replace("A <document>", "A {{ document }}")
    path.write_text(text, encoding="utf-8")
    write_site(report=front.Page("results/report.rst", TEMPLATE))
    page = Reader(snakemake_page(Path("results/report.rst").read_text(encoding="utf-8")))
    assert page.text.startswith("A {{ document }}.")


def test_a_claim_leads_to_the_row_that_decides_it_and_to_the_figure_drawn_of_it(run):
    page = write_site()
    row = page[page.index('id="first.C02"') :].partition("</tr>")[0]
    assert 'href="#table-first-table_1-2">2</a>' in row
    assert 'href="#figure-first-figure_2"' in row


def test_a_table_decides_its_own_claims_and_not_those_of_the_table_it_was_made_from(run):
    other = "results/tables/first/other.parquet"
    store.write(other, pa.table({"a": [1]}), proof("other", f"{TABLE}.parquet"))
    page = write_site(tables=[f"{TABLE}.parquet", other], choice=None)

    def article(name):
        return page[page.index(f'<h3 id="{name}">') :].partition("</article>")[0]

    assert "Claims" not in article("table-first-other")
    assert 'Made from: <a href="#table-first-table_1">' in article("table-first-other")
    assert "Claims it decides" in article("table-first-table_1")
    assert "Claims that its numbers decide" in article("figure-first-figure_2")
    assert 'Drawn in <a href="#table' not in page


def test_each_link_leads_to_a_file_and_to_a_place_in_it(run):
    write_site()
    read = {path.resolve(): Reader(path.read_text(encoding="utf-8")) for path in html_pages()}
    followed = 0
    for path, page in read.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme == "data":
                continue
            assert not parts.scheme, link
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment:
                assert unquote(parts.fragment) in read[target].ids, f"{path}: {link}"
            followed += 1
    assert followed > 50


def test_nothing_is_fetched_from_elsewhere(run):
    write_site()
    for path in html_pages():
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest", text), path


def test_each_file_carries_its_certificate(run):
    write_site()
    write_dataset(1, (3, 64, 64))
    write_adversarial(1, (3, 64, 64))
    write_site({**CHOICE, "images": 1})
    files = [path for path in Path("results/site").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".html", ".png"}
    for path in [Path("results/index.html"), *files]:
        found = contents.certificate(path)
        assert found["file"] == path.as_posix()
        assert contents.fault(path) is None


def test_equal_runs_give_equal_bytes_and_leave_nothing_of_the_last(run):
    def digests():
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in html_pages()}

    write_site()
    first = digests()
    leftover = Path("results/site/lineage/old.html")
    leftover.write_text("old", encoding="utf-8")
    write_site()
    assert digests() == first
    assert not leftover.exists()


def test_lineage_is_followed_by_links_from_a_figure_to_the_data(run):
    write_site()
    page = Path("results/site/lineage/figures/first/figure_2.png.html").resolve()
    for name in ("table_1.parquet", "pgd/1of1.parquet", "own.parquet", "own%20images.bin"):
        links = Reader(page.read_text(encoding="utf-8")).links
        link = next(link for link in links if link.endswith(f"{name}.html"))
        page = (page.parent / unquote(link)).resolve()
    text = Reader(page.read_text(encoding="utf-8")).text
    assert "the way back ends here" in text
    assert store.sha256(DATA) in text
    assert DATASET in text


def test_a_lineage_page_says_rule_parameters_inputs_code_and_command(run):
    write_site()
    text = Reader(lineage_page(f"{TABLE}.parquet")).text
    for said in (
        "made by the rule table_1",
        "<us>",
        store.sha256(ADVERSARIAL),
        store.sha256(DATA),
        store.sha256("code.py"),
        store.sha256("requirements.lock"),
        f"--force {TABLE}.parquet",
        f"bandlimit audit {TABLE}.parquet",
        "These rest on it",
        "first.C01 Table 1 Statement 1. holds not run at this scale",
    ):
        assert said in text


def test_the_registry_is_quoted_for_what_images_and_weights_are(run):
    assert "dataset <b>fashion_mnist</b>: Xiao" in write_site()
    text = Reader(lineage_page(f"{TABLE}.parquet")).text
    assert f"The dataset fashion_mnist , which became {DATASET}" in text
    assert "Xiao, Rasul and Vollgraf (2017)" in text and "Licence: MIT." in text


def test_a_file_that_changed_between_its_readers_is_named(run):
    Path(DATA).write_text("other images", encoding="utf-8")
    store.write("results/tables/first/other.parquet", pa.table({"a": [1.5]}), proof("other", DATA))
    page = write_site(tables=[f"{TABLE}.parquet", "results/tables/first/other.parquet"])
    assert f"Changed between the jobs that read them: {DATA}." in page
    assert "What this page shows is in doubt" in page
    assert "It changed between the jobs that read it" in lineage_page(DATA)


def test_a_file_that_is_gone_is_named_and_the_site_made_all_the_same(run):
    page = write_site(choice=None)
    assert "in doubt" not in page
    os.remove(ADVERSARIAL)
    page = write_site(choice=None)
    assert f"Not here, or no longer what was read: {ADVERSARIAL}." in page
    assert "What this page shows is in doubt" in page
    assert "The file is not here." in lineage_page(ADVERSARIAL)


def test_a_changed_table_is_not_trusted(run):
    text = Path(f"{TABLE}.md").read_text(encoding="utf-8")
    Path(f"{TABLE}.md").write_text(text.replace("1.00", "0.99"), encoding="utf-8")
    page = write_site(tables=[f"{TABLE}.md"], figures=[])
    assert f"{TABLE}.md is not to be trusted" in page


def test_a_run_of_tables_alone_has_a_site(run):
    page = write_site(choice=None, figures=[], captions=[], page=None)
    assert 'id="images"' not in page
    assert "Table 1: rates" in page


def test_the_caption_is_filled_from_the_parameters_of_the_artifact(run):
    page = write_site()
    assert "Rates at 8.0/255, by\n" in page
    assert "&lt;us&gt;" in page and "<us>" not in page


def test_each_table_of_a_rule_that_makes_many_has_a_caption_of_its_own(run):
    both = [f"{TABLE}.parquet", "results/tables/first/two.parquet"]
    write_table(rule="rule")
    store.write(both[1], pa.table({"a": [1]}), proof("rule", epsilon=EPSILON, who="us"))
    page = write_site(tables=both)
    assert page.count("Rates at") == 1
    Path("captions/first/two.rst").write_text("The second.", encoding="utf-8")
    page = write_site(
        tables=both, captions=["captions/first/table_1.rst", "captions/first/two.rst"]
    )
    assert "The second." in page and page.count("Rates at") == 1


def test_a_caption_of_another_study_is_not_taken(run):
    Path("captions/second").mkdir()
    Path("captions/first/table_1.rst").rename("captions/second/table_1.rst")
    assert "Rates at" not in write_site(captions=["captions/second/table_1.rst"])


def test_a_caption_that_asks_for_too_much_is_named(run):
    Path("captions/first/table_1.rst").write_text(
        "{{ snakemake.params.identity.seed }}", encoding="utf-8"
    )
    with pytest.raises(UserError, match=r"'captions/first/table_1.rst' asks for .* 'seed'"):
        write_site()


def test_a_long_table_is_cut_and_says_so(run):
    write_table(artifacts.ROWS + 7)
    page = write_site()
    assert f"The first {artifacts.ROWS} of {artifacts.ROWS + 7} rows" in page
    assert page.count('<tr id="table-first-table_1-') == artifacts.ROWS


def test_a_column_that_says_the_same_in_all_rows_is_said_once(run):
    page = write_site()
    assert "In all rows: Attack <b>&lt;pgd&gt;</b>." in page
    assert page.count("&lt;pgd&gt;") == 1


def test_the_name_of_a_figure_is_its_alternative_text(run):
    images = Reader(write_site()).images
    assert all(image["alt"] for image in images)
    assert any(image["alt"].startswith("Figure 2") for image in images)


# Images one by one


def cards(**changes):
    return browser.show(browser.Choice(**{**CHOICE, **changes}), lambda picture, name: name)[
        "cards"
    ]


def test_an_image_shows_what_each_defence_says_of_it(run):
    first = cards()[0]
    assert first["before"] == "✓ right: T-shirt/top"
    assert first["after"] == "✗ wrong: Sandal"
    assert first["defenses"] == [
        {
            "name": "post-averaging (r = 2, K = 15)",
            "clean": "✓ right: T-shirt/top (3 of 3 draws)",
            "attacked": "✓ right: T-shirt/top (2 of 3 draws)",
        },
        {"name": "low pass", "clean": "✗ wrong: Coat", "attacked": "✗ wrong: Coat"},
    ]
    assert first["heading"].endswith("1 of 2 are right on the adversarial image")


def test_images_that_were_not_fooled_are_shown_with_the_reason(run):
    resisted, mislabelled = cards()[1:]
    assert resisted["reason"].startswith("The attack found no adversarial image.")
    assert mislabelled["reason"].startswith("Not attacked: the network misclassifies")
    assert [len(card["panels"]) for card in cards()] == [4, 1, 1]


def test_without_controls_post_averaging_alone_is_shown(run):
    assert [row["name"] for row in cards(controls=())[0]["defenses"]] == [
        "post-averaging (r = 2, K = 15)"
    ]


def test_classes_without_names_are_numbers(run):
    assert cards(source="mnist")[0]["after"] == "✗ wrong: class 5"
    assert cards(source=None)[0]["after"] == "✗ wrong: class 5"


def test_classes_of_own_data_have_the_names_of_their_folders(tmp_path):
    path = tmp_path / "own.parquet"
    named = [("cat/0.png", 0), ("cat/more/1.png", 0), ("dog/0.png", 1)]
    named += [("car/0.png", 2), ("truck/0.png", 2), ("loose.png", 3)]
    ids, labels = zip(*named, strict=True)
    store.write(path, pa.table({"label": labels, "image_id": ids}), None)
    name = browser.own_names(path)
    assert [name(i) for i in range(5)] == ["cat", "dog", "class 2", "class 3", "class 4"]


def test_images_names_and_predictions_are_read_a_few_rows_at_a_time(run, monkeypatch):
    """So that the memory of the browser does not grow with the images."""
    monkeypatch.setattr(store, "read", None)
    assert len(browser.first_images(browser.Choice(**CHOICE))) == 3
    assert browser.own_names(DATASET)(1) == "class 1"
    assert cards()[0]["defenses"]


def test_only_rows_of_the_bound_are_shown(run):
    table = store.read(ADVERSARIAL)
    other = table.set_column(1, "epsilon", pa.array([2 / 255] * 3)).slice(0, 2)
    store.write(ADVERSARIAL, pa.concat_tables([other, table]), None)
    choice = browser.Choice(**CHOICE)
    assert browser.first_images(choice)["image_id"].to_pylist() == ["image 0", "image 1", "image 2"]
    near = browser.Choice(**{**CHOICE, "epsilon": 2 / 255})
    assert len(browser.first_images(near)) == 2


@pytest.mark.parametrize("count", [2, 3, 20])
@pytest.mark.parametrize("bounds", [[None], [2 / 255, EPSILON]])
def test_images_are_the_first_of_the_dataset_whatever_the_shards(run, monkeypatch, bounds, count):
    monkeypatch.setattr(browser, "BATCH", 4)
    ids = [f"image {i}" for i in range(11)]
    first = store.read(ADVERSARIAL, ["image_id", "epsilon", "status", "image"])

    def shown(shards):
        paths = []
        # Of more shards than images there are the first.
        for shard in range(min(count, shards)):
            parts = []
            for bound in bounds:
                own = ids[shard::shards]
                rows = first.take([0] * len(own)).set_column(0, "image_id", pa.array(own))
                epsilons = pa.array([bound] * len(own), pa.float64())
                parts.append(rows.set_column(1, "epsilon", epsilons))
            paths.append(f"{shard + 1}of{shards}.parquet")
            store.write(paths[-1], pa.concat_tables(parts))
        return browser.first_images(
            browser.Choice(**{**CHOICE, "adversarial": paths, "images": count})
        ).to_pydict()

    one = shown(1)
    assert one["image_id"] == ids[:count] and set(one["epsilon"]) == {bounds[-1]}
    assert all(shown(shards) == one for shards in (2, 3, 5, 11))


def test_a_perturbation_beyond_the_bound_is_said(run):
    said = [cards(epsilon=bound)[0]["beyond"] for bound in (EPSILON, 0.02, 0.01)]
    assert said == ["", "", " Beyond 2.55/255."]


def test_images_end_at_the_number_asked_for(run):
    assert [card["image_id"] for card in cards(images=2)] == ["image 0", "image 1"]


def test_no_image_at_all_is_an_error(run):
    store.write(ADVERSARIAL, store.read(ADVERSARIAL).slice(0, 0), None)
    with pytest.raises(ValueError, match="no image of 'pgd'"):
        cards()


@pytest.mark.parametrize(
    ("greatest", "factor"), [(0.5, 1), (0.9, 1), (0.02, 20), (0.0094, 50), (0.005, 100)]
)
def test_magnification_is_round_and_keeps_within_the_range(greatest, factor):
    found = browser.magnification(np.array([-greatest, greatest / 3]))
    assert found == factor
    assert found == 1 or found * greatest <= 0.5


def test_the_site_imports_neither_pytorch_nor_what_draws_figures():
    code = "import sys; from bandlimit.site import pages; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "matplotlib", "seaborn", "scipy.stats"} & set(ran.stdout.split())


@pytest.mark.parametrize("side", [20, 27, 28])
def test_spectra_of_the_browser_are_those_of_the_library(side):
    change = np.random.default_rng(0).normal(size=(3, side, side)).astype(np.float32)
    wanted = fourier.power(torch.from_numpy(change.astype(np.float64))).numpy().mean(axis=0)
    assert browser.power(change) == pytest.approx(wanted)
    high = masks.beyond((side, side), browser.HIGH).numpy()
    assert browser.share_above(wanted) == wanted[high].sum() / wanted.sum()


def test_a_wave_has_its_power_at_its_own_frequency():
    wave = np.cos(2 * np.pi * 3 * np.arange(16) / 16) * np.ones((2, 16, 16))
    power = browser.power(wave)
    assert set(zip(*np.nonzero(power > 1e-6), strict=True)) == {(8, 5), (8, 11)}
    assert browser.share_above(power) == pytest.approx(0, abs=1e-9)
    assert browser.share_above(power, 0.18) == pytest.approx(1)


def test_the_spectrum_is_white_at_its_maximum_and_black_at_the_floor():
    power = np.array([[1.0, 10 ** (-browser.FLOOR / 20)], [10 ** (-browser.FLOOR / 10), 0.0]])
    assert browser.spectrum_picture(power).tolist() == [[255, 128], [0, 0]]


def test_pictures_keep_their_pixels():
    grey = np.array([[[0.0, 1.0], [0.5, 2.0]]])
    assert np.asarray(browser.to_picture(grey)).tolist() == [[0, 255], [128, 255]]
    colour = images(1, (3, 4, 5))[0]
    read = Image.open(io.BytesIO(browser.encoded(browser.to_picture(colour))))
    assert np.array_equal(np.asarray(read), colour.transpose(1, 2, 0))
