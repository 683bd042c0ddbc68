"""The audit of a finished run: sound results pass, and whatever was changed on the way is named."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest
import yaml
from conftest import Project

from bandlimit import cli
from bandlimit.errors import UserError
from bandlimit.files import contents, store
from bandlimit.provenance import audit

FIGURE = "results/figures/bandlimiting/figure_2.png"
TABLE = "results/tables/bandlimiting/defense_rates.parquet"
RECORD = "results/evaluations/tiny/model_a/pgd_minimal/post_averaging/1of1.parquet"
ADVERSARIAL = "results/adversarial/tiny/model_a/pgd_minimal/1of1.parquet"
DATASET = "results/datasets/tiny.parquet"
MODEL = "results/models/model_a.safetensors"
WEIGHTS = "weights/a.th"
IMAGES = "own images"


@pytest.fixture(scope="module")
def place(tiny_run, tmp_path_factory):
    """Return a copy of the finished run, which tests may change and must restore."""
    folder = tmp_path_factory.mktemp("audited") / tiny_run.folder.name
    shutil.copytree(tiny_run.folder, folder, ignore=shutil.ignore_patterns(".snakemake"))
    (folder / "overlay.yaml").write_text(yaml.safe_dump(tiny_run.config), encoding="utf-8")
    copy = Project(folder)
    copy.config = tiny_run.config
    return copy


def audited(place, name=FIGURE, **options):
    """Return the audit of one file of a project."""
    return audit.Auditor(place.folder / "results", place.folder, **options).audit(
        place.folder / name
    )


def wrong(found):
    """Return the findings of an audit as (verdict, name) pairs."""
    return {(edge.verdict, edge.name) for _, edge in found.findings()}


class Changed:
    """Changes bytes of files with their time stamps kept, and puts all back at the end."""

    def __init__(self, folder):
        self.folder = folder
        self.before = {}

    def write(self, name, data):
        path = self.folder / name
        self.before.setdefault(path, (path.read_bytes(), path.stat()))
        path.write_bytes(data)
        times = self.before[path][1]
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def flip(self, name, place=None):
        """Flip a bit of a byte, by default that in the middle."""
        data = bytearray((self.folder / name).read_bytes())
        data[len(data) // 2 if place is None else place] ^= 1
        self.write(name, bytes(data))

    def restore(self):
        for path, (data, times) in self.before.items():
            path.write_bytes(data)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def change(place):
    changed = Changed(place.folder)
    yield changed
    changed.restore()


# Sound results


def test_every_result_passes(place):
    auditor = audit.Auditor(place.folder / "results", place.folder)
    found = [auditor.audit(place.folder / path) for path in place.results()]
    assert {one.file: sorted(wrong(one)) for one in found if one.verdict != "OK"} == {}
    assert all(one.status == 0 for one in found)


@pytest.mark.parametrize("level", audit.LEVELS[:2])
def test_the_way_leads_to_images_weights_code_and_settings(place, level):
    found = audited(place, level=level)
    assert found.verdict == "OK"
    assert {TABLE, RECORD, ADVERSARIAL, DATASET, MODEL, WEIGHTS, IMAGES} <= set(found.nodes)
    kinds = {edge.kind for node in found.nodes.values() for edge in node.edges}
    own = "certificate" if level == "meta" else "content"
    assert kinds == {own, "input", "code", "lock", "versions", "settings"}


# One changed byte


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        (WEIGHTS, "TAMPERED"),
        (f"{IMAGES}/class 0", "TAMPERED"),
        (MODEL, "TAMPERED"),
        (DATASET, "TAMPERED"),
        (ADVERSARIAL, "TAMPERED"),
        (RECORD, "TAMPERED"),
        (TABLE, "TAMPERED"),
        ("bandlimit/defenses/sweep.py", "STALE"),
        ("scripts/bandlimiting/figure_2.py", "STALE"),
        ("requirements.lock", "STALE"),
    ],
)
def test_a_changed_byte_is_named(place, change, name, verdict):
    path = place.folder / name
    if path.is_dir():
        name = next(path.iterdir()).relative_to(place.folder).as_posix()
        change.flip(name)
        name = IMAGES
    elif path.suffix == ".py":
        change.write(name, path.read_bytes() + b"\nTWISTED = 1\n")
    else:
        # The first page of a table, since a small file is mostly certificate.
        change.flip(name, 60 if name.endswith(".parquet") else None)
    found = audited(place)
    assert (verdict, name) in wrong(found)
    assert {at for _, at in wrong(found)} == {name}
    assert found.status == 1


@pytest.mark.parametrize("form", ["png", "pdf", "svg"])
def test_a_changed_figure_is_named(place, change, form):
    name = f"results/figures/bandlimiting/figure_2.{form}"
    change.flip(name)
    try:
        assert wrong(audited(place, name)) == {("TAMPERED", name)}
    except UserError as error:
        # Broken so that not even the certificate can be read.
        assert name in str(error)


@pytest.mark.parametrize("form", ["md", "html", "tex", "csv"])
def test_a_changed_number_in_a_table_is_named(place, change, form):
    name = f"results/tables/bandlimiting/defense_rates.{form}"
    text = (place.folder / name).read_bytes()
    lines = [line for line in text.splitlines() if b"certificate:" not in line]
    line = next(line for line in lines if re.search(rb"\d\.\d", line))
    change.flip(name, text.index(line) + re.search(rb"\d\.\d", line).start())
    assert wrong(audited(place, name)) == {("TAMPERED", name)}


@pytest.mark.parametrize("name", [FIGURE.replace("png", "svg"), TABLE, MODEL, TABLE[:-7] + "md"])
def test_an_edited_certificate_is_named(place, change, name):
    """A commit that never was: the file's content is as before, only its proof says otherwise."""
    data = (place.folder / name).read_bytes()
    code = contents.certificate(place.folder / name)["lock"]["requirements.lock"].encode()
    assert data.count(code) == 1
    change.write(name, data.replace(code, code[::-1]))
    found = audited(place, name)
    assert ("TAMPERED", name) in wrong(found)
    if name in (TABLE, MODEL):
        assert ("TAMPERED", name) in wrong(audited(place))


