"""What a crate answers to the questions of the profile's authors, and what differs between runs."""

import json
from pathlib import Path

import pytest
import questions
from test_crate import (  # noqa: F401 (fixtures)
    FOLDER,
    MEASURED,
    benchmark,
    entities,
    made,
    write,
    wrong,
)
from test_manifest import DATASET, PAGE, RECORDS, STEPS, TABLE, finished, project  # noqa: F401

from bandlimit.errors import UserError
from bandlimit.provenance import crate, crate_measures, manifest

MAKE, ATTACK, TABLE_1 = "#job/make_dataset/dataset=tiny", "#job/attack/dataset=tiny", "#job/table_1"
MEBIBYTE, SECOND = (f"https://qudt.org/vocab/unit/{unit}" for unit in ("MebiBYTE", "SEC"))


@pytest.fixture
def ask(made):  # noqa: F811
    """Return what asks the crate a question."""
    graph = questions.read(FOLDER)
    return lambda question: questions.ask(graph, question)


def named(rows):
    """Return files by their names instead of their identifiers."""
    known = entities()
    return [tuple(known[cell]["name"] if cell in known else cell for cell in row) for row in rows]


def test_no_container_was_used(ask):
    assert ask("containers") == []


def test_the_image_that_a_job_ran_in_is_named_by_what_its_build_drew(made, tmp_path, monkeypatch):  # noqa: F811
    image = tmp_path / "bandlimit.sif"
    image.write_bytes(bytes(32) + b"SIF_MAGIC\0" + b"01\0" + b"02\0" + bytes(range(16)))
    monkeypatch.setenv("APPTAINER_CONTAINER", str(image))
    made.attack(epsilon=0.25)
    monkeypatch.delenv("APPTAINER_CONTAINER")
    made.table()
    made.manifest()
    write()
    built = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert questions.ask(questions.read(FOLDER), "containers") == [(ATTACK, f"#image/{built}")]
    assert entities()[f"#image/{built}"]["name"] == "bandlimit.sif"
    assert entities()[f"#image/{built}"]["identifier"] == f"urn:uuid:{built}"
    assert wrong(listed=manifest.read(manifest.NAME)) == {}


def test_resources_of_each_job_are_those_of_its_benchmark(ask):
    found = {
        (action, quantity.partition("text=")[2]): (value, unit)
        for action, quantity, unit, value in ask("resources")
    }
    assert found == {
        (MAKE, "max_rss"): ("64.25", MEBIBYTE),
        (MAKE, "cpu_time"): ("1.25", SECOND),
        (MAKE, "io_in"): ("1.00", MEBIBYTE),
        (MAKE, "io_out"): ("2.00", MEBIBYTE),
        (ATTACK, "max_rss"): ("512.00", MEBIBYTE),
        (ATTACK, "cpu_time"): ("88.75", SECOND),
        (ATTACK, "io_in"): ("0.00", MEBIBYTE),
        (ATTACK, "io_out"): ("3.50", MEBIBYTE),
    }


def test_configuration_is_what_the_run_was_given(ask):
    assert ask("configuration") == [("config.yaml",), ("profiles/default/config.yaml",)]


def test_environment_of_workflow_and_steps_is_a_file_of_a_known_format(ask):
    found = ask("environment")
    steps = [f"#step/{name}" for name in ("attack", "make_dataset", "manifest", "table_1")]
    assert {of for of, *_ in found} == {"Snakefile", *steps}
    for of in ("Snakefile", *steps):
        files = {file: (kind, profile) for each, file, kind, profile in found if each == of}
        assert set(files) == {"envs/tools.yaml", "requirements.lock"}
        assert files["envs/tools.yaml"][0] == "application/yaml"
        assert "conda" in files["envs/tools.yaml"][1]
        assert files["requirements.lock"][0] == "text/plain"
        assert "pip" in files["requirements.lock"][1]


