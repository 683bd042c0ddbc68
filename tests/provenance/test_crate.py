import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import questions
from test_manifest import (  # noqa: F401 (fixtures)
    DATASET,
    DOWNLOADS,
    OWN,
    PAGE,
    RECORDS,
    STEPS,
    TABLE,
    finished,
    flip,
    project,
)

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.provenance import crate, manifest
from bandlimit.provenance.manifest import Verdict

FOLDER = "results/provenance/ro-crate"
ARCHIVE = "results/provenance/ro-crate.zip"
SOURCES = (
    "Snakefile",
    "config.yaml",
    "LICENSE",
    "CITATION.cff",
    "workflow/registry/datasets.csv",
    "workflow/claims/all.yaml",
    "envs/tools.yaml",
    "profiles/default/config.yaml",
)
BENCHMARKS = {
    "make_dataset": "results/benchmarks/make_dataset/{dataset}.tsv",
    "attack": "results/benchmarks/attack/{dataset}.tsv",
    "table_1": "results/benchmarks/table_1.tsv",
    "ro_crate": "results/benchmarks/ro_crate.tsv",
}
HEAD = "s\th:m:s\tmax_rss\tmax_vms\tio_in\tio_out\tmean_load\tcpu_time\n"
MEASURED = {
    "make_dataset/tiny": ("2.5\t0:00:02\t64.25\t99.00\t1.00\t2.00\t50.00\t1.25\n", 1_000_002.5),
    "attack/tiny": ("90.25\t0:01:30\t512.00\t999.00\t0.00\t3.50\t99.00\t88.75\n", 1_000_100),
    # A job that ended before its resources were measured.
    "table_1": ("0.5\t0:00:00\tNA\tNA\tNA\t-\tNA\tNA\n", 1_000_200),
}
"""What benchmarks say, and when they were written."""
VALIDATOR = shutil.which("rocrate-validator", path=os.path.dirname(sys.executable))
PROFILES = ("workflow-run-crate-0.5", "provenance-run-crate-0.5")


def write(sources=SOURCES, limit=0):
    Path("envs").mkdir(exist_ok=True)
    Path("envs/tools.yaml").write_text("dependencies: [python]\n")
    Path("profiles/default").mkdir(parents=True, exist_ok=True)
    Path("profiles/default/config.yaml").write_text("keep-going: true\n")
    crate.write(
        FOLDER,
        ARCHIVE,
        results="results",
        home=".",
        sources=sources,
        benchmarks=BENCHMARKS,
        limit=limit,
    )