def test_meta_reads_certificates_alone(place, change, monkeypatch):
    change.flip(ADVERSARIAL, 60)
    assert audited(place, level="meta").verdict == "OK"
    change.write(RECORD, (place.folder / RECORD).read_bytes())
    shorter = store.read(place.folder / RECORD).slice(1)
    monkeypatch.chdir(place.folder)
    store.write(RECORD, shorter, contents.certificate(RECORD))
    assert ("STALE", RECORD) in wrong(audited(place, level="meta"))


# Made again, encoded anew, gone


def test_a_result_made_again_with_other_content_is_stale(place, change, monkeypatch):
    change.write(TABLE, (place.folder / TABLE).read_bytes())
    table = store.read(place.folder / TABLE)
    proof = contents.certificate(place.folder / TABLE)
    monkeypatch.chdir(place.folder)
    store.write(TABLE, table.slice(0, len(table) - 1), proof)
    assert wrong(audited(place)) == {("STALE", TABLE)}


def test_a_result_encoded_anew_is_the_same(place, change, monkeypatch):
    monkeypatch.chdir(place.folder)
    change.write(TABLE, (place.folder / TABLE).read_bytes())
    monkeypatch.setattr(store, "ROW_GROUP_BYTES", 200)
    store.write(TABLE, store.read(TABLE), contents.certificate(TABLE))
    found = audited(place)
    assert found.verdict == "OK"
    edge = next(edge for edge in found.nodes[FIGURE].edges if edge.name == TABLE)
    assert edge.detail == "other bytes, but the same content"


@pytest.mark.parametrize(
    "name", [DATASET, MODEL, TABLE, WEIGHTS, "bandlimit/studies/bandlimiting/curves.py"]
)
def test_what_is_gone_is_named(place, change, name):
    change.write(name, (place.folder / name).read_bytes())
    (place.folder / name).unlink()
    found = audited(place)
    assert wrong(found) == {("MISSING", name)}
    assert found.status == 2


def test_half_of_the_results_deleted(place, tmp_path):
    shutil.copytree(place.folder / "results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results/adversarial")
    shutil.rmtree(tmp_path / "results/evaluations")
    found = audit.Auditor(tmp_path / "results", place.folder).audit(tmp_path / FIGURE)
    assert {verdict for verdict, _ in wrong(found)} == {"MISSING"}
    assert {("MISSING", RECORD), ("MISSING", ADVERSARIAL)} <= wrong(found)
    assert found.status == 2


def test_the_worst_verdict_decides(place, change):
    change.flip(MODEL)
    change.write(WEIGHTS, (place.folder / WEIGHTS).read_bytes())
    (place.folder / WEIGHTS).unlink()
    found = audited(place)
    assert {v for v, _ in wrong(found)} >= {"MISSING", "TAMPERED"}
    assert (found.verdict, found.status) == ("TAMPERED", 1)