def test_a_step_ends_when_its_benchmark_is_written(ask):
    assert ask("time of a step") == [
        (ATTACK, "1970-01-12T13:46:49.750+00:00", "1970-01-12T13:48:20.000+00:00"),
        (MAKE, "1970-01-12T13:46:40.000+00:00", "1970-01-12T13:46:42.500+00:00"),
        (TABLE_1, "1970-01-12T13:49:59.500+00:00", "1970-01-12T13:50:00.000+00:00"),
    ]


def test_the_run_goes_from_its_first_job_to_its_last(ask):
    assert ask("time of the run") == [
        ("#run", "1970-01-12T13:46:40.000+00:00", "1970-01-12T13:50:00.000+00:00")
    ]


def test_each_job_and_the_run_are_told_as_completed(ask):
    found = dict(ask("success"))
    assert set(found) == {"#run", MAKE, ATTACK, TABLE_1, "#job/manifest"}
    assert set(found.values()) == {"http://schema.org/CompletedActionStatus"}


def test_inputs_and_outputs_are_those_of_the_run_alone(ask):
    given = {name for (name,) in named(ask("inputs"))}
    assert "config.yaml" in given
    assert "own images" in given
    assert not {DATASET, RECORDS, STEPS} & given
    assert {name for (name,) in named(ask("outputs"))} == {TABLE, PAGE}


def test_versions_are_those_of_certificates_and_of_the_project(ask):
    found = dict(ask("versions"))
    assert found["numpy"] == "2.4.6"
    assert found["python"] == "3.11.7"
    assert found["snakemake"] == "9.27.1"
    assert found["scripts/attack.py"] == found["bandlimit"] == "0.1.0"


def test_scripts_wrap_the_library_and_need_packages(ask):
    found = [row for row in ask("requirements") if row[0] == "scripts/attack.py"]
    assert {wrapped for _, wrapped, *_ in found} == {"#library"}
    assert {(needed, version) for *_, needed, version in found} == {
        ("#library", "0.1.0"),
        ("pkg:generic/python@3.11.7", "3.11.7"),
        ("pkg:pypi/numpy@2.4.6", "2.4.6"),
        ("pkg:pypi/snakemake@9.27.1", "9.27.1"),
    }


def test_the_configuration_flows_into_parameters_and_given_files_into_what_reads_them(ask):
    found = set(named(ask("flow")))
    told = {(parameter, step) for given, *_, parameter, step in found if given == "config.yaml"}
    assert told == {
        ("attacks", "attack"),
        ("epsilon", "attack"),
        ("seed", "make_dataset"),
        ("source", "make_dataset"),
        *(("wildcards", step) for step in ("attack", "make_dataset", "manifest", "table_1")),
    }
    # What certificates say of device and commit nobody configured.
    assert ("own images", "inputs", "files", "make_dataset") in found


def test_outputs_of_a_rule_flow_into_what_reads_them(made):  # noqa: F811
    known = entities()
    found = {
        (e["sourceParameter"]["@id"], e["targetParameter"]["@id"])
        for e in known.values()
        if e["@type"] == "ParameterConnection"
    }
    files = {pair for pair in found if "/writes/" in pair[0]}
    assert files == {
        ("#parameter/make_dataset/writes/dataset", "#parameter/attack/reads/dataset"),
        ("#parameter/attack/writes/records", "#parameter/table_1/reads/records"),
        ("#parameter/table_1/writes/parquet", "#parameter/manifest/reads/artifacts"),
        ("#parameter/table_1/writes/page", "#parameter/manifest/reads/artifacts"),
        ("#parameter/table_1/writes/parquet", "#parameter/workflow/artifacts"),
        ("#parameter/table_1/writes/page", "#parameter/workflow/artifacts"),
    }
    leaving = known["Snakefile"]["connection"]
    assert {known[e["@id"]]["targetParameter"]["@id"] for e in leaving} == {
        "#parameter/workflow/artifacts"
    }
    for source, target in found:
        assert known[source]["@type"] == known[target]["@type"] == "FormalParameter"


