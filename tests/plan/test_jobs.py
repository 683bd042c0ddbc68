"""What a run plans from its configuration alone: its jobs, and the files it asks for."""

import copy
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import CONFIG

from bandlimit.config import overlays, paths
from bandlimit.plan import catalogue, jobs, load
from bandlimit.studies.robustness import artifacts as robustness

HOME = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own images/a").mkdir(parents=True)
    (tmp_path / "own images/a/1.png").write_bytes(b"1")


def planned(place=None, value=None, overlay=CONFIG):
    """Return the run of the tiny project, with one value changed."""
    config = copy.deepcopy(overlays.read([HOME / "config.yaml"], overlay))
    if place is not None:
        *parents, last = place.split(".")
        part = config
        for name in parents:
            part = part[name]
        part[last] = value
    return load.load(config, HOME, files=False)


def job(**names):
    return SimpleNamespace(**{"dataset": "tiny", "model": "model_a", "shard": "1of1", **names})


PGD = {"attack": "pgd_minimal"}
AVERAGED = {"defense": "post_averaging", "defense_attack": "averaged"}
TRAINED = {"trained": "fashion_mnist_resnet8"}
MATTERS = [
    ("attack", PGD, "experiments.model_a.attacks.pgd_minimal.steps", 6),
    ("attack", PGD, "seed", 1),
    ("attack", PGD, "device", "auto"),
    ("convert_model", {}, "models.model_a.mean", [0.3]),
    ("convert_model", {}, "models.model_a.std", [0.3]),
    ("make_dataset", {}, "datasets.tiny.images", 20),
    ("make_dataset", {}, "datasets.tiny.resize", 28),
    ("train_model", TRAINED, "training.fashion_mnist_resnet8.epochs", 6),
    ("train_model", TRAINED, "seed", 1),
    ("evaluate_undefended", {}, "seed", 1),
    ("attack_defense", AVERAGED, "robustness.attacks.averaged.steps", 3),
    ("attack_defense", AVERAGED, "robustness.experiments.model_a.images", 7),
    ("attack_defense", AVERAGED, "robustness.epsilons", ["8/255"]),
    ("judge_defense", {"defense": "post_averaging"}, "robustness.draws", 3),
    ("judge_defense", {"defense": "post_averaging"}, "bandlimiting.experiments.model_a.radius", 3),
    ("evaluate_controls", {}, "robustness.control_draws", 3),
    ("evaluate_controls", {}, "experiments.model_a.epsilon", "4/255"),
    ("scale_perturbations", {}, "robustness.factors", [1, 3]),
]


@pytest.mark.parametrize(("rule", "names", "place", "value"), MATTERS)
def test_what_matters_to_a_job_is_part_of_it(rule, names, place, value):
    overlay = {} if rule == "train_model" else CONFIG
    before, after = (
        jobs.identity(planned(*change, overlay=overlay), rule, job(**names))
        for change in ((), (place, value))
    )
    assert before != after


def test_a_dataset_knows_the_files_of_its_folder(folder, tmp_path):
    before = jobs.identity(planned(), "make_dataset", job())
    assert jobs.identity(planned(), "make_dataset", job()) == before
    (tmp_path / "own images/a/2.png").write_bytes(b"2")
    assert jobs.identity(planned(), "make_dataset", job()) != before


def test_of_two_numbers_of_images_the_smaller_is_attacked():
    names = {"defense": "undefended", "defense_attack": "suite"}
    assert jobs.identity(planned(), "attack_defense", job(**names))["images"] == 2


def test_a_larger_budget_asks_for_no_more_images_than_the_experiment():
    names = {"defense": "undefended", "defense_attack": "many_steps_larger"}
    found = jobs.identity(planned(), "attack_defense", job(**names))
    assert (found["images"], found["parameters"], len(found["epsilons"])) == (8, {"steps": 6}, 1)
    few = planned("robustness.larger_budget", 3)
    assert jobs.identity(few, "attack_defense", job(**names))["images"] == 3
    # Where the experiment takes all images, as many as its dataset has.
    overlay = copy.deepcopy(CONFIG)
    del overlay["robustness"]["experiments"]["model_a"]["images"]
    overlay["datasets"]["tiny"]["images"] = 20
    found = jobs.identity(planned(overlay=overlay), "attack_defense", job(**names))
    assert (
        found["images"] == 20 < planned().studies["robustness"].attacks["many_steps_larger"].images
    )


def test_a_gate_is_for_who_sees_all_images():
    gate = {"gate_dataset": "tiny", "gate_accuracy": 0.5, "gate_tolerance": 0.1}
    run = planned("models.model_a", {**CONFIG["models"]["model_a"], **gate})
    told = [jobs.identity(run, "evaluate_undefended", job(shard=s)) for s in ("1of1", "1of2")]
    first, second = (one["gate"] for one in told)
    assert (list(first), second) == ([0.5, 0.1], None)
    assert paths.gate_files(run, "model_a") == [
        "results/evaluations/tiny/model_a/clean/undefended/1of1.parquet"
    ]
    assert paths.gate_files(run, "model_b") == []