def test_a_result_in_the_place_of_another_is_named(place, change):
    """Each is sound in itself."""
    other = FIGURE.replace("figure_2", "figure_3")
    change.write(FIGURE, (place.folder / other).read_bytes())
    found = audited(place)
    assert ("TAMPERED", other) in wrong(found)
    change.write(RECORD, (place.folder / RECORD.replace("pgd_minimal", "pgd")).read_bytes())
    found = audited(place, TABLE)
    edge = next(edge for _, edge in found.findings() if edge.name == RECORD)
    assert edge.verdict == "TAMPERED"
    assert edge.detail == f"it is another result: {RECORD.replace('pgd_minimal', 'pgd')}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "its format is 1, and 3 is known"),
        ({"inputs": ["a"]}, "its 'inputs' is"),
        ({"inputs": {"results/../../a": {"sha256": "", "bytes": 1}}}, "leads out of its folder"),
        ({"inputs": {"results/a": "0" * 64}}, "has no sha256 and size"),
        ({"rule": None}, "its 'rule' is None"),
        ({"config": 5}, "its 'config' is 5"),
        ({"code": {"/etc/passwd": "0" * 64}}, "leads out of its folder"),
        ({"inputs": {"/dev/zero": {"sha256": "", "bytes": 1}}}, "is no file of data"),
    ],
)
def test_a_certificate_of_another_form_is_told(place, tmp_path, changes, message):
    proof = {**contents.certificate(place.folder / TABLE), **changes}
    store.write(tmp_path / "a.parquet", store.read(place.folder / TABLE), proof)
    with pytest.raises(UserError, match=message):
        audit.Auditor(place.folder / "results", place.folder).audit(tmp_path / "a.parquet")


def test_a_forged_name_prints_no_line_of_its_own(place, tmp_path):
    proof = contents.certificate(place.folder / TABLE)
    proof["inputs"] = {"a\x1b[2K\nOK: 1 files": {"sha256": "0" * 64, "bytes": 1}}
    store.write(tmp_path / "a.parquet", store.read(place.folder / TABLE), proof)
    found = audit.Auditor(place.folder / "results", place.folder).audit(tmp_path / "a.parquet")
    text = audit.text(found)
    assert "\x1b" not in text
    assert not any(line.startswith("OK: 1 files") for line in text.splitlines())


def test_a_lineage_that_was_cut_shows(place, change, monkeypatch):
    """The same rows under a certificate that leads elsewhere, sealed anew."""
    monkeypatch.chdir(place.folder)
    change.write(TABLE, (place.folder / TABLE).read_bytes())
    proof = {**contents.certificate(TABLE), "inputs": {}}
    store.write(TABLE, store.read(TABLE), proof)
    edges = {(edge.verdict, edge.name, edge.detail) for _, edge in audited(place).findings()}
    detail = "it was made again since, of the same content, but made otherwise"
    assert edges == {("STALE", TABLE, detail)}


def test_a_result_without_its_certificate_leads_no_further(place, change, monkeypatch):
    monkeypatch.chdir(place.folder)
    change.write(TABLE, (place.folder / TABLE).read_bytes())
    store.write(TABLE, store.read(TABLE))
    assert wrong(audited(place)) == {("MISSING", TABLE)}


def test_versions_beside_the_lock_are_told(place, change, monkeypatch):
    monkeypatch.chdir(place.folder)
    name = FIGURE.replace("png", "svg")
    change.write(TABLE, (place.folder / TABLE).read_bytes())
    proof = contents.certificate(TABLE)
    proof["versions"] = {**proof["versions"], "torch": "1.0.0"}
    store.write(TABLE, store.read(TABLE), proof)
    found = {edge.kind: edge.detail for edge in audited(place, name).nodes[TABLE].edges}
    assert re.fullmatch(
        r"torch 1\.0\.0 ran, and the lock has [\d.]+( or [\d.]+)*", found["versions"]
    )


def test_each_file_of_a_job_gets_the_verdict_of_its_redraw(place, change):
    names = [TABLE, TABLE.replace("parquet", "md"), TABLE]
    auditor = audit.Auditor(place.folder / "results", place.folder, level="redraw")
    for name in names:
        edges = auditor.audit(place.folder / name).nodes[name].edges
        assert [e.verdict for e in edges if e.kind == "redraw"] == ["OK"] * 5


def test_a_picture_drawn_by_other_code_is_not_called_tampered(place, change):
    path = place.folder / "bandlimit/plots/style.py"
    change.write("bandlimit/plots/style.py", path.read_bytes() + b"\nTWISTED = 1\n")
    found = audited(place, level="redraw")
    assert found.verdict == "STALE"
    assert "TAMPERED" not in {verdict for verdict, _ in wrong(found)}


# Settings


def test_a_configuration_that_changed_is_told_with_both_values(place, change):
    config = json.loads(json.dumps(place.config))
    config["experiments"]["model_a"]["attacks"]["pgd_minimal"]["steps"] = 6
    change.write("overlay.yaml", yaml.safe_dump(config).encode())
    found = audited(place)
    assert found.verdict == "STALE"
    assert {(node.name, edge.kind) for node, edge in found.findings()} == {
        (ADVERSARIAL, "settings"),
    }
    detail = next(edge.detail for _, edge in found.findings())
    assert detail == "parameters.steps was 5, and is 6 now"


