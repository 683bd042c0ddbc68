"""Networks that are followed in training, and simulations on images, as configured."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bandlimit.config import overlays, paths
from bandlimit.errors import UserError
from bandlimit.plan import catalogue, cost, jobs, load
from bandlimit.training.responses import Observer

HOME = Path(__file__).parents[3]
BASE = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
NAME, EXPERIMENT = "own_network", "fashion_mnist_small"
RECIPE = {
    "dataset": "few",
    "architecture": "small_cnn",
    "epochs": 5,
    "batch_size": 10,
    "learning_rate": 0.01,
    "seeds": 3,
    "responses": {"images": 100, "every": 2},
}


def loaded(change=None, **recipe):
    """Return the run of the default configuration in which one's own network is followed."""
    config = copy.deepcopy(BASE)
    config["datasets"]["few"] = {"source": "fashion_mnist", "split": "train", "images": 1000}
    config["training"][NAME] = {**RECIPE, **recipe}
    config["frequency_principle"]["experiments"][EXPERIMENT]["followed"] = [NAME]
    if change is not None:
        change(config)
    return load.load(config, HOME)


def entry(run, name):
    (found,) = [own for own in catalogue.of(run) if own.rule == f"frequency_principle_{name}"]
    return found


def test_one_s_own_recipe_is_followed():
    run = loaded()
    (own,) = run.studies["frequency_principle"].experiments[0].followed
    assert (own.name, own.architecture, own.dataset) == (NAME, "small_cnn", "few")
    assert (own.source, own.classes, own.seeds, own.loss) == (
        "fashion_mnist",
        10,
        3,
        "cross_entropy",
    )
    assert f"{NAME}_seed_3" in run.models
    for name in ("projection", "filtering"):
        assert entry(run, name).reads == {
            "responses": [f"results/responses/{NAME}.parquet"],
            "datasets": ["results/datasets/few.parquet"],
        }
        (told,) = entry(run, name).identity["networks"]
        assert told == {"dataset": "fashion_mnist_test", "model": NAME, "case": "small_cnn"}
    (asked,) = [e for e in jobs.claim_experiments(run) if e["model"] == NAME]
    assert asked["has"] == ["followed"] and asked["stand_in"] and asked["document"] == "CIFAR-10"


def test_a_training_keeps_its_responses():
    run = loaded()
    (kept,) = [own for own in jobs.trainings(run) if NAME in own.models]
    assert kept.models == (NAME,)
    assert kept.outputs()["responses"] == paths.responses_file("{trained}")
    assert paths.training_files(run, NAME) == {"dataset": "results/datasets/few.parquet"}
    # Of other images, where a recipe names them; they may be those it is tested on.
    other = loaded(responses={"dataset": "fashion_mnist_test", "images": 100})
    files = paths.training_files(other, NAME)
    assert files["observed"] == "results/datasets/fashion_mnist_test.parquet"
    assert entry(other, "projection").reads["datasets"] == [files["observed"]]


@pytest.mark.parametrize("change", [{"images": 99}, {"every": 1}, {"dataset": "few"}])
def test_each_key_identifies_the_job(change):
    job = SimpleNamespace(trained=NAME)
    before, after = (
        jobs.identity(loaded(responses=RECIPE["responses"] | own), "train_model", job)
        for own in ({}, change)
    )
    assert before != after and before["recipe"]["responses"] == RECIPE["responses"]


@pytest.mark.parametrize(
    ("epochs", "every", "batch_size"),
    [(5, 2, 10), (5, 1, 10), (1, 2, 64), (4, 9, 1000), (6, 3, 300)],
)
def test_the_plan_counts_as_many_records_as_are_made(epochs, every, batch_size):
    responses = {"images": 100, "every": every}
    given = {"epochs": epochs, "batch_size": batch_size, "responses": responses}
    (row,) = [r for r in cost.costs(loaded(**given)) if (r.model, r.inputs) == (NAME, "training")]
    per_epoch = 1000 // batch_size
    observer = SimpleNamespace(_every=every)
    times = len(Observer.at(observer, epochs * per_epoch, per_epoch))
    assert row.training_forwards == 3 * (cost.GRADIENT * epochs * 1000 + 100 * times)


def unknown(config):
    config["frequency_principle"]["experiments"][EXPERIMENT]["followed"] = ["own_netwrk"]


def seed(config):
    config["frequency_principle"]["experiments"][EXPERIMENT]["followed"] = ["fashion_mnist_small"]


def simulation(**sizes):
    def change(config):
        config["frequency_principle"]["simulations"] = {"label_noise": sizes}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown, r"experiments.fashion_mnist_small.followed names 'own_netwrk', .*'own_network'"),
        (
            seed,
            r"followed must have networks whose recipes have 'responses', .*'fashion_mnist_small",
        ),
        (simulation(dataset="fashion"), r"simulations.label_noise.dataset names 'fashion', which"),
        (simulation(classes=[3, 3]), r"label_noise.classes must be two different .*, got \[3, 3\]"),
        (simulation(classes=[3, 10]), r"ones of 0 to 9, the classes of .*, got \[3, 10\]"),
    ],
)
def test_mistakes_are_told_in_one_sentence(change, message):
    with pytest.raises(UserError, match=message):
        loaded(change)


@pytest.mark.parametrize("thresholds", [[0.1, 0.05], [0.2, 0.1, 0.05]])
def test_thresholds_that_figures_and_claims_ask_for_must_be_there(thresholds):
    def fewer(config):
        config["frequency_principle"]["projection"] = {"thresholds": thresholds}

    with pytest.raises(UserError, match=r"thresholds must have 0.3, 0.1, 0.05, .*; 0.3 is missing"):
        loaded(fewer)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ({"images": 1001}, f"training.{NAME}.responses.images must be from 1 to 1000, .*got 1001"),
        ({"dataset": "gone"}, f"training.{NAME}.responses.dataset names 'gone'"),
        ({"evry": 2}, "evry"),
        ({"every": 0}, "every"),
    ],
)
def test_mistakes_in_a_recipe_are_told_in_one_sentence(responses, message):
    with pytest.raises(UserError, match=message):
        loaded(responses=responses)


def test_without_networks_and_simulations_there_is_nothing_of_images():
    def change(config):
        section = config["frequency_principle"]
        section["experiments"][EXPERIMENT]["followed"] = []
        section["simulations"] = None

    rules = {own.rule for own in catalogue.of(loaded(change))}
    names = ("projection", "filtering", "label_noise", "kernel", "figure_projection")
    assert not rules & {f"frequency_principle_{name}" for name in names}


def test_a_simulation_on_images_is_identified_by_their_source():
    run = loaded()
    told = entry(run, "label_noise")
    assert told.reads == {"dataset": "results/datasets/fashion_mnist_train.parquet"}
    assert told.identity["settings"]["source"] == "fashion_mnist"
    assert told.identity["settings"]["seed"] == run.seed


def test_the_documents_sizes_are_those_of_mnist_and_cifar10():
    config = overlays.read([HOME / "config.yaml", HOME / "config/paper.yaml"])
    study = load.load(config, HOME, files=False).studies["frequency_principle"]
    followed = [own.source for e in study.experiments for own in e.followed]
    assert followed == ["cifar10"] * 2
    noise, kernel = (study.simulations[name] for name in ("label_noise", "kernel"))
    assert (noise["depth"], noise["width"], noise["steps"]) == (6, 256, 5000)
    assert (kernel["images"], kernel["sigma"], kernel["images"] // kernel["bins"]) == (
        2000,
        1.25,
        20,
    )
