"""What a run takes, told from its configuration: forward passes, images, bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from bandlimit.attacks.adaptive.base import Target
from bandlimit.attacks.adaptive.catalogue import KINDS
from bandlimit.attacks.base import create
from bandlimit.attacks.catalogue import ATTACKS
from bandlimit.config.defenses import DefenseEntry
from bandlimit.defenses import catalogue
from bandlimit.defenses.base import DrawName
from bandlimit.models.classifier import Classifier
from bandlimit.plan import cost, load
from bandlimit.studies.high_frequency import components, smoothing
from bandlimit.studies.robustness.settings import AttackEntry

HOME = Path(__file__).parents[2]


def config():
    """Return the default configuration."""
    return yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))


class Counting(torch.nn.Module):
    """A linear network that counts the images it sees."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(64, 3)
        self.rows = 0

    def forward(self, u):
        self.rows += len(u)
        return self.linear(u.flatten(1))


def made(kind, **parameters):
    """Return a defence of a counting network."""
    classifier = Classifier(
        Counting(), mean=[0.5], std=[0.25], shape=(1, 8, 8), classes=3
    ).requires_grad_(False)
    return catalogue.create(
        kind,
        classifier,
        name=DrawName(1, "test", "images", "net"),
        radius=1.0,
        directions=3,
        other=classifier,
        **parameters,
    )


def entry_of(kind, **parameters):
    return DefenseEntry(name="d", kind=kind, parameters=parameters)


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_cost_of_each_attack_on_a_model_is_known(attack):
    parameters = {} if ATTACKS[attack].minimal else {"epsilons": [0.1, 0.2]}
    assert cost.per_image(attack, parameters) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_cost_of_each_attack_on_a_defence_is_known(kind):
    attack = AttackEntry("a", kind, ("d",), (0.1, 0.2), None, {})
    spent, sets = cost.adaptive_per_image(attack, entry_of("low_pass", cutoff=2), 1)
    assert (spent == 0) == (kind == "noise")
    assert sets >= 1


def test_a_fixed_attack_costs_as_much_for_each_epsilon():
    one, three = (cost.per_image("pgd", {"epsilons": [0.1] * count}) for count in (1, 3))
    assert three == 3 * one


FIXED, FRESH = ("post_averaging", {"draws": "fixed"}), ("post_averaging", {})


@pytest.mark.parametrize(
    ("defense", "passes", "parameters", "expected"),
    [
        # All 6K+1 samples of fixed directions are differentiated, whatever `samples` says.
        (FIXED, 19, {"samples": 2}, 19),
        (FIXED, 19, {}, 19),
        (FIXED, 19, {"samples": None}, 19),
        (FRESH, 19, {"samples": 2}, 2),
        (FRESH, 19, {"samples": None}, 19),
        (FRESH, 19, {"samples": 30}, 30),
        # A few samples of one-sided steps are as many outputs of the whole defence.
        (("post_averaging", {"sign": "increase"}), 10, {"samples": 2}, 20),
        (("noise", {"radius": 1}), 1, {"samples": 4}, 4),
        (("low_pass", {"cutoff": 2}), 1, {"samples": 4}, 1),
    ],
)
def test_the_passes_of_a_gradient_are_counted_as_they_are_made(
    defense, passes, parameters, expected
):
    kind, own = defense
    attack = AttackEntry("a", "eot_pgd", ("d",), (0.1, 0.2), None, parameters)
    spent, sets = cost.adaptive_per_image(attack, entry_of(kind, **own), passes)
    steps = create(KINDS, "eot_pgd").steps
    assert (spent, sets) == (cost.GRADIENT * steps * expected * 2, 2)

    # The same, counted.
    own = {key: value for key, value in own.items() if key != "radius"}
    target = made(kind, **own) if kind != "noise" else made(kind)
    images = torch.full((1, 1, 8, 8), 0.5)
    goal = Target(target, ("i",), images, torch.tensor([0]), 1, ("a", "d", "images", "net"))
    list(create(KINDS, "eot_pgd", **parameters).spend(goal, 0.1))
    assert target.classifier.network.rows == steps * expected