def test_a_job_that_the_configuration_has_no_more_is_told(place, change):
    config = json.loads(json.dumps(place.config))
    del config["experiments"]["model_a"]["attacks"]["pgd_minimal"]
    config["bandlimiting"]["experiments"]["model_a"].update(crossings=[], samplers=[])
    config["robustness"]["experiments"]["model_a"]["scaled"] = []
    change.write("overlay.yaml", yaml.safe_dump(config).encode())
    details = {edge.detail for node, edge in audited(place).findings() if node.name == ADVERSARIAL}
    assert details == {"the configuration has no such job any more"}


def test_another_configuration_may_be_named(place):
    assert audited(place, configfiles=["config.yaml", "overlay.yaml"]).verdict == "OK"
    found = audited(place, configfiles=["config.yaml"])
    assert {edge.kind for _, edge in found.findings()} == {"settings"}


# Elsewhere


def test_a_figure_that_was_mailed_and_renamed(place, tmp_path, monkeypatch):
    mailed = tmp_path / "mailed picture"
    mailed.write_bytes((place.folder / FIGURE).read_bytes())
    auditor = audit.Auditor(place.folder / "results", place.folder)
    assert auditor.audit(mailed).verdict == "OK"
    assert auditor.audit(mailed).file == FIGURE
    monkeypatch.chdir(place.folder)
    assert audit.Auditor().audit(mailed).verdict == "OK"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="name their folder by --results"):
        audit.Auditor().audit(mailed)


def test_a_mailed_figure_of_an_earlier_run_is_stale(place, change, tmp_path):
    mailed = tmp_path / "mailed.svg"
    name = FIGURE.replace("png", "svg")
    mailed.write_bytes((place.folder / name).read_bytes())
    other = FIGURE.replace("figure_2.png", "figure_3.svg")
    text = (place.folder / other).read_bytes()
    change.write(name, text)
    found = audit.Auditor(place.folder / "results", place.folder).audit(mailed)
    assert ("STALE", name) in wrong(found)


def test_results_moved_and_read_only(place, tmp_path):
    """Without Snakemake, git or anything but the library on the path; nothing is written."""
    moved = tmp_path / "archive" / "2026"
    shutil.copytree(place.folder / "results", moved)
    command = [sys.executable, "-c", BARE, str(moved / FIGURE.removeprefix("results/"))]
    try:
        for path in [moved, *moved.rglob("*")]:
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
        listing = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        done = subprocess.run(
            [*command, "--home", str(place.folder)],
            cwd=tmp_path,
            env={"PATH": "", "PYTHONPATH": str(place.folder), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == listing
    finally:
        for path in [moved, *moved.rglob("*")]:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"OK       {FIGURE}")


BARE = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("snakemake", "torch", "matplotlib", "foolbox"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from bandlimit import cli
sys.exit(cli.main(["audit", *sys.argv[1:]]))
"""


# The command


def test_the_command_says_what_it_found(place, change, capsys, monkeypatch):
    monkeypatch.chdir(place.folder)
    assert cli.main(["audit", FIGURE]) == 0
    assert capsys.readouterr().out.startswith(f"OK       {FIGURE}  by bandlimiting_figure_2\n")
    change.flip(WEIGHTS)
    assert cli.main(["audit", FIGURE, TABLE]) == 1
    out = capsys.readouterr().out
    assert f"TAMPERED {WEIGHTS}" in out
    assert (
        out.count(f"  TAMPERED: {WEIGHTS}, input of {MODEL}: it is not the file that was used") == 2
    )
    assert cli.main(["audit", "--json", FIGURE]) == 1
    found = json.loads(capsys.readouterr().out)[0]
    assert (found["file"], found["verdict"], found["status"]) == (FIGURE, "TAMPERED", 1)
    assert {node["name"] for node in found["nodes"]} >= {FIGURE, TABLE, MODEL, WEIGHTS}
    assert cli.main(["audit", "results/none.png"]) == 2
    assert "'results/none.png' does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "--level", "hsah", FIGURE], "no audit level 'hsah'.*did you mean 'hash'"),
        (["audit", "--results", "nowhere", FIGURE], "--results must be an existing folder"),
        (["audit", "--images", "0", FIGURE], "--images must be at least 1, got 0"),
        (["audit", "config.yaml"], "'config.yaml' carries no certificate"),
    ],
)
def test_mistakes_are_told_in_one_sentence(place, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(place.folder)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