def test_all_sets_are_attacked_and_judged():
    sets = {
        *(("undefended", name) for name in ("one_step", "many_steps", "suite", "confident")),
        ("other_model", "many_steps"),
        *(("low_pass", name) for name in ("blind", "in_band")),
        ("post_averaging", "averaged"),
        *(("post_averaging_fixed", name) for name in ("exact", "black_box")),
    }
    # Each with a budget also with a larger one, save on another model.
    budgets = ("many_steps", "suite", "in_band", "averaged", "exact", "black_box")
    sets |= {(d, f"{a}_larger") for d, a in sets if a in budgets and d != "other_model"}
    place = "results/defense_attacks/tiny/model_a"
    found = robustness.attack_files(planned())
    assert sorted(found) == sorted(f"{place}/{d}/{a}/1of1.parquet" for d, a in sets)
    plain = {one for one in sets if one[0] in ("undefended", "other_model", "low_pass")}
    found = robustness.judged_files(planned(), job(defense="low_pass"))
    assert sorted(found) == sorted(f"{place}/{d}/{a}/1of1.parquet" for d, a in plain)


def test_all_shards_of_all_attacks_are_asked_for():
    run = planned("experiments.model_a.shards", 2)
    found = paths.adversarial_files(run.experiments.values())
    assert sorted(found) == sorted(
        [f"results/adversarial/tiny/model_a/{attack}/{shard}.parquet"
         for attack in ("fgsm_minimal", "pgd_minimal", "deepfool_l2", "carlini_wagner_l2", "fgsm",
                        "pgd", "deepfool_linf")
         if attack in run.experiments["model_a"].attacks
         for shard in ("1of2", "2of2")]
        + ["results/adversarial/tiny/model_b/fgsm_minimal/1of1.parquet"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shards", "names"), [(1, ["1of1"]), (2, ["1of2", "2of2"]), (4, ["1of4", "2of4", "3of4"])]
)
def test_the_site_asks_for_the_shards_that_hold_its_images(monkeypatch, shards, names):
    monkeypatch.setattr(jobs, "SITE_IMAGES", 3)
    found = jobs.site_files(planned("experiments.model_a.shards", shards))
    place = "tiny/model_a"
    assert found == {
        "dataset": "results/datasets/tiny.parquet",
        **{
            key: [f"results/{folder}/{name}.parquet" for name in names]
            for key, folder in (
                ("adversarial", f"adversarial/{place}/pgd_minimal"),
                ("clean", f"evaluations/{place}/clean/post_averaging"),
                ("attacked", f"evaluations/{place}/pgd_minimal/post_averaging"),
                ("controls", f"controls/{place}"),
            )
        },
    }


def test_a_run_asks_for_every_form_of_what_its_studies_make():
    run = planned()
    found = jobs.site_artifacts(run)
    for study, artifact in catalogue.artifacts():
        if study not in run.studies:
            continue
        made = artifact.made(run) if artifact.when(run) else []
        for one in made:
            forms = {
                f"results/{artifact.kind}/{study}/{one.name}.{end}"
                for end in artifact.forms.values()
            }
            assert forms <= set(found)
            assert artifact.kind == "figures" or f"tables/{study}/{one.name}" in (
                catalogue.table_names(run)
            )
    assert len(found) == len(set(found)) > 50


def test_a_closed_set_names_what_is_chosen_and_nothing_else():
    assert jobs.closed({"a": 1, "b": 0, "c": 2}) == "a|c"
    for names in ({}, {"a": 0}):
        assert not re.fullmatch(jobs.closed(names), "a") and not re.match(jobs.closed(names), "")


def test_wildcards_are_closed():
    helpers = runpy.run_path(str(HOME / "workflow/helpers.py"))
    sets = helpers["closed_sets"](planned())
    examples = {
        "dataset": "tiny", "model": "model_a", "attack": "pgd", "inputs": "clean",
        "defense": "low_pass", "defense_attack": "suite", "shard": "2of8",
    }  # fmt: skip
    assert sets.keys() == examples.keys()
    for name, example in examples.items():
        assert re.fullmatch(sets[name], example)
        for other in ("", "other", f"{example}/more", f"{example} "):
            assert not re.fullmatch(sets[name], other)


def turned(value):
    """Return a value with the keys of its mappings in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return value


def test_the_order_of_keys_is_no_part_of_any_identity():
    """Snakemake compares params as text. The order of experiments is that of rows."""
    told = []
    for turn in (lambda value: value, turned):
        config = overlays.read([HOME / "config.yaml"])
        for place in (config["training"], config["robustness"]):
            for name in place:
                place[name] = place[name] if name == "experiments" else turn(place[name])
        for name in ("attacks", "defenses"):
            config[name] = turn(config[name])
        run = load.load(config, HOME, files=False)
        recipe = jobs.identity(run, "train_model", job(**TRAINED))
        told.append(repr([recipe, *(dict(entry.identity) for entry in catalogue.of(run))]))
    assert told[0] == told[1]
