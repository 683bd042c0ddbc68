import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bandlimit.errors import UserError
from bandlimit.files import certificates, contents, store
from bandlimit.plan import code
from bandlimit.provenance import manifest, origin
from bandlimit.provenance.verdicts import Verdict

HOME = Path(__file__).parents[2]
FILES = {
    "Snakefile": "rule all:\n",
    "config.yaml": "seed: 1\n",
    "requirements.lock": "numpy==2\n",
    "LICENSE": "MIT License\n",
    "CITATION.cff": (
        "title: bandlimit\nversion: 0.1.0\nabstract: What it is.\nlicense: MIT\n"
        "date-released: 2026-11-21\nauthors:\n  - name: the bandlimit authors\n"
    ),
    "bandlimit/store.py": '"""Records."""\n',
    "scripts/make_dataset.py": '"""Make."""\n',
    "scripts/attack.py": '"""Attack."""\n',
    "scripts/table_1.py": '"""Table."""\n',
    "scripts/manifest.py": '"""Manifest."""\n',
    "workflow/registry/datasets.csv": (
        "name,urls,licence,reference\n"
        "tiny_images,https://example.org/a https://example.org/b,CC0-1.0,Nobody (2020)\n"
    ),
    "workflow/claims/all.yaml": "claims: []\n",
}
DATASET = "results/datasets/tiny.parquet"
RECORDS = "results/adversarial/tiny/pgd.parquet"
STEPS = "results/adversarial/tiny/pgd_steps.parquet"
TABLE = "results/tables/study/table_1.parquet"
PAGE = "results/tables/study/table_1.md"
DOWNLOADS = "results/datasets/downloads/tiny"
OWN = "own images"


