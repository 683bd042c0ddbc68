"""Defences of the user's own: keyed draws, batches, gradients around what hides them."""

import random
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from bandlimit.defenses import turns
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.own import OwnDefense
from bandlimit.errors import UserError
from bandlimit.models.classifier import Classifier

IDS = [f"image {number}" for number in range(7)]

CODE = """
    import random
    import numpy as np
    import torch
    from torch import nn

    class Plain(nn.Module):
        def __init__(self, classifier, scale=1.0):
            super().__init__()
            self.classifier, self.scale = classifier, scale

        def forward(self, x):
            return self.scale * self.classifier(x)

    class Noisy(Plain):
        def forward(self, x):
            shift = torch.rand(x.shape) + np.random.rand() + random.random()
            return self.classifier((x + 0.1 * shift).clamp(0, 1))

    class Twice(Plain):
        def forward(self, x):
            first = self.classifier(x + 0.1 * torch.rand(x.shape))
            return first + self.classifier(x + 0.1 * torch.rand(x.shape))

    class Keyed(Plain):
        def forward(self, x, generators):
            noise = [torch.randn(x.shape[1:], generator=g) for g in generators]
            return self.classifier(x + 0.1 * torch.stack(noise))

    class Rounded(Plain):
        def forward(self, x):
            return self.classifier((x.detach() * 4).round() / 4)

    class Cropped(Plain):
        def forward(self, x):
            return self.classifier(torch.cat([x, x]))[: len(x)]

    class Mixing(Plain):
        def forward(self, x):
            return self.classifier(x - x.mean(dim=0))

    class Wrong(Plain):
        def forward(self, x):
            return self.classifier(x)[:, :2]

    class Infinite(Plain):
        def forward(self, x):
            return self.classifier(x) / 0

    class Failing(nn.Module):
        def __init__(self, classifier):
            raise ValueError("no")

    def function(classifier):
        return 3
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "own.py").write_text(textwrap.dedent(CODE))
    return tmp_path / "own.py"


@pytest.fixture(scope="module")
def model():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        network[1].weight.copy_(torch.randn(4, 16, generator=generator))
    found = Classifier(network, mean=[0.5], std=[0.25], shape=(1, 4, 4), classes=4)
    return found.eval().requires_grad_(False)


@pytest.fixture
def images():
    return torch.rand(7, 1, 4, 4, generator=torch.Generator().manual_seed(2))


def made(code, model, name, **more):
    draw = DrawName(seed=5, purpose="judging", dataset="noise", model="small")
    return OwnDefense(model, name=draw, source=f"{code}:{name}", **more)


def test_the_class_is_called_with_its_parameters(code, model, images):
    defense = made(code, model, "Plain", parameters={"scale": 3.0})
    assert torch.equal(defense(images), 3 * model(images))
    assert not defense.training and (defense.classes, defense.shape) == (4, (1, 4, 4))


@pytest.mark.parametrize("name", ["Noisy", "Twice", "Keyed"])
def test_a_draw_belongs_to_an_image_and_to_nothing_else(code, model, images, name):
    defense = made(code, model, name, random=True)
    whole = defense.bind(IDS)(images)
    order = [4, 0, 6, 2, 1, 5, 3]
    parts = [order[:2], order[2:3], order[3:]]
    for part in parts:
        again = defense.bind([IDS[i] for i in part])(images[part])
        torch.testing.assert_close(again, whole[part], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(defense.bind(IDS, draw=1)(images), whole)
    assert not torch.allclose(whole, made(code, model, "Plain")(images))


def test_two_calls_of_a_bound_defence_are_two_draws(code, model, images):
    bound = made(code, model, "Noisy", random=True).bind(IDS)
    first, second = bound(images), bound(images)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(
        second, made(code, model, "Noisy", random=True).bind(IDS, draw=1)(images)
    )


def test_the_global_generators_are_afterwards_as_before(code, model, images):
    before = turns.states()
    made(code, model, "Noisy", random=True).bind(IDS)(images)
    assert turns.same(before, turns.states())


def test_a_gradient_arrives_through_the_turns_of_all_images(code, model, images):
    x = images.clone().requires_grad_()
    defense = made(code, model, "Twice", random=True)
    (gradient,) = torch.autograd.grad(defense.bind(IDS)(x).sum(), x)
    wanted = model.network[1].weight.sum(dim=0).reshape(1, 4, 4) / model.std[0] * 2
    torch.testing.assert_close(gradient, wanted.expand_as(gradient))


def test_the_gradient_goes_around_what_hides_it(code, model, images):
    defense = made(code, model, "Rounded")
    x = images.clone().requires_grad_()
    assert not defense(x).requires_grad
    around = defense.gradient_through_identity()
    output = around(x)
    assert torch.equal(output.detach(), defense(images))
    (gradient,) = torch.autograd.grad(output.sum(), x)
    wanted = model.network[1].weight.sum(dim=0).reshape(1, 4, 4) / model.std[0]
    torch.testing.assert_close(gradient, wanted.expand_as(gradient))
    # The defence itself is left as it was.
    assert not defense(x).requires_grad


def test_around_it_goes_only_where_images_are_shown_as_they_came(code, model, images):
    with pytest.raises(UserError, match=r"through the identity needs .*gradient must be 'exact'"):
        made(code, model, "Cropped").gradient_through_identity()(images.requires_grad_())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Noisy", r"draws random numbers, .*set 'random: true'"),
        ("Mixing", r"other outputs when other images share the call"),
        ("Wrong", r"must return N x classes outputs, \(7, 4\) here, and it returned \(7, 2\)"),
        ("Infinite", r"numbers that are not finite"),
        ("Failing", r"can't be made .*ValueError: no"),
        ("function", r"must be a torch.nn.Module, got int"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(code, model, images, name, message):
    with pytest.raises(UserError, match=message):
        made(code, model, name)(images)


def test_an_error_in_one_turn_ends_all_and_reaches_the_caller():
    def work(number):
        if number == 1:
            raise KeyError("one")
        return turns.answer(torch.zeros(1, 2), lambda x: x)

    before = turns.states()
    with pytest.raises(KeyError, match="one"):
        turns.take(work, [1, 2, 3], lambda x: x)
    assert turns.same(before, turns.states())


def test_the_network_sees_the_images_of_all_turns_at_once():
    seen = []

    def network(x):
        seen.append(len(x))
        return 2 * x

    def work(number):
        drawn = torch.rand(()) + np.random.rand() + random.random()
        first = turns.answer(torch.full((1, 1), float(number)), network)
        # Only some ask again.
        return (turns.answer(first, network) if number % 2 else first) + 0 * drawn

    found = turns.take(work, [3, 4, 5, 6], network)
    assert [float(x) for x in found] == [0, 4, 4, 12]
    assert seen == [4, 2]
