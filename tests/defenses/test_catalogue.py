"""Defences by their kind: what a configuration may say, and what comes of it."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bandlimit.defenses import catalogue
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.catalogue import create
from bandlimit.defenses.kinds import PARAMETERS, REQUIRED
from bandlimit.defenses.post_averaging import PostAveraging, Squad
from bandlimit.defenses.transforms import Noise
from bandlimit.errors import UserError
from bandlimit.models import classifier

NAME = DrawName(seed=7, purpose="judge", dataset="noise", model="small")
EXPERIMENT = {"name": NAME, "radius": 2.0, "directions": 3}


@pytest.fixture(scope="module")
def model():
    class Linear(nn.Module):
        def forward(self, u):
            return u.flatten(1)[:, :4] * 3

    return classifier.Classifier(Linear(), mean=[0.5], std=[0.25], shape=(1, 8, 8), classes=4)


@pytest.fixture(scope="module")
def convolution():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return classifier.Classifier(network, mean=[0.5], std=[0.25], shape=(1, 8, 8), classes=4)


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("kind", PARAMETERS)
def test_each_kind_gives_a_defence(model, convolution, kind):
    needed = {
        "low_pass": {"cutoff": 2},
        "smoothed_kernels": {"rho": 1},
        "other_model": {"model": "another"},
        "python": {
            "source": f"{Path(__file__).parents[2]}/docs/own_defense/defense.py:RandomResize",
            "random": True,
        },
    }
    if kind == "python":
        needed[kind]["parameters"] = {"smallest": 5}
    under = convolution if kind == "smoothed_kernels" else model
    defense = create(kind, under, other=model, **EXPERIMENT, **needed.get(kind, {}))
    assert defense.bind(["a", "b"])(images(2)).shape == (2, 4)
    assert (defense.classes, defense.shape) == (4, (1, 8, 8))
    # Foolbox warns of a module in training mode.
    assert not defense.training


def test_the_lists_of_parameters_are_those_of_the_classes():
    given_by_create = {"self", "classifier", "name"}
    for kind, made in {**catalogue.PLAIN, "noise": Noise}.items():
        accepted = inspect.signature(made.__init__).parameters
        required = {name for name, p in accepted.items() if p.default is p.empty} - given_by_create
        assert PARAMETERS[kind] == set(accepted) - given_by_create, kind
        assert REQUIRED.get(kind, set()) == required - {"radius"}, kind
    switches = {
        *inspect.signature(Squad).parameters,
        *inspect.signature(PostAveraging).parameters,
    } - {"classifier", "name", "squads", "samples_per_pass", "radii"}
    assert PARAMETERS["post_averaging"] == switches


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("low_pas", {}, "no defence 'low_pas'.*did you mean 'low_pass'"),
        ("rounding", {"level": 3}, "no parameter 'level'.*did you mean 'levels'"),
        ("flip", {"pixels": 1}, "no parameter 'pixels'; allowed: none"),
        ("low_pass", {}, "'low_pass' needs the parameter 'cutoff'"),
        ("smoothed_kernels", {}, "'smoothed_kernels' needs the parameter 'rho'"),
        ("smoothed_kernels", {"rho": 1}, "the network has none"),
        ("smoothed_kernels", {"rho": 1, "normalise": True}, "did you mean 'normalize'"),
        ("post_averaging", {"draws": "frsh"}, "did you mean 'fresh'"),
        ("post_averaging", {"directions": 0}, ">= 1, got 0"),
    ],
)
def test_mistakes_are_one_sentence(model, kind, parameters, words):
    with pytest.raises(UserError, match=words):
        create(kind, model, **{**EXPERIMENT, **parameters})


def test_the_other_model_must_be_given(model):
    with pytest.raises(ValueError, match="other"):
        create("other_model", model, **EXPERIMENT, model="another")


def test_an_entry_overrides_the_experiment(model):
    (squad,) = create("post_averaging", model, **EXPERIMENT).squads
    assert (squad.radius, squad.directions) == (2.0, 3)
    (squad,) = create("post_averaging", model, **{**EXPERIMENT, "directions": 1}).squads
    assert (squad.radius, squad.directions) == (2.0, 1)
    assert create("noise", model, **{**EXPERIMENT, "radius": 0.5}).radius == 0.5


def test_an_attacker_sees_the_fixed_directions_of_the_judge_and_no_fresh_ones(model):
    attacker = DrawName(seed=7, purpose="attack", dataset="noise", model="small")

    def outputs(draws):
        entry = {**EXPERIMENT, "draws": draws}
        return [
            create("post_averaging", model, **{**entry, "name": name}).bind(["a", "b"])(images(2))
            for name in (NAME, attacker)
        ]

    assert torch.equal(*outputs("fixed"))
    assert not torch.equal(*outputs("fresh"))


def test_names_of_parameters_import_nothing_heavy():
    code = (
        "import sys, bandlimit.defenses.kinds; print(sorted({'torch', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
