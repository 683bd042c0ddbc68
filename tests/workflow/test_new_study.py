"""A study with a table and a figure is new files, and one line where studies are listed."""

import copy
import subprocess
import sys

import pytest
import yaml
from conftest import HOME

from bandlimit.plan import catalogue

FILES = {
    "bandlimit/studies/stub/__init__.py": '"""A study that counts images."""\n',
    "bandlimit/studies/stub/settings.py": '''"""The study as configured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stub:
    """The study, checked and resolved."""

    experiments: tuple
    bins: int

    def other_models(self, experiment):
        """Return the models besides its own that the study runs on an experiment: none."""
        return []


def models_in_use(section, config):
    """Return the models besides those of its experiments that the study needs: none."""
    return set()


def load(section, run):
    """Return the study as configured."""
    return Stub(tuple(run.experiments[name] for name in section["experiments"]), section["bins"])
''',
    "bandlimit/studies/stub/artifacts.py": '''"""The catalogue of the study."""

from bandlimit.config import paths
from bandlimit.studies.artifact import Figure, Table

TITLE = "Stub"
CLAIMS = "workflow/claims/stub.yaml"
RECORDS = {}


def _datasets(run):
    names = dict.fromkeys(e.dataset for e in run.studies["stub"].experiments)
    return {"datasets": [paths.dataset_file(name) for name in names]}


ARTIFACTS = (
    Table("table_1", where="Table 1", shows="images by class", reads=_datasets),
    Figure(
        "figure_1",
        where="Figure 1",
        shows="images by class, drawn",
        reads=lambda run: {"table": "results/tables/stub/table_1.parquet"},
        identity=lambda run: {"bins": run.studies["stub"].bins},
        in_ledger=True,
    ),
)


def facts(run, dataset, model):
    """Return what claims may ask of an experiment."""
    return {"has": ["stub"]}
''',
    "bandlimit/studies/stub/counts.py": '''"""How many images each class has."""

import pandas as pd
from matplotlib.figure import Figure

from bandlimit.files.tables import Column, Table


def table(labels):
    """Return the table of counts."""
    counts = pd.Series(labels, name="label").value_counts().sort_index()
    frame = counts.rename("images").reset_index()
    columns = {"label": Column("Class"), "images": Column("Images")}
    return Table(frame, columns, title="Table 1: images by class", note="All images count.")


def draw(frame, bins):
    """Return the figure of counts."""
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.hist(frame["label"], weights=frame["images"], bins=bins)
    axes.set(xlabel="class", ylabel="images")
    return figure
''',
    "scripts/stub/table_1.py": '''"""Table 1: images by class."""

from bandlimit.files import store, tables
from bandlimit.provenance.job import run
from bandlimit.studies.stub import counts


def main(job):
    labels = [n for path in job.input.datasets for n in store.read(path)["label"].to_pylist()]
    tables.save(counts.table(labels), **job.forms(), certificate=job.certificate())


run(main, snakemake)
''',
    "scripts/stub/figure_1.py": '''"""Figure 1: images by class."""

from bandlimit.files import store
from bandlimit.plots import files
from bandlimit.provenance.job import run
from bandlimit.studies.stub import counts


def main(job):
    figure = counts.draw(store.read(job.input.table).to_pandas(), job.params.bins)
    files.save(figure, **job.pictures(), certificate=job.certificate())


run(main, snakemake)
''',
    "workflow/schemas/stub.schema.yaml": """description: A study that counts images.
type: [object, "null"]
additionalProperties: false
properties:
  experiments:
    description: The experiments whose images are counted, by name.
    type: object
    default: {}
    additionalProperties: {type: object, additionalProperties: false}
  bins: {description: Bars of Figure 1., type: integer, minimum: 1, default: 10}
""",
    "workflow/report/stub/table_1.rst": "Images by class.\n",
    "workflow/report/stub/figure_1.rst": (
        "Images by class in {{ snakemake.params.identity.bins }} bars.\n"
    ),
    "workflow/claims/stub.yaml": """document: A document about counts
summary:
  - say: The images were counted.
claims:
  - id: stub.C01
    where: Table 1
    statement: No class has more than a thousand images.
    needs: [stub]
    records: tables/stub/table_1
    in_substance:
      statement: No class has very many images.
      tests:
        - &counted
          label: images of a class
          value: images
          exact: true
          range: positive
          aggregate: max
          within: [0, 1000]
    as_reported:
      tests: [*counted]
""",
}
LISTED = "bandlimit/studies/__init__.py"


