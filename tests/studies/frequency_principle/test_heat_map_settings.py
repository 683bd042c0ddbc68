"""Heat maps as configured: networks, how they were trained, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bandlimit.errors import UserError
from bandlimit.plan import catalogue, cost, jobs, load
from bandlimit.studies.frequency_principle.image.artifacts import facts
from bandlimit.studies.frequency_principle.image.corruptions_figures import METHODS
from bandlimit.studies.frequency_principle.image.heat_maps_figures import LOOKS

HOME = Path(__file__).parents[3]
BASE = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
STUDY, MAIN = "frequency_principle", "fashion_mnist_small"


def loaded(change=lambda own, config: None):
    config = copy.deepcopy(BASE)
    change(config[STUDY]["experiments"][MAIN], config)
    return load.load(config, HOME)


def mapped(run):
    (found,) = run.studies[STUDY].experiments
    return found


def test_networks_are_told_apart_by_their_training():
    e = mapped(loaded())
    told = {n.name.removeprefix(f"{MAIN}_"): (n.training, n.batchnorm) for n in e.networks}
    assert told == {
        MAIN: ("natural", False),
        "gaussian": ("gaussian", False),
        "adversarial": ("adversarial", False),
        "batchnorm": ("natural", True),
        "batchnorm_gaussian": ("gaussian", True),
        "batchnorm_adversarial": ("adversarial", True),
    }
    assert len(e.models()) == sum(n.seeds for n in e.networks)
    assert f"{MAIN}_batchnorm_gaussian_seed_3" in e.models()


def test_a_network_is_compared_with_the_natural_one_of_its_recipe_alone():
    e = mapped(loaded())
    natural = {n.name: e.natural(n) for n in e.networks}
    assert natural[f"{MAIN}_adversarial"].name == MAIN
    assert natural[f"{MAIN}_batchnorm_gaussian"].name == f"{MAIN}_batchnorm"
    assert natural[MAIN] is natural[f"{MAIN}_batchnorm"] is None

    def recorded(own, config):
        # What is recorded along the way leaves the training as it is.
        config["training"][MAIN] = {**config["training"][MAIN], "responses": {"images": 100}}

    e = mapped(loaded(recorded))
    (own,) = (n for n in e.networks if n.name == f"{MAIN}_adversarial")
    assert e.natural(own).name == MAIN

    def longer(own, config):
        # YAML shares what has an anchor.
        recipes = config["training"]
        recipes[f"{MAIN}_adversarial"] = {**recipes[f"{MAIN}_adversarial"], "epochs": 9}

    e = mapped(loaded(longer))
    own = next(n for n in e.networks if n.name == f"{MAIN}_adversarial")
    assert e.natural(own) is None


def test_autoaugment_is_a_training_of_its_own_of_which_claims_on_others_do_not_ask():
    name = f"{MAIN}_autoaugment"

    def add(own, config):
        recipes = config["training"]
        gaussian = copy.deepcopy(recipes[f"{MAIN}_gaussian"])
        recipes[name] = {
            **gaussian,
            "architecture": "small_cnn_no_batchnorm",
            "augmentation": {"autoaugment": "cifar10"},
        }
        own["networks"] = [*own["networks"], name]

    run = loaded(add)
    e = mapped(run)
    network = next(n for n in e.networks if n.name == name)
    assert network.training == "autoaugment" and LOOKS[network.training].label == "AutoAugment"
    assert METHODS[network.training].label == "AutoAugment"
    assert "autoaugment" not in network.recipe["augmentation"]
    natural = e.natural(network)
    assert natural is not None and natural.name == MAIN
    has = facts(run, e.dataset, name)["has"]
    assert "waves" in has
    assert not {"waves_trained", "slope_up", "slope_down", "band_noise"} & {*has}


def test_claims_may_ask_each_network_for_what_it_is():
    run = loaded()
    asked = {e["model"]: e["has"] for e in jobs.claim_experiments(run) if "waves" in e["has"]}
    assert set(asked) == {n.name for n in mapped(run).networks}
    assert "waves_trained" not in asked[MAIN] and "waves_batchnorm" not in asked[MAIN]
    assert "waves_batchnorm" in asked[f"{MAIN}_batchnorm"]
    assert "waves_trained" in asked[f"{MAIN}_batchnorm_gaussian"]
    assert "waves_batchnorm" not in asked[f"{MAIN}_batchnorm_gaussian"]


def test_one_job_a_shard_has_all_networks_and_knows_what_it_shows():
    run = loaded(lambda own, config: config["experiments"][MAIN].update(shards=2))
    (entry,) = (e for e in catalogue.of(run) if e.rule == f"{STUDY}_heat_maps")
    folder = f"results/sensitivity/fashion_mnist_test/{MAIN}"
    assert entry.reads["sensitivity"] == [f"{folder}/{shard}.parquet" for shard in ("1of2", "2of2")]
    w = SimpleNamespace(dataset="fashion_mnist_test", model=MAIN, shard="1of2")
    told = jobs.identity(run, "map_sensitivity", w)
    assert told["networks"] == mapped(run).models()
    assert told["norms"] == sorted(told["norms"]) and mapped(run).norm in told["norms"]
    assert jobs.replay_kind("map_sensitivity") == "sampled"


def test_the_cost_counts_each_image_with_each_wave():
    def few(own, config):
        own |= {"images": 10, "stride": 4, "norm": 2, "norms": [2, 3]}

    found = [row for row in cost.costs(loaded(few)) if row.inputs == "waves"]
    assert len(found) == len(mapped(loaded()).models())
    # 7 x 7 frequencies with 0 among them and none that is its own opposite, in two norms.
    assert {row.defense_forwards for row in found} == {10 * (1 + 2 * 25)}
    assert {row.images for row in found} == {10}


def test_the_defaults_are_those_of_the_document():
    def bare(own, config):
        own.clear()

    e = mapped(loaded(bare))
    assert (e.norm, e.norms, e.stride, e.bandwidth, e.images) == (4, (4,), 1, None, None)
    assert [n.name for n in e.networks] == [MAIN]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"networks": ["imagenet_efficientnet_lite0"]}, "takes images of shape (3, 224, 224)"),
        ({"networks": ["nothing"]}, "frequency_principle.experiments.fashion_mnist_small.networks"),
        ({"norm": 0}, "norm' in the configuration must be greater than 0"),
        ({"norms": [-1]}, "must be greater than 0"),
        ({"stride": 15}, "stride must be from 1 to 14"),
        ({"stride": 3, "bandwidth": 5}, "stride must be from 1 to 2"),
        ({"bandwidth": 29}, "bandwidth must be an odd number from 1 to 27"),
        ({"bandwidth": 8}, "bandwidth must be an odd number from 1 to 27"),
        ({"images": 10_001}, "images must be from 1 to 10000"),
        ({"strides": 2}, "strides"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(changes, said):
    with pytest.raises(UserError) as caught:
        loaded(lambda own, config: own.update(changes))
    assert said in str(caught.value) and str(caught.value).count("\n") == 0


def test_without_an_experiment_there_is_no_heat_map():
    def other(own, config):
        config["only"] = ["fashion_mnist"]

    run = loaded(other)
    assert STUDY not in run.studies or not run.studies[STUDY].experiments