def test_all_samples_of_fixed_directions_are_counted_in_the_plan():
    """Also by AutoAttack, and judges that do not draw judge once."""
    said = config()
    run = load.load(said, HOME)
    rows = {(row.inputs, row.dataset): row for row in cost.costs(run)}
    passes = 6 * said["defenses"]["post_averaging_fixed"]["directions"] + 1
    images = said["robustness"]["experiments"]["fashion_mnist"]["images"]
    spent = said["robustness"]["attacks"]["exact_pgd"]
    one_step = rows["eot_one_step on post_averaging_fixed", "fashion_mnist"]
    assert one_step.attack_forwards == images * cost.GRADIENT * passes
    assert one_step.defense_forwards == images * passes
    exact = rows["exact_pgd on post_averaging_fixed", "fashion_mnist"]
    gradients = images * spent["steps"] * len(spent["epsilons"])
    assert exact.attack_forwards == cost.GRADIENT * gradients * passes
    averaged = rows["eot_one_step on post_averaging", "fashion_mnist"]
    assert averaged.attack_forwards == images * cost.GRADIENT * create(KINDS, "eot_pgd").samples
    assert averaged.defense_forwards == images * (6 * 15 + 1) * run.studies["robustness"].draws


def test_the_plan_counts_the_images_of_a_dataset_once():
    said = config()
    total = cost.report(load.load(said, HOME)).splitlines()[-1]
    # Those to train on are read as well: all of them, and three choices, one of them twice; and the
    # whole test set.
    images = said["datasets"]["fashion_mnist"]["images"] + 20 + 2 * 10_000 + 1600 + 2 * 1000
    images += 5000
    assert total.startswith(f"| **all** | | | {images:,} | ")


def by_inputs(run):
    return {(row.dataset, row.model, row.inputs): row for row in cost.costs(run)}


def test_an_experiment_that_is_not_averaged_costs_its_attacks():
    whole = load.load(config(), HOME)
    alone = config()
    del alone["bandlimiting"]
    for name, entry in alone["robustness"]["experiments"].items():
        # What the study that is gone would have told.
        averaging = next(e for e in whole.studies["bandlimiting"].experiments if e.name == name)
        entry |= {"radius": averaging.radius, "directions": averaging.directions}
    run = load.load(alone, HOME)
    before, after = by_inputs(whole), by_inputs(run)
    assert set(after) < set(before)
    for name, experiment in run.experiments.items():
        if name == "fashion_mnist_small":  # of a study without attacks of its own
            continue
        assert name in alone["robustness"]["experiments"]
        for inputs in experiment.inputs():
            key = (experiment.dataset, experiment.model, inputs)
            assert before[key].defense_forwards > 0 == after[key].defense_forwards
            assert after[key].attack_forwards == before[key].attack_forwards
            assert after[key].stored == before[key].stored
            del before[key], after[key]
    # Attacks on defences cost what they did.
    assert after == {key: before[key] for key in after} != {}


def test_a_run_without_attacks_on_defences_costs_the_rest():
    whole = by_inputs(load.load(config(), HOME))
    alone = config()
    del alone["robustness"]
    rows = by_inputs(load.load(alone, HOME))
    rest = {key: row for key, row in whole.items() if " on " not in key[2]}
    assert rows == rest != whole


INPUTS = ("components", "smoothed kernels")


def test_smoothed_kernels_and_components_are_counted_as_they_are_shown():
    said = config()
    asked = said["high_frequency"]
    own = asked["experiments"]["fashion_mnist_small"]
    own |= {"radii": [4], "images": 50}
    asked["smoothing"] = {"rhos": [0.5, 1], "epsilons": [0.03, 0.06], "images": 20, "steps": 3}
    rows = by_inputs(load.load(said, HOME))
    places = {inputs: [key for key in rows if key[2] == inputs] for inputs in INPUTS}
    # Five networks of a kind; components are shown to the natural ones alone.
    assert [len(places[inputs]) for inputs in INPUTS] == [5, 10]
    shown, smoothed = (
        {(rows[key].images, rows[key].attack_forwards, rows[key].defense_forwards) for key in own}
        for own in places.values()
    )
    gradients = 20 * 5 * 2 * (1 + 2 * 3)
    judged = 20 * 5 * (cost.GRADIENT + 2 + 3 * 2)
    assert smoothed == {(20, cost.GRADIENT * gradients, judged)}
    assert shown == {(50, 0, 50 * 11)}

    # The same, counted; a gradient is one pass forward, and any network stands for a smoothed one.
    model = Classifier(Counting(), mean=[0], std=[1], shape=(1, 8, 8), classes=3)
    batch = ([f"i{i}" for i in range(2)], torch.tensor([0, 1]), torch.rand((2, 1, 8, 8)))
    attacks = smoothing.Attacks([0.03, 0.06], 3, 0.5)
    names = {"seed": 0, "dataset": "d", "model_name": "m"}
    list(smoothing.evaluate(model, lambda *_: model, [batch], [0.5, 1], attacks, **names))
    assert model.network.rows == 2 * 5 * (2 * (1 + 2 * 3) + 1 + 2 + 3 * 2)
    model.network.rows = 0
    list(components.evaluate(model, [batch], [2]))
    assert model.network.rows == 2 * 11