def test_overlays_from_elsewhere_and_what_the_command_line_set_are_told(project, monkeypatch):  # noqa: F811
    said = project.proof

    def proof(*arguments, **params):
        given = {"config": ["config.yaml", {"name": "mine.yaml", "values": {"seed": 2}}]}
        return said(*arguments, **params) | given | {"overrides": {"device": "cpu"}}

    monkeypatch.setattr(project, "proof", proof)
    project.dataset()
    project.attack()
    project.table()
    project.manifest()
    write()
    graph = questions.read(FOLDER)
    found = named(questions.ask(graph, "configuration"))
    assert sorted(name for (name,) in found) == [
        "config.yaml",
        "device",
        "mine.yaml",
        "profiles/default/config.yaml",
    ]
    values = {e["name"]: e["value"] for e in entities().values() if e["@id"][:9] == "#setting/"}
    assert values == {"mine.yaml": '{"seed": 2}', "device": "cpu"}
    flow = named(questions.ask(graph, "flow"))
    assert ("mine.yaml", "configuration", "epsilon", "attack") in flow


# Equal runs


def metadata():
    return json.loads(Path(FOLDER, crate.METADATA).read_text())


def test_equal_runs_differ_in_measured_figures_alone(made):  # noqa: F811
    before = metadata()
    for number, (name, (row, _)) in enumerate(MEASURED.items(), 1):
        cells = [cell.replace(".", f"{number}.") for cell in row.split("\t")]
        benchmark(name, "\t".join(cells), 2_000_000 + number)
    write()
    after = metadata()
    assert before != after
    assert crate.content(before) == crate.content(after)
    old, new = ({e["@id"]: e for e in found["@graph"]} for found in (before, after))
    assert list(old) == list(new)
    differ = {
        (identifier, key)
        for identifier in old
        for key in old[identifier].keys() | new[identifier].keys()
        if old[identifier].get(key) != new[identifier].get(key)
    }
    used = {pair for pair in differ if pair[0].startswith("#usage/")}
    assert {key for _, key in used} == {"value"}
    assert len(used) == 8
    assert differ - used == {
        (action, key)
        for action in (MAKE, ATTACK, TABLE_1, "#run", "#engine-run")
        for key in ("startTime", "endTime")
    }


def test_the_content_digest_is_stated_and_is_of_all_else(made):  # noqa: F811
    before = metadata()
    [root] = [e for e in before["@graph"] if e["@id"] == "./"]
    assert root["identifier"] == crate.content(before)
    assert root["identifier"].startswith("ni:///sha-256;")
    for path in Path("results/benchmarks").rglob("*.tsv"):
        path.unlink()
    write()
    assert crate.content(metadata()) == root["identifier"], "no figures are no other content"
    made.attack(epsilon=0.25)
    made.table()
    made.manifest()
    write()
    assert crate.content(metadata()) != root["identifier"]


def test_a_run_without_benchmarks_has_neither_times_nor_resources(project):  # noqa: F811
    write()
    graph = questions.read(FOLDER)
    for question in ("resources", "time of a step", "time of the run"):
        assert questions.ask(graph, question) == []
    assert wrong(listed=manifest.read(manifest.NAME)) == {}


@pytest.mark.parametrize(
    "text", ["", "s\n", "s\tmax_rss\nsoon\t1\n", "s\tmax_rss\n1\tmuch\n", "a\n1\n"]
)
def test_a_damaged_benchmark_is_told_in_one_sentence(made, text):  # noqa: F811
    Path("results/benchmarks/attack/tiny.tsv").write_text(text)
    with pytest.raises(UserError, match=r"benchmark 'results/benchmarks/attack/tiny.tsv' is dam"):
        write()


def test_a_benchmark_that_cant_be_read_is_told(tmp_path):
    with pytest.raises(UserError, match=r"can't be read: Is a directory\."):
        crate_measures.read(tmp_path)
    assert crate_measures.read(tmp_path / "none.tsv") is None


def test_all_columns_that_are_told_have_a_unit():
    for name, unit in crate_measures.QUANTITIES.values():
        assert name
        assert unit in (MEBIBYTE, SECOND)
