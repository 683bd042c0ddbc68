"""The study high_frequency as configured: networks, their places, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bandlimit.errors import UserError
from bandlimit.plan import catalogue, jobs, load

HOME = Path(__file__).parents[2]
BASE = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
STUDY = "high_frequency"
MAIN = "fashion_mnist_small"


def loaded(change=lambda config: None):
    config = copy.deepcopy(BASE)
    change(config)
    return load.load(config, HOME)


def learning(run):
    (found,) = run.studies[STUDY].experiments
    return found


def test_networks_are_told_apart_by_what_they_are():
    e = learning(loaded())
    networks = {network.name: network for network in e.networks()}
    assert e.vanilla.name == MAIN and not e.vanilla.batchnorm
    assert networks[f"{MAIN}_batchnorm"].batchnorm
    assert networks[f"{MAIN}_batchnorm"].architecture == e.vanilla.architecture == "small_cnn"
    assert networks[f"{MAIN}_low_4"].part == ("low", 4.0) and e.vanilla.part is None
    assert networks[f"{MAIN}_shuffled"].shuffled and not networks[f"{MAIN}_true"].shuffled
    assert e.vanilla.models() == [MAIN, *(f"{MAIN}_seed_{k}" for k in range(2, 6))]
    assert len(networks) == len(e.networks())
    assert [network.name for network in e.smoothed()] == [MAIN, f"{MAIN}_adversarial"]


def test_files_and_what_they_stand_for_are_in_one_order():
    run = loaded()
    module = catalogue.module(STUDY)
    (told,) = module.told(run)
    names = [network["name"] for network in told["networks"]]
    assert [path.split("/")[-1] for path in module.curve_files(run)] == [
        f"{name}.parquet" for name in names
    ]
    smoothed = [path.split("/")[3] for path in module.smoothed_files(run)]
    assert smoothed == [model for n in learning(run).smoothed() for model in n.models()]


def test_a_job_is_identified_by_what_it_is_asked():
    run = loaded()
    wildcards = SimpleNamespace(dataset="fashion_mnist_test", model=f"{MAIN}_seed_2", shard="1of1")
    assert jobs.identity(run, "evaluate_components", wildcards)["radii"] == [4, 7, 10, 14]
    asked = jobs.identity(run, "evaluate_smoothing", wildcards)
    assert asked["rhos"] == [0.1, 0.25, 0.5, 1] and asked["images"] == 200


def test_objects_are_detected_where_there_is_a_folder():
    assert loaded().studies[STUDY].detection is None

    def change(config):
        config[STUDY]["detection"] = {"folder": "coco", "images": 10}

    run = loaded(change)
    module = catalogue.module(STUDY)
    assert module.detection_files(run) == {
        "annotations": "coco/annotations/instances_val2017.json",
        "pictures": "coco/val2017",
    }
    parts = {
        name: jobs.identity(run, "detect_objects", SimpleNamespace(component=name))["part"]
        for name in ("full", "low")
    }
    # Another radius leaves whole images as they are.
    assert parts["full"] == {} and parts["low"]["radius"] == 128


def experiment(**changes):
    return lambda config: config[STUDY]["experiments"][MAIN].update(changes)


def recipe(name, **changes):
    return lambda config: config["training"][name].update(changes)


def detection(**changes):
    return lambda config: config[STUDY].update(detection=changes)


REFUSED = {
    "no such network": (
        experiment(heuristics=[f"{MAIN}_dropuot"]),
        rf"heuristics .*did you mean '{MAIN}_dropout'",
    ),
    "no curves": (
        experiment(architectures=["fashion_mnist_resnet8"]),
        "'curves' on 'fashion_mnist_test'; 'fashion_mnist_resnet8' has none",
    ),
    "whole images in the place of components": (
        experiment(components=[f"{MAIN}_dropout"]),
        "components must have networks trained on a component",
    ),
    "none in the place of BatchNorm": (
        experiment(batchnorm=[f"{MAIN}_low_4"]),
        "batchnorm must have networks with BatchNorm",
    ),
    "labels that are not shuffled": (
        experiment(labels={"true": f"{MAIN}_true", "shuffled": f"{MAIN}_dropout"}),
        "labels.shuffled must have networks of shuffled labels",
    ),
    "labels that are": (
        experiment(labels={"true": f"{MAIN}_shuffled", "shuffled": f"{MAIN}_shuffled"}),
        "labels.true must have networks of true labels",
    ),
    "labels without low frequencies": (
        experiment(labels={"true": MAIN, "shuffled": f"{MAIN}_shuffled"}),
        r"train_radii must have the least radius .* 4, got \[\]",
    ),
    "a natural network as robust": (
        experiment(robust=f"{MAIN}_dropout"),
        "robust must have networks trained on adversarial images",
    ),
    "other radii": (
        experiment(radii=[4, 9]),
        r"curves.radii must have all radii of .*\[4.0, 9.0\]",
    ),
    "a bound beyond pixels": (
        lambda config: config[STUDY]["smoothing"].update(epsilons=[3]),
        "high_frequency.smoothing.epsilons",
    ),
    "weights without a checksum": (
        detection(folder="coco", weights="own.pth"),
        "weights needs 'sha256' beside it",
    ),
    "a checksum without weights": (
        detection(folder="coco", sha256="0123456789"),
        "sha256 is that of 'weights'",
    ),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_in_one_sentence(change, message):
    with pytest.raises(UserError, match=message) as caught:
        loaded(change)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 900
