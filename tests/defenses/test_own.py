"""Defences of the user's own: keyed draws, batches, gradients around what hides them."""

import random
import textwrap
import threading

import numpy as np
import pytest
import torch
from torch import nn

from bandlimit.defenses import turns
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.own import OwnDefense
from bandlimit.errors import UserError
from bandlimit.models.batches import MicroBatches
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

    class Private(Plain):
        def __init__(self, classifier):
            super().__init__(classifier)
            self.draws = torch.Generator()

        def forward(self, x):
            return self.classifier(x + 0.1 * torch.randn(x.shape, generator=self.draws))

    class Convolving(Plain):
        def __init__(self, classifier):
            super().__init__(classifier)
            generator = torch.Generator().manual_seed(3)
            first, second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)
            self.layers = nn.Sequential(first, nn.ReLU(), second)
            for weight in self.layers.parameters():
                weight.data = 0.2 * torch.randn(weight.shape, generator=generator)
            self.seen = []

        def forward(self, x):
            self.seen.append(len(x))
            return self.classifier(x + 0.1 * self.layers(x))

    class ConvolvingKeyed(Convolving):
        def forward(self, x, generators):
            noise = [torch.randn(x.shape[1:], generator=g) for g in generators]
            return super().forward(x + 0.1 * torch.stack(noise))

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
        ("Private", r"same draw other outputs each time, so it draws from a generator of its own"),
        ("Wrong", r"must return N x classes outputs, \(16, 4\) here, and it returned \(16, 2\)"),
        ("Infinite", r"numbers that are not finite"),
        ("Failing", r"can't be made .*ValueError: no"),
        ("function", r"must be a torch.nn.Module, got int"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(code, model, images, name, message):
    with pytest.raises(UserError, match=message):
        made(code, model, name)(images)


def test_a_class_that_is_not_there_is_told_beside_those_that_are(code, model):
    with pytest.raises(UserError, match=r"does not define it; allowed: .*'Mixing'") as told:
        made(code, model, "Mixng")
    assert "did you mean 'Mixing'?" in str(told.value)
    assert "'torch'" not in str(told.value), "what a file imports is no class of its own"


@pytest.fixture(scope="module")
def coloured():
    """Return a classifier of larger images in colour, whose own bits never vary."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
    with torch.no_grad():
        generator = torch.Generator().manual_seed(4)
        network[1].weight.copy_(torch.randn(10, 3 * 32 * 32, generator=generator))
    network.eval().requires_grad_(False)
    sizes = {"mean": [0.5] * 3, "std": [0.25] * 3, "shape": (3, 32, 32), "classes": 10}
    return Classifier(MicroBatches(network, 64), **sizes).eval().requires_grad_(False)


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("count", [7, 37])
def test_a_module_gives_equal_bits_however_images_share_calls(code, coloured, random, count):
    x = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(6))
    ids = [f"image {number}" for number in range(count)]
    defense = made(code, coloured, "ConvolvingKeyed" if random else "Convolving", random=random)

    def answered(rows):
        given = x[rows].clone().requires_grad_()
        output = defense.bind([ids[row] for row in rows])(given)
        (gradient,) = torch.autograd.grad(output[:, 1].sum(), given)
        return output.detach(), gradient

    whole = answered(list(range(count)))
    for part in ([0], [1, 2], [3, 4, 5, 6], list(range(5, count)), [6, 0, 3]):
        for found, wanted in zip(answered(part), whole, strict=True):
            assert torch.equal(found, wanted[part])
    assert set(defense.module.seen) == {16}


def test_a_module_runs_on_one_thread_and_the_number_of_all_stays(code, coloured):
    seen, within = [], torch.get_num_threads()
    defense = made(code, coloured, "Convolving")
    defense.module.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(3)
    try:
        defense(torch.rand(20, 3, 32, 32))
        started = []
        thread = threading.Thread(target=lambda: started.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (set(seen), torch.get_num_threads(), started) == ({1}, 3, [3])
    finally:
        torch.set_num_threads(within)


def test_the_gradient_in_pieces_is_that_of_the_module(code, coloured):
    x = torch.rand(19, 3, 32, 32, generator=torch.Generator().manual_seed(6)).requires_grad_()
    defense = made(code, coloured, "Convolving")
    (found,) = torch.autograd.grad(defense(x)[:, 1].sum(), x)
    (wanted,) = torch.autograd.grad(defense.module(x)[:, 1].sum(), x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert wanted.abs().max() > 0.1
    (around,) = torch.autograd.grad(defense.gradient_through_identity()(x)[:, 1].sum(), x)
    (plain,) = torch.autograd.grad(coloured(x)[:, 1].sum(), x)
    torch.testing.assert_close(around, plain)


def test_large_images_are_seen_one_by_one(code):
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 96 * 96, 4)).requires_grad_(False)
    sizes = {"mean": [0.5] * 3, "std": [0.25] * 3, "shape": (3, 96, 96), "classes": 4}
    defense = made(code, Classifier(network, **sizes).eval(), "Convolving")
    assert defense(torch.rand(3, 3, 96, 96)).shape == (3, 4)
    assert set(defense.module.seen) == {1}


def test_draws_on_a_card_are_kept_too(monkeypatch):
    state = [torch.tensor([1, 2], dtype=torch.uint8), torch.tensor([3], dtype=torch.uint8)]
    kept = {"now": state, "used": False}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: kept["used"])
    monkeypatch.setattr(
        torch.cuda, "get_rng_state_all", lambda: [one.clone() for one in kept["now"]]
    )
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda saved: kept.update(now=saved))
    unused = turns.states()
    kept["used"] = True
    before = turns.states()
    assert turns.same(unused, before) and turns.same(before, turns.states())
    kept["now"] = [state[0], state[1] + 1]
    assert not turns.same(before, turns.states())
    turns.restore(unused)
    assert not turns.same(before, turns.states())
    turns.restore(before)
    assert turns.same(before, turns.states())


def test_code_that_asks_again_after_its_end_is_left_as_well():
    def work(number):
        if number == 1:
            raise KeyError("one")
        for _ in range(3):
            try:
                turns.answer(torch.zeros(1, 2), lambda x: x)
            except RuntimeError:
                asked.append(number)
        return torch.zeros(1, 2)

    def caller():
        with pytest.raises(KeyError, match="one"):
            turns.take(work, [1, 2], lambda x: x)

    asked = []
    thread = threading.Thread(target=caller, daemon=True)
    thread.start()
    thread.join(timeout=20)
    assert not thread.is_alive() and asked == [0, 0, 0]


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