@pytest.fixture
def stubbed(project):
    """Return the tiny project with a study more, which alone is asked to run."""
    for name, text in FILES.items():
        path = project.folder / name
        assert not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    path = project.folder / LISTED
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text.replace('"robustness",\n', '"robustness",\n    "stub",\n'), encoding="utf-8"
    )
    project.config = copy.deepcopy(project.config)
    project.config |= {"bandlimiting": None, "robustness": None, "only": ["model_a"]}
    project.config["stub"] = {"experiments": {"model_a": None}, "bins": 5}
    return project


def test_a_study_is_new_files_and_one_line(stubbed):
    before = (HOME / LISTED).read_text(encoding="utf-8").splitlines()
    after = (stubbed.folder / LISTED).read_text(encoding="utf-8").splitlines()
    assert [line for line in after if line not in before] == ['    "stub",']
    assert len(after) == len(before) + 1

    stubbed.complete()
    assert stubbed.plan() == {}
    results = stubbed.folder / "results"
    files = [f"tables/stub/table_1.{end}" for end in ("parquet", "md", "html", "tex", "csv")]
    files += [f"figures/stub/figure_1.{end}" for end in ("png", "pdf", "svg")]
    assert [name for name in files if not (results / name).is_file()] == []

    # The ledger, the site and the manifest know it, without a line of theirs.
    assert "No class has more than" in (results / "claims/claims.md").read_text(encoding="utf-8")
    index = (results / "index.html").read_text(encoding="utf-8")
    assert "Images by class in 5 bars." in index and "Table 1: images by class" in index
    manifest = (results / "provenance/manifest.json").read_text(encoding="utf-8")
    assert all(f"results/{name}" in manifest for name in files)

    # The audit follows it, and makes it again.
    audit = [sys.executable, "-m", "bandlimit", "audit", *(f"results/{name}" for name in files)]
    environment = {**stubbed.environment(), "PYTHONPATH": str(stubbed.folder)}
    done = subprocess.run(
        [*audit, "--level", "redraw"],
        cwd=stubbed.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("redraw") >= len(files)

    # The report lists it.
    stubbed.complete("--report", "report.html")
    report = (stubbed.folder / "report.html").read_text(encoding="utf-8")
    assert "7. Stub" in report and "images by class, drawn" in report

    # A parameter of the figure draws it again, and counts nothing.
    stubbed.config["stub"]["bins"] = 3
    made = {path: rule for path, rule in stubbed.plan().items() if "/stub/" in path}
    assert set(made.values()) == {"stub_figure_1"}


ENTRIES = [
    (study, artifact, made) for study, artifact in catalogue.artifacts() for made in artifact.made()
]


@pytest.mark.parametrize(
    ("study", "artifact", "made"), ENTRIES, ids=[f"{s}_{made.name}" for s, _, made in ENTRIES]
)
def test_each_entry_has_a_script_a_caption_labels_and_a_way_to_be_made_again(study, artifact, made):
    assert (HOME / f"scripts/{study}/{artifact.name}.py").is_file()
    caption = HOME / f"workflow/report/{study}/{made.name}.rst"
    assert caption.read_text(encoding="utf-8").strip()
    assert made.where and made.shows
    assert artifact.again in ("redrawn", "measured")


def test_no_script_and_no_caption_is_left_without_an_entry():
    known = {(study, artifact.name) for study, artifact, _ in ENTRIES}
    scripts = {(path.parent.name, path.stem) for path in (HOME / "scripts").glob("*/*.py")}
    assert scripts == known
    captions = {(p.parent.name, p.stem) for p in (HOME / "workflow/report").glob("*/*.rst")}
    assert captions == {(study, made.name) for study, _, made in ENTRIES}


def test_the_readme_lists_what_the_catalogues_list():
    text = (HOME / "README.md").read_text(encoding="utf-8")
    for study in dict.fromkeys(study for study, *_ in ENTRIES):
        assert catalogue.listing(study) in text, f"python -m bandlimit artifacts {study}"


def test_the_claims_files_are_those_of_the_studies():
    files = {path.relative_to(HOME).as_posix() for path in (HOME / "workflow/claims").glob("*")}
    assert files == {catalogue.module(study).CLAIMS for study in catalogue.STUDIES}
    for name in files:
        assert yaml.safe_load((HOME / name).read_text(encoding="utf-8"))["claims"]
