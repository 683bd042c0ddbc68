"""What a run made is made again from its certificates; what was changed since is named."""

import copy
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from runs import certificates, one, rewrite

from bandlimit.files import contents, store
from bandlimit.plan import catalogue, jobs
from bandlimit.provenance import replay, samples

ELSEWHERE = ("perturbation_spectra", "high_frequency", "frequency_principle")
"""Studies that the tiny project does not run; `test_trained.py` has a run of them."""


def rules(kind):
    """Return the rules of the tiny project that the audit makes again in one way."""
    names = [*jobs.SHARED, *catalogue.records()]
    names += [f"{study}_{artifact.name}" for study, artifact in catalogue.artifacts()]
    own = {name for study in ELSEWHERE for name in catalogue.module(study).RECORDS}
    names = [name for name in names if name not in own and not name.startswith(ELSEWHERE)]
    return sorted(name for name in names if jobs.replay_kind(name) == kind)


@pytest.fixture(scope="module")
def told(tiny_run):
    """Return the certificate of each job of the run, by rule."""
    return certificates(tiny_run)


@pytest.fixture
def changed(tiny_run, tmp_path):
    """Return a copy of the results, to be changed."""
    shutil.copytree(tiny_run.folder / "results", tmp_path / "results")
    return tmp_path / "results"


@pytest.mark.parametrize("rule", rules("redrawn"))
def test_tables_and_figures_are_made_again(tiny_run, told, rule):
    for proof in told[rule]:
        findings = replay.redraw(proof, results=tiny_run.folder / "results", home=tiny_run.folder)
        assert [f for f in findings if f.verdict != "OK"] == []
        assert len(findings) == sum(
            1 if isinstance(names, str) else len(names) for names in proof["writes"].values()
        )


def test_times_are_not_compared(tiny_run, told):
    (proof,) = told["bandlimiting_table_2_time"]
    findings = replay.redraw(proof, results=tiny_run.folder / "results", home=tiny_run.folder)
    assert {f.verdict for f in findings} == {"NOT COMPARED"} and len(findings) == 5


@pytest.mark.parametrize("rule", rules("sampled"))
def test_images_are_attacked_and_judged_again(tiny_run, told, rule):
    for proof in told[rule]:
        records, *rest = samples.sample(
            proof,
            results=tiny_run.folder / "results",
            home=tiny_run.folder,
            images=2,
            seed=1,
        )
        assert records.verdict == "OK", records.detail
        # The same processor: equal to the last bit.
        assert records.detail.startswith("equal, ") and "2 images" in records.detail
        assert [f.verdict for f in rest] == ["NOT COMPARED"] * (rule == "judge_defense")


CHANGES = [
    ("attack", {"attack": "pgd_minimal"}, "image", 0.5),
    ("attack", {"attack": "pgd"}, "status", "zero_gradient"),
    ("attack_defense", {"defense_attack": "averaged"}, "linf", 0.031),
    ("evaluate_undefended", {"model": "model_a"}, "prediction", 77),
    ("evaluate_post_averaging", {"model": "model_a", "inputs": "clean"}, "p_true", 0.123),
    ("evaluate_samplers", {"inputs": "pgd_minimal"}, "margin", None),
    ("judge_defense", {"defense": "undefended"}, "prediction", 77),
    ("evaluate_controls", {}, "prediction", 77),
    ("scale_perturbations", {}, "linf", 0.5),
    ("count_crossings", {}, "endpoint", -1),
]


@pytest.mark.parametrize(
    ("rule", "wildcards", "column", "value"), CHANGES, ids=lambda value: str(value)
)
def test_a_changed_value_is_named(tiny_run, told, changed, rule, wildcards, column, value):
    assert {rule for rule, *_ in CHANGES} == set(rules("sampled"))
    proof = one(told, rule, **wildcards)
    name = next(iter(proof["writes"].values()))
    image = rewrite(changed, name, column, 4, value)
    finding = samples.sample(proof, results=changed, home=tiny_run.folder, images=99, seed=0)[0]
    assert (finding.file, finding.verdict) == (name, "TAMPERED")
    assert finding.detail.startswith(f"Image {image!r}")
    assert f"column {column!r}" in finding.detail