def benchmark(name, row, written):
    path = Path(f"results/benchmarks/{name}.tsv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + row)
    os.utime(path, (written, written))


@pytest.fixture
def made(project):  # noqa: F811
    """Return the project with a crate of its run."""
    for name, (row, written) in MEASURED.items():
        benchmark(name, row, written)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write()
    return project


def entities():
    graph = json.loads(Path(FOLDER, crate.METADATA).read_text())["@graph"]
    return {entity["@id"]: entity for entity in graph}


def listed(value):
    return value if isinstance(value, list) else [value]


def ids(value):
    return [reference["@id"] for reference in listed(value)]


def names(references):
    """Return the names of what references point to."""
    known = entities()
    return [known[identifier]["name"] for identifier in ids(references)]


# What it says


def test_each_job_is_an_action_with_its_script_inputs_parameters_and_outputs(made):
    known = entities()
    job = known["#job/attack/dataset=tiny"]
    assert job["@type"] == "CreateAction"
    assert ids(job["instrument"]) == ["scripts/attack.py"]
    assert names(job["object"])[0] == DATASET
    assert sorted(names(job["result"])) == [RECORDS, STEPS]
    values = {known[i]["name"]: known[i]["value"] for i in ids(job["object"]) if i[0] == "#"}
    assert values["epsilon"] == "0.5"
    assert values["attacks"] == '["pgd"]'
    assert values["device"] == "cpu"
    folder = known["#job/make_dataset/dataset=tiny"]
    # The mirror has the same images, so that both are one entity.
    given = {name for name in names(folder["object"]) if "/" in name or " " in name}
    assert given == {OWN, f"{DOWNLOADS}/images", f"{DOWNLOADS}/labels"}
    jobs = [i for i in known if i.startswith("#job/")]
    assert len(jobs) == 4, "three rules and the manifest"


def test_every_file_has_its_hash_and_size(made):
    listing = manifest.read(manifest.NAME)["files"]
    files = {e["name"]: e for e in entities().values() if "File" in listed(e["@type"])}
    files |= {e["alternateName"]: e for e in files.values() if "alternateName" in e}
    assert OWN not in files, "a folder is no file"
    for name, entry in listing.items():
        assert files[name]["sha256"] == entry["sha256"]
        assert files[name]["contentSize"] == str(entry["bytes"])
    for name in (*SOURCES, "scripts/attack.py", "bandlimit/store.py", "requirements.lock"):
        entity = entities()[name]
        assert entity["sha256"] == store.sha256(name)
        assert entity["contentSize"] == str(os.path.getsize(name))


def test_steps_stand_in_the_order_of_the_run(made):
    known = entities()
    steps = [known[i] for i in ids(known["Snakefile"]["step"])]
    assert [step["name"] for step in steps] == ["make_dataset", "attack", "table_1", "manifest"]
    assert [step["position"] for step in steps] == ["1", "2", "3", "4"]
    assert ids(steps[1]["workExample"]) == ["scripts/attack.py"]
    engine = known["#engine-run"]
    assert ids(engine["instrument"]) == ["pkg:pypi/snakemake@9.27.1"]
    controls = [known[i] for i in ids(engine["object"])]
    assert [ids(c["instrument"]) for c in controls] == [[s["@id"]] for s in steps]
    assert known["pkg:generic/python@3.11.7"]["version"] == "3.11.7"
    requirements = ids(known["scripts/attack.py"]["softwareRequirements"])
    assert "pkg:pypi/numpy@2.4.6" in requirements


def test_others_work_is_named_with_its_licence(made):
    known = entities()
    files = {e.get("name"): e for e in known.values()}
    for name in (DATASET, OWN, f"{DOWNLOADS}/labels"):
        assert ids(files[name]["license"]) == ["https://spdx.org/licenses/CC0-1.0"]
        [work] = ids(files[name]["isBasedOn"])
        assert known[work]["citation"] == "Nobody (2020)"
        assert known[work]["url"] == ["https://example.org/a", "https://example.org/b"]
    assert "license" not in files[RECORDS]
    assert ids(known["./"]["license"]) == ["https://spdx.org/licenses/MIT"]
    assert names(known["./"]["author"]) == ["the bandlimit authors"]


def test_all_references_lead_to_an_entity_or_out_of_the_crate(made):
    known = entities()

    def references(value):
        if isinstance(value, dict):
            return [value["@id"]]
        return [i for part in value for i in references(part)] if isinstance(value, list) else []

    for entity in known.values():
        for key, value in entity.items():
            for identifier in references(value):
                assert identifier in known or identifier.startswith("https://"), (key, identifier)


# What lies in it


def test_tables_and_code_lie_in_the_crate_and_records_are_named_by_content(made):
    inside = {p.relative_to(FOLDER).as_posix() for p in Path(FOLDER).rglob("*") if p.is_file()}
    code = {"bandlimit/store.py", "requirements.lock"}
    code |= {f"scripts/{n}.py" for n in ("make_dataset", "attack", "table_1", "manifest")}
    assert inside == {*SOURCES, *code, TABLE, PAGE, manifest.NAME, crate.METADATA}
    files = {e.get("name"): e for e in entities().values()}
    assert files[RECORDS]["@id"].startswith("ni:///sha-256;")


def test_a_small_run_can_lie_in_the_crate_as_a_whole(project):  # noqa: F811
    size = sum(entry["bytes"] for entry in manifest.read(manifest.NAME)["files"].values())
    size += os.path.getsize(manifest.NAME)
    write(limit=size - 1)
    assert not Path(FOLDER, RECORDS).exists()
    write(limit=size)
    assert Path(FOLDER, RECORDS).read_bytes() == Path(RECORDS).read_bytes()
    outside = [e["name"] for e in entities().values() if e["@id"].startswith("ni:")]
    assert outside == [OWN]


def test_the_zip_file_is_of_the_same_files_and_of_equal_bytes_each_time(made):
    with zipfile.ZipFile(ARCHIVE) as file:
        packed = {name: file.read(name) for name in file.namelist()}
        assert file.namelist() == sorted(packed)
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    folder = Path(FOLDER)
    assert packed == {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    before = Path(ARCHIVE).read_bytes()
    for path in Path(".").rglob("*"):
        if "benchmarks" not in path.parts:
            os.utime(path, (10**9, 10**9))
    os.chmod("config.yaml", 0o600)
    write()
    assert Path(ARCHIVE).read_bytes() == before


def test_code_that_changed_since_is_refused(project):  # noqa: F811
    project.put("scripts/attack.py", "ANOTHER = 1\n")
    with pytest.raises(UserError, match=r"'scripts/attack.py' is not the one that made"):
        write()
    assert not Path(FOLDER).exists()
    project.put("scripts/attack.py", "no Python:")
    with pytest.raises(UserError, match=r"'scripts/attack.py' is not the one that made"):
        write()


def test_code_with_another_comment_is_the_code_that_made_the_run(project):  # noqa: F811
    project.put("scripts/attack.py", '"""Another docstring."""  # and a comment\n')
    write()
    assert wrong(listed=manifest.read(manifest.NAME)) == {}
    assert "Another docstring" in Path(FOLDER, "scripts/attack.py").read_text()


def test_a_table_that_changed_since_is_refused(project):  # noqa: F811
    flip(PAGE, 2)
    with pytest.raises(UserError, match=f"'{PAGE}' changed"):
        write()
    assert sorted(p.name for p in Path(FOLDER).parent.iterdir()) == ["manifest.json"]


@pytest.mark.parametrize("name", ["Snakefile", "CITATION.cff", "LICENSE"])
def test_a_crate_needs_workflow_citation_and_licence(project, name):  # noqa: F811
    with pytest.raises(UserError, match=f"needs the file '{name}'"):
        write(sources=[source for source in SOURCES if source != name])


def test_a_citation_without_a_date_is_refused(project):  # noqa: F811
    text = Path("CITATION.cff").read_text()
    project.put("CITATION.cff", text.replace("date-released", "date"))
    with pytest.raises(UserError, match="has no 'date-released'"):
        write()


# Checking


def wrong(**options):
    found = crate.check(FOLDER, **options)
    return {f.file: f.verdict for f in found if f.verdict is not Verdict.OK}


def test_a_crate_is_sound_as_it_was_made(made):
    Path(FOLDER, manifest.STAMP).touch()
    assert wrong(archive=ARCHIVE, listed=manifest.read(manifest.NAME)) == {}


def test_changed_missing_and_foreign_files_of_a_crate_are_named(made):
    flip(f"{FOLDER}/{TABLE}")
    os.unlink(f"{FOLDER}/config.yaml")
    Path(FOLDER, "more.txt").write_text("more")
    assert wrong() == {
        f"ro-crate/{TABLE}": Verdict.TAMPERED,
        "ro-crate/config.yaml": Verdict.MISSING,
        "ro-crate/more.txt": Verdict.UNKNOWN,
    }
    assert wrong(archive=ARCHIVE)["ro-crate.zip"] is Verdict.TAMPERED


def test_a_hash_taken_out_of_the_metadata_is_found(made):
    path = Path(FOLDER, crate.METADATA)
    found = json.loads(path.read_text())
    next(e for e in found["@graph"] if e["@id"] == PAGE).pop("sha256")
    path.write_text(json.dumps(found))
    whole, finding = [f for f in crate.check(FOLDER) if f.verdict is not Verdict.OK]
    assert (whole.verdict, whole.file) == (Verdict.TAMPERED, f"ro-crate/{crate.METADATA}")
    assert (finding.verdict, finding.file) == (Verdict.TAMPERED, f"ro-crate/{PAGE}")
    assert finding.detail == "the crate's metadata states no sha256 of it"


@pytest.mark.parametrize(
    ("entity", "key"),
    [("./", "name"), ("./", "identifier"), ("#run", "object"), ("#library", "version")],
)
def test_changed_metadata_are_not_what_their_digest_says(made, entity, key):
    path = Path(FOLDER, crate.METADATA)
    found = json.loads(path.read_text())
    next(e for e in found["@graph"] if e["@id"] == entity)[key] = "another"
    path.write_text(json.dumps(found))
    assert wrong() == {f"ro-crate/{crate.METADATA}": Verdict.TAMPERED}


def test_a_crate_of_another_run_does_not_fit_the_manifest(made):
    made.attack(epsilon=0.25)
    made.table()
    made.manifest()
    found = wrong(listed=manifest.read(manifest.NAME))
    assert found[f"ro-crate/{TABLE}"] is Verdict.STALE
    assert found[f"ro-crate: {RECORDS}"] is Verdict.STALE
    assert f"ro-crate: {DATASET}" not in found


def test_files_are_packed_in_blocks(tmp_path, monkeypatch):
    """No file of a crate, some of which may be records, is in memory as a whole."""
    (tmp_path / "crate").mkdir()
    (tmp_path / "crate/a.bin").write_bytes(os.urandom(5 << 20))
    monkeypatch.setattr(Path, "read_bytes", None)
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    crate._zip(tmp_path / "crate", tmp_path / "crate.zip")
    found = crate._check_zip(tmp_path / "crate", tmp_path / "crate.zip")
    assert found.verdict is Verdict.OK


@pytest.mark.parametrize("data", [None, b"", b"PK\3\4", "cut"])
def test_a_damaged_zip_file_is_named(made, data):
    whole = Path(ARCHIVE).read_bytes()
    os.unlink(ARCHIVE)
    if data is not None:
        Path(ARCHIVE).write_bytes(whole[: len(whole) // 2] if data == "cut" else data)
    verdict = Verdict.MISSING if data is None else Verdict.TAMPERED
    assert wrong(archive=ARCHIVE) == {"ro-crate.zip": verdict}


@pytest.mark.parametrize("text", [None, "", "{}", '{"@graph": [1]}'])
def test_damaged_metadata_is_told_in_one_sentence(made, text):
    path = Path(FOLDER, crate.METADATA)
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match="ro-crate") as error:
        crate.check(FOLDER)
    assert str(error.value).endswith(".")


# The profiles, by the validator of the RO-Crate community


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Return a cache for the validator with the context of RO-Crate 1.1: it needs no net."""
    from requests_cache import CachedRequest, CachedResponse, CachedSession

    context = questions.context()
    response = CachedResponse(
        status_code=200,
        url=context["@id"],
        content=json.dumps(context).encode(),
        headers={"Content-Type": "application/ld+json"},
        request=CachedRequest(method="GET", url=context["@id"]),
    )
    path = tmp_path_factory.mktemp("validator") / "cache"
    with CachedSession(str(path), backend="sqlite", expire_after=-1) as session:
        session.cache.save_response(response, session.cache.create_key(response.request))
    return path


def issues(cache, profile, folder=FOLDER):
    """Return what the validator has to say against a crate at the level REQUIRED."""
    command = [VALIDATOR, "-y", "validate", "--offline", "--cache-path", cache, "-p", profile]
    done = subprocess.run(
        [*map(str, command), "-f", "json", "-o", "report.json", str(folder)],
        capture_output=True,
        text=True,
        # Nothing may be fetched: a proxy that nobody serves stands in for no network.
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )
    assert Path("report.json").is_file(), done.stdout + done.stderr
    report = json.loads(Path("report.json").read_text())
    found = {issue["message"] for issue in report["issues"]}
    assert report["passed"] == (not found) == (done.returncode == 0), done.stdout + done.stderr
    assert profile in report["statistics"]["profiles"]
    return found


needs_validator = pytest.mark.skipif(VALIDATOR is None, reason="needs the roc-validator package")


@needs_validator
@pytest.mark.parametrize("profile", PROFILES)
def test_the_crate_satisfies_the_profile(made, cache, profile):
    assert issues(cache, profile) == set()


BREAKS = {
    ("Snakefile", "step"): (
        "A HowToStep must be referred to from a ComputationalWorkflow via step"
    ),
    ("#job/attack/dataset=tiny", "instrument"): (
        "The Action MUST have an instrument property that references the executed tool"
    ),
    ("#control/table_1", "object"): (
        "A ControlAction must reference the action representing the corresponding tool run via "
        "object"
    ),
    ("#engine-run", "result"): (
        "An OrganizeAction must reference the action representing the workflow run via result"
    ),
}


@needs_validator
def test_a_broken_crate_does_not_satisfy_the_profile(made, cache):
    path = Path(FOLDER, crate.METADATA)
    found = json.loads(path.read_text())
    known = {entity["@id"]: entity for entity in found["@graph"]}
    for identifier, key in BREAKS:
        del known[identifier][key]
    path.write_text(json.dumps(found))
    os.unlink(f"{FOLDER}/{TABLE}")
    payload = f"The RO-Crate does not include the Data Entity '{TABLE}' as part of its payload"
    assert {payload, *BREAKS.values()} <= issues(cache, PROFILES[1])


@needs_validator
def test_the_engines_action_can_not_hold_the_configuration(made, cache):
    """The profile asks for it (Engine configuration files), and its question 3 looks there."""
    path = Path(FOLDER, crate.METADATA)
    found = json.loads(path.read_text())
    engine = next(e for e in found["@graph"] if e["@id"] == "#engine-run")
    engine["object"].append({"@id": "config.yaml"})
    path.write_text(json.dumps(found))
    assert issues(cache, PROFILES[1]) == {
        "An OrganizeAction must reference the ControlAction instances representing the step "
        "executions via object"
    }


@needs_validator
def test_a_term_missing_in_the_context_does_not_satisfy_the_profile(made, cache):
    """RO-Crate 1.1 has no term for hashes; the crate's own context must define it."""
    path = Path(FOLDER, crate.METADATA)
    found = json.loads(path.read_text())
    found["@context"] = found["@context"][0]
    path.write_text(json.dumps(found))
    assert any("sha256" in issue for issue in issues(cache, PROFILES[1]))
