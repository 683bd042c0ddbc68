"""Recipes that say more: models of their own, several networks, curves, shuffled labels."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bandlimit.config import paths
from bandlimit.config.schema import read_schema
from bandlimit.errors import UserError
from bandlimit.plan import cost, jobs, load
from bandlimit.training.recipes import LOSSES, OPTIMIZERS, SCHEDULES, Recipe

HOME = Path(__file__).parents[2]
BASE = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
SCHEMA = read_schema(HOME / "workflow/schemas/config.schema.yaml")["$defs"]
NAME = "own_network"
CURVES = {"dataset": "fashion_mnist_test", "images": 100, "train_images": 50}
RECIPE = {
    "dataset": "few",
    "architecture": "small_cnn",
    "epochs": 5,
    "batch_size": 10,
    "learning_rate": 0.01,
    "seeds": 3,
    "curves": CURVES,
}


def loaded(change=None, **recipe):
    """Return the run of the default configuration in which a network of its own is measured."""
    config = copy.deepcopy(BASE)
    few = {"source": "fashion_mnist", "split": "train", "images": 1000}
    config["datasets"] |= {"few": few, "shuffled": {**few, "shuffle_labels": True}}
    config["training"][NAME] = {**copy.deepcopy(RECIPE), **recipe}
    config["perturbation_spectra"]["experiments"]["fashion_mnist"]["networks"].append(NAME)
    if change is not None:
        change(config)
    return load.load(config, HOME)


def job(**names):
    return SimpleNamespace(**names)


def test_a_recipe_with_an_architecture_describes_a_model():
    model = loaded().models[NAME]
    assert (model.source, model.architecture, model.base) == ("trained", "small_cnn", None)
    assert (model.shape, model.classes, model.mean, model.std) == ((1, 28, 28), 10, (0,), (1,))
    model = loaded(mean=[0.286], std=[0.353]).models[NAME]
    assert (model.mean, model.std) == ((0.286,), (0.353,))
    assert NAME not in load.load(BASE, HOME).models


def test_such_a_model_may_be_of_an_experiment_or_of_a_defence():
    def change(config):
        config["experiments"]["fashion_mnist"]["model"] = NAME
        config["defenses"]["other_model"] = {"kind": "other_model", "model": NAME}

    run = loaded(change)
    assert run.experiments["fashion_mnist"].model == NAME


def test_further_networks_are_models_of_their_own():
    run = loaded()
    for number in (2, 3):
        model = run.models[f"{NAME}_seed_{number}"]
        assert (model.source, model.base, model.gate_dataset) == ("checkpoint", NAME, None)
    assert f"{NAME}_seed_4" not in run.models
    assert not [name for name in loaded(seeds=1).models if name.startswith(f"{NAME}_seed_")]


def test_a_job_makes_all_networks_and_curves_of_a_recipe():
    run = loaded()
    (own,) = [kept for kept in jobs.trainings(run) if NAME in kept.models]
    # With the networks of the study high_frequency, which keep the same.
    assert NAME in own.models and all("_small" in name for name in own.models if name != NAME)
    assert own.outputs() == {
        "seeds": [f"results/models/{{trained}}_seed_{number}.safetensors" for number in (2, 3)],
        "curves": "results/curves/{trained}.parquet",
    }
    assert paths.curves_file(NAME) == f"results/curves/{NAME}.parquet"
    assert paths.training_files(run, NAME) == {
        "dataset": "results/datasets/few.parquet",
        "tested": "results/datasets/fashion_mnist_test.parquet",
    }


def test_what_a_job_is_told_is_a_recipe_that_the_trainer_takes():
    more = {
        "dropout": 0.5,
        "mixup": {},
        "component": {"part": "low", "radius": 4},
        "optimizer": "rmsprop",
    }
    told = jobs.identity(loaded(**more), "train_model", job(trained=NAME))
    assert (told["architecture"], told["mean"], told["std"]) == ("small_cnn", [0.0], [1.0])
    curves = told["recipe"].pop("curves")
    assert curves == {
        **CURVES,
        "radii": [4, 8, 12, 16],
        "train_radii": [],
        "every": 1,
        "strict": False,
        "scale": "maximum",
    }
    recipe = Recipe.of(told["recipe"])
    assert (recipe.seeds, recipe.dropout, recipe.optimizer) == (3, 0.5, "rmsprop")
    assert (recipe.mixup.alpha, recipe.mixup.per) == (0.5, "batch")
    assert (recipe.component.strict, recipe.component.scale) == (False, "maximum")


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 2},
        {"curves": {**CURVES, "every": 2}},
        {"curves": {**CURVES, "train_radii": [4]}},
        {"dropout": 0.5},
        {"mixup": {"per": "image"}},
        {"component": {"part": "high", "radius": 4}},
        {"augmentation": {"noise": 0.1}},
        {"architecture": "lenet"},
        {"mean": [0.3]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_each_key_identifies_the_job(change):
    before, after = (
        jobs.identity(loaded(**own), "train_model", job(trained=NAME)) for own in ({}, change)
    )
    assert before != after


def test_the_job_of_a_recipe_without_new_keys_is_told_what_it_always_was():
    told = jobs.identity(load.load(BASE, HOME), "train_model", job(trained="fashion_mnist_resnet8"))
    assert set(told) == {"recipe", "architecture", "mean", "std", "classes", "device", "seed"}
    assert set(told["recipe"]) == {
        *("epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "augmentation"),
        *("checkpoints", "trajectory"),
    }
    told = jobs.identity(load.load(BASE, HOME), "make_dataset", job(dataset="fashion_mnist"))
    assert "shuffle_labels" not in told


def own(config):
    return config["training"][NAME]


def without_source(config):
    config["datasets"]["few"] = {"loader": "parquet", "path": "some.parquet", "classes": 10}


def as_in_the_registry(config):
    config["training"]["fashion_mnist_resnet8"]["architecture"] = "small_cnn"


def mean_alone(config):
    config["training"]["fashion_mnist_resnet8"]["mean"] = [0.5]


def a_name_of_a_seed(config):
    config["training"][f"{NAME}_seed_2"] = {**RECIPE, "seeds": 1}


PGD = {"epsilon": "8/255"}
WRONG = {
    "architecture": ({"architecture": "smal_cnn"}, "mean 'small_cnn'"),
    "dataset": ({"dataset": "fw"}, f"training.{NAME}.dataset names 'fw', .*"),
    "shape": (without_source, f"training.{NAME}.architecture needs a dataset whose images have a"),
    "registered": (as_in_the_registry, "training.fashion_mnist_resnet8 has an 'architecture' of "),
    "mean alone": (mean_alone, "training.fashion_mnist_resnet8 has a 'mean' or 'std', which"),
    "channels": ({"mean": [0.5, 0.5]}, f"training.{NAME}.mean and .std need one number for each "),
    "scale": ({"std": [80]}, f"training.{NAME}.std is that of pixels in .*, got .80.; divide"),
    "seeds": ({"seeds": 0}, "seeds.*at least 1"),
    "taken name": (a_name_of_a_seed, f"training.{NAME}.seeds names 'seed_2', whose model would be"),
    "curves": ({"curves": {}}, "'dataset'"),
    "curves on nothing": (
        {"curves": {"dataset": "gone"}},
        f"training.{NAME}.curves.dataset names 'gone'",
    ),
    "curves on training images": (
        {"curves": {"dataset": "fashion_mnist_train"}},
        f"training.{NAME}.dataset is 'few', which has images of 'fashion_mnist_train'",
    ),
    "too many": (
        {"curves": {**CURVES, "images": 10_001}},
        f"training.{NAME}.curves.images must be from 1 to 10000, the images of 'fashion_mnist_test",
    ),
    "too many of the training": (
        {"curves": {**CURVES, "train_images": 1001}},
        f"training.{NAME}.curves.train_images must be from 1 to 1000, the images of 'few', got 1",
    ),
    "dropout": ({"dropout": 1}, "dropout"),
    "mixup": ({"mixup": {"alpha": 0}}, "mixup.alpha"),
    "component": ({"component": {"part": "low"}}, "radius"),
    "two sizes of a component": (
        {"component": {"part": "low", "radius": 4, "bandwidth": 3}},
        f"training.{NAME}.component must have either .* got radius and bandwidth",
    ),
    "an even square": (
        {"component": {"part": "low", "bandwidth": 4}},
        f"training.{NAME}.component.bandwidth must be odd, .* got 4",
    ),
    "a square with a border": (
        {"component": {"part": "low", "bandwidth": 3, "strict": True}},
        f"training.{NAME}.component.bandwidth must be odd, and without 'strict'",
    ),
    "noisy component": (
        {"component": {"part": "low", "radius": 4}, "augmentation": {"noise": 0.1}},
        f"training.{NAME} must have either 'component' or 'noise'",
    ),
    "noise": ({"augmentation": {"noise": 2}}, "augmentation.noise.* must be at most 1"),
    "adversarial mixup": (
        {"mixup": {}, "adversarial": PGD},
        f"training.{NAME} must have either 'adversarial' or 'mixup', since",
    ),
    "adversarial component": (
        {"component": {"part": "low", "radius": 4}, "adversarial": PGD},
        f"training.{NAME} must have either 'adversarial' or 'component', since",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_told_in_one_sentence(case):
    change, message = WRONG[case]
    with pytest.raises(UserError, match=message):
        loaded(change) if callable(change) else loaded(**change)


def test_the_schema_and_the_library_name_the_same_choices():
    properties = SCHEMA["recipe"]["properties"]
    for key, names in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("loss", LOSSES)):
        assert set(properties[key]["enum"]) == set(names)


def test_shuffled_labels_are_part_of_a_dataset_and_no_gate():
    run = loaded()
    told = jobs.identity(run, "make_dataset", job(dataset="shuffled"))
    assert told.pop("shuffle_labels") is True
    assert told == jobs.identity(run, "make_dataset", job(dataset="few"))
    # The same images: neither may test a network that is trained on the other.
    assert run.datasets["shuffled"].overlaps(run.datasets["few"])

    def gated(**entry):
        config = copy.deepcopy(BASE)
        config["datasets"]["fashion_mnist_test"] |= entry
        return load.load(config, HOME).gates("fashion_mnist_resnet8")

    assert gated() == ["fashion_mnist_test"]
    assert gated(shuffle_labels=False) == ["fashion_mnist_test"]
    assert gated(shuffle_labels=True) == []


def test_the_plan_counts_all_networks_and_their_curves():
    def passes(**change):
        (row,) = [
            row
            for row in cost.costs(loaded(**change))
            if (row.model, row.inputs) == (NAME, "training")
        ]
        return row.training_forwards

    # 100 test images with eight components, 50 training images without, at 0 and after 5 epochs.
    trained, curves = cost.GRADIENT * 5 * 1000, (100 * 9 + 50) * 6
    assert passes() == 3 * (trained + curves)
    assert passes(seeds=1) == trained + curves
    fewer = {**CURVES, "every": 2, "radii": [4], "train_radii": [4, 8]}
    assert passes(seeds=1, curves=fewer) == trained + (100 * 3 + 50 * 5) * 4
