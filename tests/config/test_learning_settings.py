"""The study high_frequency as configured: networks, their places, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bandlimit.errors import UserError
from bandlimit.plan import catalogue, jobs, load
from bandlimit.studies import STUDIES

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


def experiment(**changes):
    return lambda config: config[STUDY]["experiments"][MAIN].update(changes)


def experiment_without(key):
    return lambda config: config[STUDY]["experiments"][MAIN].pop(key)


def recipe(name, **changes):
    return lambda config: config["training"][name].update(changes)


def curves(name, **changes):
    # YAML shares what has an anchor.
    return lambda config: config["training"][name].update(
        curves={**config["training"][name]["curves"], **changes}
    )


def component(name, **changes):
    return lambda config: config["training"][name]["component"].update(changes)


def detection(**changes):
    return lambda config: config[STUDY].update(detection=changes)


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
    assert asked["rhos"] == [0.1, 0.25, 0.5, 1] and asked["images"] == 192


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


def test_another_picture_detects_anew(tmp_path):
    pictures = tmp_path / "val2017"
    pictures.mkdir()

    def identities():
        run = loaded(detection(folder=str(tmp_path)))
        names = ("table_detection", "figure_detection")
        return [
            jobs.identity(run, "detect_objects", SimpleNamespace(component="full")),
            *(jobs.identity(run, f"{STUDY}_{name}") for name in names),
        ]

    before = identities()
    (pictures / "1.png").write_bytes(b"picture")
    for one, other in zip(before, identities(), strict=True):
        assert one["files"] != other["files"]
        assert {**one, "files": None} == {**other, "files": None}
    absent = jobs.identity(loaded(detection(folder="gone")), f"{STUDY}_table_detection")
    assert absent["files"] is None


def test_objects_are_detected_without_an_experiment():
    def alone(config):
        config["only"] = ["fashion_mnist"]
        config[STUDY]["detection"] = {"folder": "coco"}

    run = loaded(alone)
    assert run.studies[STUDY].experiments == ()
    made = [entry.artifact.name for entry in catalogue.of(run) if entry.study == STUDY]
    assert made == ["table_detection", "figure_detection"]
    assert catalogue.module(STUDY).facts(run, "fashion_mnist_test", MAIN) == {}

    def without(config):
        alone(config)
        del config[STUDY]["detection"]["folder"]

    assert STUDY not in loaded(without).studies

    def nothing_else(config):
        config.update({STUDY: {"detection": {"folder": "coco"}}})
        for study in STUDIES:
            if study == STUDY:
                continue
            del config[study]

    assert list(loaded(nothing_else).studies) == [STUDY]


READERS = ("table_2", "kernels", "figure_7", "figure_corollary_1", "component_tables")


def identified(run):
    return {name: jobs.identity(run, f"{STUDY}_{name}") for name in (*READERS, "tables")}


def test_a_table_is_identified_by_the_networks_that_it_reads():
    whole = identified(loaded())
    fewer = identified(loaded(experiment(optimizers=[f"{MAIN}_sgd"])))
    assert [name for name in whole if whole[name] != fewer[name]] == ["tables"]
    names = {
        name: [n["name"] for n in whole[name]["experiments"][0]["networks"]] for name in READERS
    }
    smoothed = [MAIN, f"{MAIN}_adversarial"]
    assert names["table_2"] == names["kernels"] == names["figure_7"] == smoothed
    assert names["figure_corollary_1"] == names["component_tables"] == [MAIN]


def test_tables_are_told_how_networks_were_trained():
    def change(config):
        config["training"][f"{MAIN}_dropout"].update(augmentation={"shift": 2, "flip": True})

    (e,) = catalogue.module(STUDY).told(loaded(change))
    networks = {network["name"]: network for network in e["networks"]}
    keys = ("learning_rate", "momentum", "weight_decay", "schedule", "loss")
    rmsprop = networks[f"{MAIN}_rmsprop"]
    assert [rmsprop[key] for key in keys] == [0.001, 0.99, 0, "constant", "cross_entropy"]
    dropout = networks[f"{MAIN}_dropout"]
    assert list(dropout["augmentation"].items()) == [("flip", True), ("shift", 2)]
    apart = ("mixup_per", "strict", "scale")
    assert [dropout[key] for key in apart] == [None, None, None]
    assert networks[f"{MAIN}_mixup"]["mixup_per"] == "batch"
    low = networks[f"{MAIN}_low_4"]
    assert [low[key] for key in apart] == [None, False, "maximum"]


ALL = [
    *("learning", "components", "wider", "batchnorm", "batch_sizes", "labels", "robust"),
    *("heuristic_batchnorm", "mixup", "dropout", "rho_1"),
]
LOW, HIGH = (f"{MAIN}_low_{{}}".format, f"{MAIN}_high_{{}}".format)
BATCHNORM = f"{MAIN}_batchnorm"


def has(change=lambda config: None):
    return catalogue.module(STUDY).facts(loaded(change), "fashion_mnist_test", MAIN)["has"]


def sizes(epochs, updates):
    return experiment(batch_sizes={"equal_epochs": epochs, "equal_updates": updates})


def without(*group):
    return [name for name in ALL if name not in group]


GROUPS = {
    "all": (lambda config: None, ALL),
    "no pair of one radius": (
        experiment(components=[LOW(4), LOW(7), HIGH(10)]),
        without("components"),
    ),
    "one low radius": (
        experiment(components=[LOW(4), HIGH(4)], batchnorm=[BATCHNORM, f"{BATCHNORM}_low_4"]),
        without("wider"),
    ),
    "no BatchNorm on low frequencies": (experiment(batchnorm=[BATCHNORM]), without("batchnorm")),
    "BatchNorm on one low part": (
        experiment(batchnorm=[f"{BATCHNORM}_low_4"]),
        without("batchnorm"),
    ),
    "BatchNorm on two": (
        experiment(batchnorm=[f"{BATCHNORM}_low_4", f"{BATCHNORM}_low_7"]),
        ALL,
    ),
    "BatchNorm on low parts that nothing else has": (
        experiment(
            components=[LOW(4), LOW(7), HIGH(4)],
            batchnorm=[f"{BATCHNORM}_low_4", f"{BATCHNORM}_low_10"],
        ),
        without("batchnorm"),
    ),
    "one batch size": (
        sizes([MAIN, f"{MAIN}_batch_25"], [MAIN, f"{MAIN}_sgd"]),
        without("batch_sizes"),
    ),
    "no labels": (experiment_without("labels"), without("labels")),
    "no robust": (experiment_without("robust"), without("robust")),
    "one heuristic": (
        experiment(heuristics=[f"{MAIN}_dropout"]),
        without("heuristic_batchnorm", "mixup"),
    ),
    "another heuristic": (
        experiment(heuristics=[f"{MAIN}_mixup"]),
        without("heuristic_batchnorm", "dropout"),
    ),
    "other weights": (
        lambda config: config[STUDY]["smoothing"].update(rhos=[0.5, 2]),
        without("rho_1"),
    ),
}


@pytest.mark.parametrize(("change", "expected"), GROUPS.values(), ids=GROUPS)
def test_claims_are_told_of_what_has_rows(change, expected):
    assert has(change) == expected


def test_batchnorm_of_a_network_that_has_it_anyway_is_no_heuristic():
    def change(config):
        config["training"][MAIN]["architecture"] = "small_cnn"

    assert set(ALL) - set(has(change)) == {"heuristic_batchnorm"}


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
    "components that are not measured": (
        curves(f"{MAIN}_low_4", train_radii=[7]),
        rf"training.{MAIN}_low_4.curves.train_radii must have the radius .* 4, got \[7\]",
    ),
    "components with another border": (
        component(f"{MAIN}_low_4", strict=True),
        rf"training.{MAIN}_low_4.curves.strict must be that of the component .*, true, got false",
    ),
    "components of another scale": (
        curves(f"{MAIN}_low_4", scale="none"),
        'curves.scale must be that of the component .*, "maximum", got "none"',
    ),
    "other test images": (
        curves(f"{MAIN}_lenet", images=100),
        rf"training.{MAIN}_lenet.curves.images must be that of '{MAIN}', .* 1024, got 100",
    ),
    "other training images": (
        curves(f"{MAIN}_batch_25", train_images=100),
        rf"training.{MAIN}_batch_25.curves.train_images must be that of '{MAIN}'",
    ),
    "another border": (
        curves(f"{MAIN}_dropout", strict=True),
        rf"training.{MAIN}_dropout.curves.strict must be that of '{MAIN}', .* false, got true",
    ),
    "another scale": (
        curves(f"{MAIN}_true", scale="none"),
        rf"training.{MAIN}_true.curves.scale must be that of '{MAIN}'",
    ),
    "labels that train longer": (
        recipe(f"{MAIN}_shuffled", epochs=51),
        rf"training.{MAIN}_shuffled.epochs must be that of '{MAIN}_true', .* 50, got 51",
    ),
    "labels on other training images": (
        curves(f"{MAIN}_shuffled", train_images=500),
        rf"training.{MAIN}_shuffled.curves.train_images must be that of '{MAIN}_true'",
    ),
    "no convolution": (
        recipe(MAIN, architecture="two_layer"),
        rf"experiments.{MAIN}.model must have a first convolution",
    ),
    "a robust network without convolution": (
        recipe(f"{MAIN}_adversarial", architecture="two_layer"),
        rf"{MAIN}.robust must have a first convolution, .*any architecture but 'two_layer'",
    ),
    "more images than there are": (
        experiment(images=10_001),
        rf"experiments.{MAIN}.images must be from 1 to 10000, .* got 10001",
    ),
    "more attacked images than there are": (
        lambda config: config[STUDY]["smoothing"].update(images=10_001),
        "high_frequency.smoothing.images must be from 1 to 10000, .* got 10001",
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