class Project:
    """A project whose results were made by four jobs; its folder is the working folder."""

    def __init__(self, folder):
        self.folder = folder
        self.results = folder / "results"
        for name, text in FILES.items():
            self.put(name, text)
        self.put(f"{DOWNLOADS}/images", "images")
        self.put(f"{DOWNLOADS}/labels", "labels")
        self.put(f"{DOWNLOADS}/mirror/images", "images")
        self.put(f"{DOWNLOADS}/.snakemake_timestamp", "")
        self.put(f"{OWN}/class 1/ü.png", "picture")
        self.put("results/benchmarks/attack.tsv", "s\n1.5\n")
        self.dataset()
        self.attack()
        self.table()

    def put(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def proof(self, rule, reads, writes, **params):
        names = [n for v in reads.values() for n in ([v] if isinstance(v, str) else v)]
        return origin.certificate(
            rule=rule,
            params=params,
            inputs={name: name for name in names},
            script=f"scripts/{rule}.py",
            code={
                name: code.tree_digest(self.folder / name)
                for name in ("bandlimit/store.py", f"scripts/{rule}.py")
            },
            lock="requirements.lock",
            home=self.folder,
            device="cpu",
            reads=reads,
            writes=writes,
        ) | {"versions": {"python": "3.11.7", "snakemake": "9.27.1", "numpy": "2.4.6"}}

    def dataset(self, rows=2):
        reads = {"archive": DOWNLOADS, "files": OWN}
        params = {"source": "tiny_images", "wildcards": {"dataset": "tiny"}, "seed": 1}
        proof = self.proof("make_dataset", reads, {"dataset": DATASET}, **params)
        store.write(DATASET, pa.table({"label": list(range(rows))}), proof)

    def attack(self, epsilon=0.5):
        writes = {"records": RECORDS, "steps": STEPS}
        params = {"epsilon": epsilon, "attacks": ["pgd"], "wildcards": {"dataset": "tiny"}}
        proof = self.proof("attack", {"dataset": DATASET}, writes, **params)
        store.write(RECORDS, pa.table({"success": [True, False], "epsilon": [epsilon] * 2}), proof)
        store.write(STEPS, pa.table({"steps": [1, 2]}), proof)

    def table(self):
        reads = {"records": [RECORDS], "claims": "workflow/claims/all.yaml"}
        proof = self.proof("table_1", reads, {"parquet": TABLE, "page": PAGE}, wildcards={})
        store.write(TABLE, pa.table({"rate": [0.5]}), proof)
        contents.write_text(PAGE, "# Table\n\n{proof}\n", proof, "<!-- {} -->")

    def manifest(self, targets=(TABLE, PAGE)):
        """Build and write the manifest, as its rule does."""
        found = manifest.build("results", targets)
        reads, writes = {"artifacts": list(targets)}, {"manifest": manifest.NAME}
        manifest.write(manifest.NAME, found, self.proof("manifest", reads, writes, wildcards={}))
        return found

    def wrong(self, home=None):
        """Return what is not OK, as {file: verdict}."""
        found = manifest.check(self.results, home)
        return {f.file: f.verdict for f in found if f.verdict is not Verdict.OK}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a project with its manifest. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("ein Projekt")
    before = os.getcwd()
    os.chdir(folder)
    try:
        Project(folder).manifest()
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def project(finished, tmp_path, monkeypatch):
    """Return a copy of the project that a test may change."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    copy = Project.__new__(Project)
    copy.folder, copy.results = folder, folder / "results"
    return copy


def flip(path, place=-20):
    data = bytearray(Path(path).read_bytes())
    data[place] ^= 1
    Path(path).write_bytes(data)


# Building


def test_all_that_led_to_the_artifacts_is_listed(project):
    found = manifest.read(manifest.NAME)
    parts = [f"{DOWNLOADS}/{name}" for name in ("images", "labels", "mirror/images")]
    assert list(found["files"]) == sorted([DATASET, RECORDS, STEPS, TABLE, PAGE, *parts])
    assert found["targets"] == [PAGE, TABLE]
    for name, entry in found["files"].items():
        path = project.folder / name
        assert entry["sha256"] == store.sha256(path)
        assert entry["bytes"] == path.stat().st_size
        proof = contents.certificate(path) or {}
        for key in ("content", "seal", "rule"):
            assert entry.get(key) == proof.get(key)
    assert found["outside"] == {
        name: origin.identity(name) for name in (OWN, "workflow/claims/all.yaml")
    }
    assert found["code"]["scripts/attack.py"] == code.tree_digest("scripts/attack.py")
    assert found["lock"] == {"requirements.lock": [store.sha256("requirements.lock")]}


def test_equal_runs_have_equal_manifests(project):
    before = Path(manifest.NAME).read_bytes()
    for name in (TABLE, PAGE):
        os.utime(name, (1, 1))
    project.manifest()
    assert Path(manifest.NAME).read_bytes() == before


def test_the_manifest_carries_its_own_certificate(project):
    assert contents.fault(manifest.NAME) is None
    proof = contents.certificate(manifest.NAME)
    assert (proof["rule"], proof["file"]) == ("manifest", manifest.NAME)
    assert json.loads(Path(manifest.NAME).read_bytes())[certificates.MARK] == proof


def test_an_old_lock_beside_a_new_one_is_stated(project):
    old = store.sha256("requirements.lock")
    project.put("requirements.lock", "numpy==3\n")
    project.table()
    found = project.manifest()
    assert found["lock"] == {"requirements.lock": sorted([old, store.sha256("requirements.lock")])}


def test_certificates_that_disagree_on_code_end_the_build(project):
    project.put("bandlimit/store.py", "OTHER = 1\n")
    project.table()
    with pytest.raises(UserError, match="disagree on 'bandlimit/store.py'") as error:
        project.manifest()
    assert "table_1" in str(error.value)


def test_certificates_that_disagree_on_an_input_end_the_build(project):
    project.dataset(rows=3)
    proof = project.proof("attack", {"dataset": DATASET}, {"page": "results/tables/b.parquet"})
    store.write("results/tables/b.parquet", pa.table({"a": [1]}), proof)
    with pytest.raises(UserError, match=f"disagree on '{DATASET}'"):
        project.manifest(targets=(TABLE, PAGE, "results/tables/b.parquet"))


def test_a_file_that_was_made_again_after_what_read_it_ends_the_build(project):
    project.attack(epsilon=0.25)
    with pytest.raises(UserError, match=f"'{RECORDS}' is not the one that '.*table_1.*' was made"):
        project.manifest()


def test_a_file_with_the_same_content_made_again_is_accepted(project):
    """Another version of a package in its certificate, and the same records."""
    proof = contents.certificate(STEPS) | {"clean": True, "commit": "f" * 40}
    store.write(RECORDS, store.read(RECORDS), proof)
    assert project.manifest()["files"][RECORDS]["sha256"] == store.sha256(RECORDS)


@pytest.mark.parametrize("name", [DATASET, RECORDS, STEPS, TABLE, PAGE])
def test_a_damaged_file_ends_the_build(project, name):
    flip(name, 40 if name != PAGE else 2)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        project.manifest()


def test_a_damaged_file_without_certificate_ends_the_build(project):
    project.put(f"{DOWNLOADS}/images", "imagez")
    with pytest.raises(UserError, match=f"'{DOWNLOADS}' is not the one"):
        project.manifest()


@pytest.mark.parametrize("name", [DATASET, STEPS, PAGE])
def test_a_missing_file_ends_the_build(project, name):
    os.unlink(name)
    with pytest.raises(UserError, match=f"'{name}', .* is missing"):
        project.manifest()


def test_a_file_in_the_place_of_another_ends_the_build(project):
    shutil.copy(STEPS, RECORDS)
    with pytest.raises(UserError, match=f"carries the certificate of '{STEPS}'"):
        project.manifest()


def test_a_target_outside_the_results_is_refused(project):
    with pytest.raises(UserError, match="does not lie in the results folder"):
        manifest.build("results", ["config.yaml"])


# Checking


def test_a_finished_run_is_sound(project):
    found = manifest.check("results", ".")
    assert manifest.is_sound(found)
    assert {f.file for f in found} >= {manifest.NAME, TABLE, "scripts/attack.py"}
    assert manifest.lines(found) == [f"{len(found)} files: {len(found)} OK"]


@pytest.mark.parametrize("place", [40, -20])
@pytest.mark.parametrize("name", [DATASET, TABLE, PAGE, f"{DOWNLOADS}/labels"])
def test_a_flipped_byte_is_named(project, name, place):
    if name.endswith("labels"):
        place = 2
    times = os.stat(name)
    flip(name, place)
    os.utime(name, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert project.wrong() == {name: Verdict.TAMPERED}


def test_a_file_that_was_made_again_is_stale(project):
    project.attack(epsilon=0.25)
    assert project.wrong() == {RECORDS: Verdict.STALE, STEPS: Verdict.STALE}


def test_a_file_encoded_anew_with_its_certificate_is_tampered(project):
    """Content and seal are those of the manifest, so no rule made it again: somebody did."""
    proof = contents.certificate(TABLE)
    table = store.read(TABLE).replace_schema_metadata(None)
    with pq.ParquetWriter(TABLE, table.schema, compression="none") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({certificates.KEY: certificates.as_text(proof)})
    assert contents.fault(TABLE) is None
    assert project.wrong() == {TABLE: Verdict.TAMPERED}
    assert "though not what they mean" in manifest.lines(manifest.check("results"))[0]


def test_a_file_in_the_place_of_another_is_tampered(project):
    shutil.copy(STEPS, RECORDS)
    assert project.wrong() == {RECORDS: Verdict.TAMPERED}


def test_a_missing_and_a_foreign_file_are_named(project):
    os.unlink(STEPS)
    project.put("results/tables/by_hand.csv", "a\n1\n")
    project.put("results/report.html", "made by Snakemake")
    project.put("results/provenance/manifest.dsse.json", "{}")
    wrong = {STEPS: Verdict.MISSING, "results/tables/by_hand.csv": Verdict.UNKNOWN}
    assert project.wrong() == wrong
    text = manifest.lines(manifest.check("results"))
    assert text[0].startswith(f"MISSING   {STEPS}: ")
    assert text[-1].endswith(" OK, 1 MISSING, 1 UNKNOWN")


def test_a_file_of_another_run_is_told_from_one_made_by_hand(project):
    other = "results/adversarial/tiny/other.parquet"
    proof = contents.certificate(RECORDS)
    store.write(other, store.read(RECORDS), proof)
    shutil.copy(RECORDS, "results/adversarial/tiny/copy.parquet")
    found = {f.file: f.detail for f in manifest.check("results") if f.verdict is Verdict.UNKNOWN}
    assert found == {
        other: "by its certificate a rule made it, but for no artifact of the manifest",
        "results/adversarial/tiny/copy.parquet": (
            "the manifest does not name it, and no rule made it"
        ),
    }


def test_changed_code_and_inputs_are_stale_where_the_project_is_at_hand(project):
    project.put("scripts/attack.py", "changed = 1\n")
    project.put("workflow/claims/all.yaml", "changed")
    project.put(f"{OWN}/class 1/more.png", "another picture")
    os.unlink("requirements.lock")
    assert project.wrong() == {}
    assert project.wrong(project.folder) == {
        OWN: Verdict.STALE,
        "scripts/attack.py": Verdict.STALE,
        "workflow/claims/all.yaml": Verdict.STALE,
        "requirements.lock": Verdict.MISSING,
    }


def test_code_counts_by_what_it_means(project):
    project.put("scripts/attack.py", '"""Another docstring."""  # and a comment\n')
    assert project.wrong(project.folder) == {}
    project.put("scripts/attack.py", "no Python:")
    assert project.wrong(project.folder) == {"scripts/attack.py": Verdict.STALE}
    os.unlink("scripts/attack.py")
    assert project.wrong(project.folder) == {"scripts/attack.py": Verdict.MISSING}


@pytest.mark.parametrize("part", ["entry", "root", "certificate"])
def test_an_edited_manifest_is_tampered(project, part):
    text = Path(manifest.NAME).read_text()
    found = json.loads(text)
    old, new = {
        "entry": (found["files"][TABLE]["sha256"], "0" * 64),
        "root": (found["root"], "0" * 64),
        "certificate": ('"rule":"manifest"', '"rule":"manifold"'),
    }[part]
    Path(manifest.NAME).write_text(text.replace(old, new))
    assert project.wrong()[manifest.NAME] is Verdict.TAMPERED


def test_a_manifest_sealed_anew_shows_by_its_root(project):
    found = manifest.read(manifest.NAME)
    flip(f"{DOWNLOADS}/labels", 2)
    found["files"][f"{DOWNLOADS}/labels"]["sha256"] = store.sha256(f"{DOWNLOADS}/labels")
    manifest.write(manifest.NAME, found, contents.certificate(manifest.NAME))
    assert contents.fault(manifest.NAME) is None
    assert project.wrong() == {manifest.NAME: Verdict.TAMPERED}


def test_a_manifest_without_certificate_is_tampered(project):
    found = manifest.read(manifest.NAME)
    del found[certificates.MARK]
    project.put(manifest.NAME, json.dumps(found))
    assert project.wrong() == {manifest.NAME: Verdict.TAMPERED}


EMPTY = {"format": 1, "files": {}, "outside": {}, "code": {}, "lock": {}}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        *map(
            json.dumps,
            (
                EMPTY | {"format": 9},
                EMPTY | {"code": None},
                EMPTY | {"files": {"results/a": 1}},
                EMPTY | {"files": {"results/a": {"bytes": 1}}},
                EMPTY | {"lock": {"requirements.lock": 1}},
            ),
        ),
    ],
)
def test_a_manifest_that_is_none_is_told_in_one_sentence(project, text):
    os.unlink(manifest.NAME)
    if text is not None:
        project.put(manifest.NAME, text)
    with pytest.raises(UserError, match="manifest.json") as error:
        manifest.check("results")
    assert str(error.value).endswith(".")


def test_moved_results_are_checked_without_torch_or_snakemake_and_nothing_is_written(
    project, tmp_path
):
    moved = tmp_path / "elsewhere" / "copy of it"
    shutil.copytree(project.results, moved)
    flip(moved / "tables/study/table_1.md", 2)
    listing = sorted((p, p.stat().st_mtime_ns) for p in moved.rglob("*"))
    program = (
        "import sys; from bandlimit.provenance import manifest; "
        "print(*manifest.lines(manifest.check(sys.argv[1])), sep='\\n'); "
        "assert not {'torch', 'snakemake', 'rocrate'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(moved)],
        cwd=HOME,
        env={"PATH": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"TAMPERED  {PAGE}: ")
    assert sorted((p, p.stat().st_mtime_ns) for p in moved.rglob("*")) == listing


# The Merkle tree


def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


@pytest.mark.parametrize("count", range(8))
def test_the_root_is_that_of_a_merkle_tree(count):
    found = {"files": {f"results/{i}": {"bytes": i} for i in range(count)}}
    found |= {"outside": {}, "code": {}, "lock": {}}
    texts = [f'["files","results/{i}",{{"bytes":{i}}}]' for i in range(count)]
    n = [hashlib.sha256(b"\0" + text.encode()).digest() for text in texts]
    expected = [
        lambda: hashlib.sha256().digest(),
        lambda: n[0],
        lambda: node(n[0], n[1]),
        lambda: node(node(n[0], n[1]), n[2]),
        lambda: node(node(n[0], n[1]), node(n[2], n[3])),
        lambda: node(node(node(n[0], n[1]), node(n[2], n[3])), n[4]),
        lambda: node(node(node(n[0], n[1]), node(n[2], n[3])), node(n[4], n[5])),
        lambda: node(node(node(n[0], n[1]), node(n[2], n[3])), node(node(n[4], n[5]), n[6])),
    ][count]()
    assert manifest.root(found) == expected.hex()


@pytest.mark.parametrize("section", manifest.SECTIONS)
def test_the_root_depends_on_every_entry(project, section):
    found = manifest.read(manifest.NAME)
    assert manifest.root(found) == found["root"]
    name = next(iter(found[section]))
    found[section][name + "x"] = found[section].pop(name)
    assert manifest.root(found) != found["root"]


# What desktops do


@pytest.mark.parametrize(
    "name", [".DS_Store", "Thumbs.db", ".~lock.t.csv#", "~$t.csv", ".ipynb_checkpoints/t.csv"]
)
def test_what_a_desktop_leaves_is_a_remark(project, name):
    project.put(f"results/tables/study/{name}", "litter")
    found = manifest.check(project.results, project.folder)
    assert manifest.is_sound(found)
    (line,) = (line for line in manifest.lines(found) if "a desktop left it" in line)
    assert line.startswith(f"OK        results/tables/study/{name.split('/')[0]}: ")
    before = manifest.read(manifest.NAME)["root"]
    assert project.manifest()["root"] == before


def test_what_a_desktop_leaves_beside_downloads_is_not_listed(project):
    project.put(f"{DOWNLOADS}/Thumbs.db", "litter")
    assert f"{DOWNLOADS}/Thumbs.db" not in project.manifest()["files"]


def test_a_hidden_file_of_a_rule_is_no_litter(project):
    hidden = "results/tables/study/.table_2.parquet"
    proof = project.proof("table_1", {"records": [RECORDS]}, {"parquet": hidden}, wildcards={})
    store.write(hidden, pa.table({"rate": [0.5]}), proof)
    assert project.wrong() == {hidden: Verdict.UNKNOWN}


def test_other_ends_of_lines_are_a_remark_and_other_words_are_not(project):
    data = Path(PAGE).read_bytes()
    Path(PAGE).write_bytes(contents.BOM + data.replace(b"\n", b"\r\n"))
    found = manifest.check(project.results)
    assert manifest.is_sound(found)
    said = (
        f"OK        {PAGE}: it begins with a byte order mark and has the ends of lines of Windows"
    )
    assert any(line.startswith(said) for line in manifest.lines(found))
    Path(PAGE).write_bytes(data.replace(b"\n", b"\r\n").replace(b"# Table", b"# Tabel"))
    assert project.wrong() == {PAGE: Verdict.TAMPERED}
