"""What the last run was given is known to the commands that follow it."""

import json
import subprocess
from pathlib import Path

import pytest

from bandlimit import cli
from bandlimit.errors import UserError
from bandlimit.files import certificates
from bandlimit.plan import last


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("own.yaml", "other.yaml"):
        Path(name).write_text("seed: 1\n", encoding="utf-8")
    return tmp_path


def certified(*config, **overrides):
    path = Path(last.MANIFEST)
    path.parent.mkdir(parents=True)
    proof = {"config": ["config.yaml", *config], "overrides": overrides}
    path.write_text(json.dumps({certificates.MARK: proof}), encoding="utf-8")


def test_without_a_run_there_is_nothing():
    assert last.given() == last.Given()
    assert last.given().options() == [] and str(last.given()) == "config.yaml"


def test_the_note_of_the_last_run_counts_and_what_is_said_counts_more():
    certified("other.yaml")
    last.keep(last.Given(["own.yaml"], {"seed": 3, "only": ["a"]}))
    found = last.given()
    assert found.of == "the last run" and str(found) == "config.yaml + own.yaml + seed + only"
    overrides = ["--config", "seed=3", 'only=["a"]']
    assert found.options() == ["--configfile", "own.yaml", *overrides]
    assert last.given(["other.yaml"]).options() == ["--configfile", "other.yaml"]
    last.keep(last.Given())
    assert last.given().options() == []


def test_results_without_a_note_tell_by_the_certificate_of_their_manifest():
    certified("own.yaml", seed=3)
    assert last.given() == last.Given(("own.yaml",), {"seed": 3}, "the results")


@pytest.mark.parametrize("where", ["gone.yaml", {"name": "gone.yaml", "values": {}}])
def test_an_overlay_that_is_not_there_is_told_with_the_way_out(where):
    certified(where)
    with pytest.raises(UserError, match="'gone.yaml', which is not there: .*CONFIG=FILE"):
        last.given()


@pytest.mark.parametrize("text", ["", "[]", '{"configfiles": 3}'])
def test_a_damaged_note_is_no_note(text):
    last.keep(last.Given())
    Path(last.NOTE).write_text(text, encoding="utf-8")
    assert last.given() == last.Given()


def result():
    Path("results/tables").mkdir(parents=True)
    Path("results/tables/rates.md").write_text("rates", encoding="utf-8")


def test_a_plain_run_over_the_results_of_an_own_one_is_refused_with_both_ways_on():
    result()
    last.keep(last.Given(["own.yaml", "other.yaml"]))
    for overrides in ({}, {"seed": 3}):
        with pytest.raises(UserError) as refused:
            last.check(last.Given((), overrides))
        for words in (
            "are of config.yaml + own.yaml + other.yaml",
            "'make CONFIG=\"own.yaml other.yaml\"'",
            "'snakemake --configfile own.yaml other.yaml' goes on",
            "'make CONFIG=config.yaml'",
        ):
            assert words in str(refused.value)


def test_copied_results_are_not_written_over_by_a_plain_run():
    certified("own.yaml")
    with pytest.raises(UserError, match=r"The results here are of config.yaml \+ own.yaml"):
        last.check(last.Given())


@pytest.mark.parametrize("now", [["config.yaml"], ["other.yaml"], ["own.yaml", "other.yaml"]])
def test_a_run_that_names_another_configuration_is_told_what_it_replaces(now):
    result()
    last.keep(last.Given(["own.yaml"]))
    said = last.check(last.Given(now))
    assert said.startswith("The results here are of config.yaml + own.yaml. This run is of config")
    assert ("This run is of config.yaml: " in said) == (now == ["config.yaml"])


def test_a_run_over_nothing_or_over_its_own_results_says_nothing():
    plain, own = last.Given(), last.Given(["own.yaml"])
    # A first run, and one after `make clean-results`, which leaves the note.
    assert last.check(plain) == last.check(own) == ""
    last.keep(own)
    Path("results/tables").mkdir(parents=True)
    assert last.check(plain) == ""
    Path("results/tables/rates.md").write_text("rates", encoding="utf-8")
    assert last.check(own) == last.check(last.Given(["own.yaml"], {"seed": 3})) == ""
    # config.yaml was named once; from then on a plain run is of the same.
    last.keep(last.Given(["config.yaml"]))
    assert last.check(plain) == "" and last.given() == last.Given((), {}, "the last run")


@pytest.mark.parametrize("status", [0, 1])
def test_a_report_is_of_the_last_run_and_of_a_run_that_ends_well(monkeypatch, status):
    last.keep(last.Given(["own.yaml"]))
    asked = []

    def run(words):
        asked.append(words[3:])
        return subprocess.CompletedProcess(words, status)

    monkeypatch.setattr(cli.subprocess, "run", run)
    assert cli.main(["report"]) == status
    given = ["--configfile", "own.yaml"]
    both = [[*given, "--cores", "all"], [*given, "--report", cli.REPORT]]
    assert asked == both[: 2 - status]


def test_make_hands_its_configuration_on():
    makefile = Path(__file__).parents[2] / "Makefile"
    for target, said in (
        ("results", "-m snakemake --configfile own.yaml --cores all"),
        ("status", "-m bandlimit status --configfile own.yaml"),
        ("report", "-m bandlimit report --configfile own.yaml"),
    ):
        words = ["make", "-n", "-f", str(makefile), target, "CONFIG=own.yaml"]
        done = subprocess.run(words, cwd=makefile.parent, capture_output=True, text=True)
        assert said in done.stdout, done.stderr
