"""The study as configured: networks, checkpoints, perturbations, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bandlimit.errors import UserError
from bandlimit.plan import catalogue, jobs, load

HOME = Path(__file__).parents[3]
BASE = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
MAIN = "fashion_mnist_resnet8"


def loaded(change=lambda config: None):
    config = copy.deepcopy(BASE)
    change(config)
    return load.load(config, HOME)


def test_networks_are_told_apart_by_what_they_are():
    (e,) = loaded().studies["perturbation_spectra"].experiments
    found = {n.name: (n.batchnorm, n.training, n.loss, tuple(n.checkpoints)) for n in e.networks}
    grid = ("initial", "one_epoch", "end")
    assert found[MAIN] == (True, "natural", "cross_entropy", grid)
    assert found[f"{MAIN}_no_batchnorm"] == (False, "natural", "cross_entropy", grid)
    assert found[f"{MAIN}_adversarial"] == (True, "adversarial", "cross_entropy", grid)
    assert found[f"{MAIN}_mse"] == (True, "natural", "mse", ("end",))
    assert found["fashion_mnist_two_layer"][:3] == (False, "natural", "mse")
    assert e.networks[0].name == e.model
    # Those that are compared were trained alike.
    recipes = {n.name: n.recipe for n in e.networks}
    assert recipes[f"{MAIN}_b"] == recipes[f"{MAIN}_adversarial"] != recipes[MAIN]
    plain = f"{MAIN}_no_batchnorm"
    assert recipes[plain] == recipes[f"{plain}_adversarial"]
    assert recipes[f"{MAIN}_b"] | {"learning_rate": 0.05} == recipes[f"{MAIN}_mse"]


def test_what_is_recorded_along_the_way_sets_no_networks_apart():
    def recorded(config):
        recipe = config["training"][f"{MAIN}_b"]
        config["training"][f"{MAIN}_b"] = {**recipe, "responses": {"images": 100}}

    (e,) = loaded(recorded).studies["perturbation_spectra"].experiments
    recipes = {n.name: n.recipe for n in e.networks}
    assert recipes[f"{MAIN}_b"] == recipes[f"{MAIN}_adversarial"]


def test_a_checkpoint_is_a_model_that_its_training_makes():
    run = loaded()
    made = run.models[f"{MAIN}_initial"]
    assert (made.source, made.base) == ("checkpoint", MAIN)
    assert run.gates(made.name) == [] and run.gates(MAIN) == ["fashion_mnist_test"]
    by_model = {name: one for one in jobs.trainings(run) for name in one.models}
    assert by_model[MAIN].checkpoints == ("initial", "one_epoch") and by_model[MAIN].trajectory
    assert by_model[f"{MAIN}_b"].outputs() == {}
    assert (
        by_model[MAIN].outputs()["checkpoints"][0] == "results/models/{trained}_initial.safetensors"
    )


def test_each_model_of_the_grid_is_measured_once():
    run = loaded()
    module = catalogue.module("perturbation_spectra")
    names = [path.split("/")[3] for path in module.files(run, module.SPECTRA)]
    assert len(names) == len(set(names)) == 15
    # The order of files and of what they stand for is one.
    (told,) = module._tables(run)["experiments"]
    said = [
        network["name"] if checkpoint == "end" else f"{network['name']}_{checkpoint}"
        for network in told["networks"]
        for checkpoint in network["checkpoints"]
    ]
    assert names == said


def test_a_network_is_perturbed_along_its_own_loss():
    run = loaded()

    def identity(model):
        wildcards = SimpleNamespace(dataset="fashion_mnist", model=model, shard="1of1")
        return jobs.identity(run, "measure_spectra", wildcards)["perturbations"]["pgd_linf"]

    assert identity(MAIN)["loss"] == "cross_entropy" and identity(f"{MAIN}_mse")["loss"] == "mse"
    # Without an own bound, that of the experiment.
    assert identity(MAIN)["epsilon"] == 16 / 255


def section(**changes):
    def change(config):
        config["perturbation_spectra"] |= changes

    return change


def experiment(**changes):
    def change(config):
        config["perturbation_spectra"]["experiments"]["fashion_mnist"] |= changes

    return change


def recipe(**changes):
    def change(config):
        config["training"][MAIN] |= changes

    return change


def twice(config):
    """Measure one network in two experiments on one dataset."""
    config["experiments"]["again"] = {
        **config["experiments"]["fashion_mnist"],
        "model": f"{MAIN}_b",
    }
    config["perturbation_spectra"]["experiments"]["again"] = {"radius": 8}


REFUSED = {
    "no such network": (experiment(networks=["fashion_mnist_resnet9"]), "fashion_mnist_resnet"),
    "another size": (
        experiment(networks=["imagenet_efficientnet_lite0"]),
        r"takes images of shape \(3, 224, 224\)",
    ),
    "a radius apart": (experiment(radius=5), "radius must be one of its radii"),
    "filtered elsewhere": (
        experiment(filtered=["imagenet_efficientnet_lite0"]),
        r"fashion_mnist\.filtered .*imagenet_efficientnet_lite0",
    ),
    "a checkpoint as a network": (
        experiment(networks=[f"{MAIN}_initial"]),
        rf"fashion_mnist\.networks .*'{MAIN}_initial'",
    ),
    "a network in two experiments": (twice, f"'{MAIN}_b' on 'fashion_mnist' is given by"),
    "a late start": (
        recipe(checkpoints={"initial": 1}),
        r"checkpoints\.initial must be 0 for the study perturbation_spectra.* got 1",
    ),
    "half an epoch": (
        recipe(checkpoints={"one_epoch": 0.5}),
        r"checkpoints\.one_epoch must be 1 .* got 0.5",
    ),
    "half precision without a card": (
        lambda config: (
            config["training"][MAIN].update(mixed_precision=True),
            config.update(device="cpu"),
        ),
        "mixed_precision must be false where 'device' is 'cpu'",
    ),
    "no such attack": (section(low_pass={"attack": "pgd"}), "low_pass.attack"),
    "an attack in L2": (section(low_pass={"attack": "pgd_l2"}), "kind 'pgd_linf'"),
    "no length": (
        section(perturbations={"pgd_linf": {"kind": "pgd_linf"}, "fgm_l2": {"kind": "fgm_l2"}}),
        "fgm_l2.epsilon must be a number above 0, .* got None",
    ),
    "a checkpoint after the end": (
        recipe(checkpoints={"late": 11}),
        "at most the epochs, 10, got 11",
    ),
    "a checkpoint of a model's name": (
        recipe(checkpoints={"b": 1}),
        "there is a model of that name",
    ),
    "followed on what it is trained on": (
        recipe(trajectory={"dataset": "fashion_mnist_train"}),
        "which has images of 'fashion_mnist_train'",
    ),
    "followed on nothing": (recipe(trajectory={"dataset": "gone"}), "trajectory.dataset"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_in_one_sentence(change, message):
    with pytest.raises(UserError, match=message) as caught:
        loaded(change)
    assert "\n" not in str(caught.value)
