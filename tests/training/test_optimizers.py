"""The optimizers of recipes, beside the classes of torch.optim."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bandlimit.training.optimizers import Optimizer, adam_update, sgd_update
from bandlimit.training.recipes import OPTIMIZERS, Recipe

ROOT = Path(__file__).parents[2]

THEIRS = {
    "sgd": lambda own, **rest: torch.optim.SGD(own, momentum=0.8, nesterov=True, **rest),
    "plain": lambda own, **rest: torch.optim.SGD(own, **rest),
    "adam": lambda own, **rest: torch.optim.Adam(own, betas=(0.8, 0.999), fused=True, **rest),
    "adagrad": torch.optim.Adagrad,
    "adadelta": lambda own, **rest: torch.optim.Adadelta(own, rho=0.8, **rest),
    "rmsprop": lambda own, **rest: torch.optim.RMSprop(own, alpha=0.8, **rest),
}


@pytest.mark.parametrize("name", THEIRS)
def test_updates_are_those_of_torch(name):
    draws = torch.Generator().manual_seed(0)
    shapes = [(3, 2, 5, 5), (7,)]
    start = [torch.randn(shape, generator=draws) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(own.clone()) for own in start] for _ in range(2))
    recipe = Recipe(
        epochs=1,
        batch_size=4,
        learning_rate=1.0,
        optimizer="sgd" if name == "plain" else name,
        momentum=0.0 if name == "plain" else 0.8,
        weight_decay=0.01,
    )
    own, other = Optimizer(recipe, ours), THEIRS[name](theirs, weight_decay=0.01)
    for rate in (0.1, 0.02, 0.3, 0.05):
        for one, two in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draws)
            two.grad = one.grad.clone()
        own.step(rate)
        other.param_groups[0]["lr"] = rate
        other.step()
        assert all(map(torch.equal, ours, theirs))
    assert not any(map(torch.equal, ours, start))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda own: adam_update(own, 0.1), lambda own: torch.optim.Adam(own, lr=0.1)),
        (
            lambda own: adam_update(own, 0.1, fused=True),
            lambda own: torch.optim.Adam(own, lr=0.1, fused=True),
        ),
        (lambda own: sgd_update(own, 0.1), lambda own: torch.optim.SGD(own, lr=0.1, fused=True)),
        (
            lambda own: sgd_update(own, 0.1, 0.9),
            lambda own: torch.optim.SGD(own, lr=0.1, momentum=0.9, fused=True),
        ),
    ],
    ids=["adam", "fused adam", "sgd", "sgd with momentum"],
)
def test_updates_without_a_recipe_are_those_of_torch(ours, theirs):
    draws = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draws, dtype=torch.float64) for shape in ((3, 50), (7,))]
    own, other = ([torch.nn.Parameter(one.clone()) for one in start] for _ in range(2))
    update, optimizer = ours(own), theirs(other)
    for _ in range(4):
        for one, two in zip(own, other, strict=True):
            one.grad = torch.randn(one.shape, generator=draws, dtype=torch.float64)
            two.grad = one.grad.clone()
        update()
        optimizer.step()
        assert all(map(torch.equal, own, other))
    assert not any(map(torch.equal, own, start))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_the_loss_does_not_reach_stays_and_misplaces_no_other(name):
    start = [torch.ones(2), torch.ones(2, 2), torch.ones(3)]
    own = [torch.nn.Parameter(one.clone()) for one in start]
    recipe = Recipe(epochs=1, batch_size=4, learning_rate=1.0, optimizer=name)
    optimizer = Optimizer(recipe, own)
    for _ in range(2):
        own[0].grad, own[2].grad = torch.ones(2), torch.ones(3)
        optimizer.step(0.1)
    moved = [not torch.equal(one, was) for one, was in zip(own, start, strict=True)]
    assert moved == [True, False, True]


def test_updates_come_without_the_compiler_of_pytorch():
    """Its import takes two seconds of each training."""
    program = (
        "import sys, torch\n"
        "from bandlimit.training import loop, optimizers\n"
        "from bandlimit.training.recipes import Recipe\n"
        "weight = torch.nn.Parameter(torch.ones(2))\n"
        "weight.grad = torch.ones(2)\n"
        f"for name in {OPTIMIZERS}:\n"
        "    recipe = Recipe(epochs=1, batch_size=4, learning_rate=0.1, optimizer=name)\n"
        "    loop.Optimizer(recipe, [weight]).step(0.1)\n"
        "for update in (optimizers.adam_update, optimizers.sgd_update):\n"
        "    update([weight], 0.1)()\n"
        "print({'torch._dynamo', 'sympy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