def test_a_changed_number_of_a_table_is_named(tiny_run, told, changed):
    (proof,) = told["bandlimiting_table_1"]
    rewrite(changed, proof["writes"]["parquet"], "defense_rate", 1, 0.987)
    findings = replay.redraw(proof, results=changed, home=tiny_run.folder)
    by_file = {f.file: f for f in findings}
    wrong = by_file.pop(proof["writes"]["parquet"])
    assert wrong.verdict == "TAMPERED"
    assert wrong.detail.startswith("Row 1 (from 0), column 'defense_rate': 0.987 is stored")
    assert {f.verdict for f in by_file.values()} == {"OK"}


def test_a_changed_word_of_the_ledger_is_named(tiny_run, told, changed):
    (proof,) = told["evaluate_claims"]
    path = changed / Path(proof["writes"]["markdown"]).relative_to("results")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("contradicted", "reproduced", 1), encoding="utf-8")
    findings = replay.redraw(proof, results=changed, home=tiny_run.folder)
    wrong = [f for f in findings if f.verdict != "OK"]
    assert [f.file for f in wrong] == [proof["writes"]["markdown"]]
    assert wrong[0].detail.startswith("Line ") and "reproduced" in wrong[0].detail


def test_records_behind_a_table_that_were_changed_show_in_the_table(tiny_run, told, changed):
    (proof,) = told["bandlimiting_defense_rates"]
    name = next(n for n in proof["reads"]["defended"] if "/clean/" not in n)
    correct = store.read(tiny_run.folder / name)["correct"].to_numpy(zero_copy_only=False)
    row = int(np.flatnonzero(~correct)[0])
    rewrite(changed, name, "correct", row, True)
    findings = replay.redraw(proof, results=changed, home=tiny_run.folder)
    assert {f.verdict for f in findings} == {"TAMPERED"}


@pytest.mark.parametrize(
    ("rule", "wildcards"),
    [
        ("attack", {"attack": "pgd"}),
        ("attack_defense", {"defense_attack": "averaged"}),
        ("evaluate_post_averaging", {"model": "model_a", "inputs": "clean"}),
        ("count_crossings", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_seed_than_was_used_shows(tiny_run, told, rule, wildcards):
    proof = copy.deepcopy(one(told, rule, **wildcards))
    proof["params"]["seed"] += 1
    finding = samples.sample(
        proof, results=tiny_run.folder / "results", home=tiny_run.folder, images=8, seed=0
    )[0]
    assert finding.verdict == "TAMPERED"


def test_records_of_a_processor_that_rounds_otherwise_prove_nothing(tiny_run, told, changed):
    proof = one(told, "attack", attack="pgd")
    rewrite(changed, proof["writes"]["adversarial"], "linf", 4, 0.02)
    where = {"results": changed, "home": tiny_run.folder, "images": 99, "seed": 0}
    assert samples.sample(proof, **where)[0].verdict == "TAMPERED"
    judged = one(told, "evaluate_undefended", model="model_a")["writes"]["evaluation"]
    path = changed / Path(judged).relative_to("results")
    for shift, verdict in ((1e-7, "MISSING"), (0.1, "TAMPERED")):
        table = store.read(tiny_run.folder / judged)
        column = table.column_names.index("margin")
        moved = pa.array(table["margin"].to_numpy() + shift)
        table = table.set_column(column, table.schema.field(column), moved)
        store.write(path, table, contents.certificate(tiny_run.folder / judged))
        finding = samples.sample(proof, **where)[0]
        assert finding.verdict == verdict
        assert "column 'linf'" in finding.detail
