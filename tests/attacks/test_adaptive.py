from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from eagerpy.astensor import astensor
from foolbox import PyTorchModel
from foolbox.attacks import LinfPGD
from foolbox.criteria import Misclassification
from pyautoattack import AutoAttack

from bandlimit import keys
from bandlimit.attacks import base
from bandlimit.attacks.adaptive import autoattack, records
from bandlimit.attacks.adaptive.base import Spending, Trial
from bandlimit.attacks.adaptive.catalogue import KINDS
from bandlimit.attacks.adaptive.gradient import margin, negative_log_likelihood
from bandlimit.attacks.base import create
from bandlimit.defenses.base import log_mean_softmax
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models.batches import MicroBatches
from bandlimit.plan.code import reach

SHAPE = (1, 6, 6)
FEW = {
    "eot_pgd": {"steps": 8, "restarts": 2},
    "noise": {"draws": 2},
    "square": {"queries": 30},
    "autoattack": {"steps": 8, "queries": 10, "targets": 2},
    "carlini_wagner_l2": {
        "confidences": [0, 2],
        "binary_search_steps": 3,
        "steps": 20,
        "stepsize": 0.1,
        "initial_const": 0.1,
    },
    "fgsm": {},
    "pgd": {"steps": 8, "rel_stepsize": 0.3},
}
"""Settings of each attack that keep a test short."""
GRADIENT = [kind for kind in FEW if kind not in ("noise", "square")]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Defences


class Plain(torch.nn.Module):
    """A defence that only passes on a network's logits; it insists on the images it is bound to."""

    random = False

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.classes = network.classes
        self.eval()

    def bind(self, image_ids, draw=0):
        bound = type(self)(self.network)
        bound.image_ids, bound.draw = tuple(image_ids), draw
        return bound

    def surrogate(self, samples):
        return self

    def gradient_through_identity(self):
        raise UserError("there is no transform")

    def project(self, delta):
        return delta

    def forward(self, x):
        assert len(x) == len(self.image_ids)
        return self.network(x)


class Noisy(Plain):
    """The network at a random point near each image; the surrogate averages several."""

    random = True
    samples = 1
    seen: list[tuple[str, int]] = []

    def bind(self, image_ids, draw=0):
        bound = super().bind(image_ids, draw)
        bound.samples = self.samples
        return bound

    def surrogate(self, samples):
        few = Noisy(self.network)
        few.samples = samples or 1
        return few

    def forward(self, x):
        assert len(x) == len(self.image_ids)
        outputs = []
        for _ in range(self.samples):
            Noisy.seen += [(image_id, self.draw) for image_id in self.image_ids]
            noise = [
                torch.randn(x.shape[1:], generator=keys.generator(7, image_id, self.draw))
                for image_id in self.image_ids
            ]
            outputs.append(self.network(x + 0.02 * torch.stack(noise)))
            self.draw += 1
        # Image by image, or the last bits would depend on how many share the call.
        return torch.stack([log_mean_softmax(of_one) for of_one in torch.stack(outputs, dim=1)])


class Rounded(Plain):
    """Pixels rounded to a tenth, which has no gradient, or that of the identity."""

    through = False

    def bind(self, image_ids, draw=0):
        bound = super().bind(image_ids, draw)
        bound.through = self.through
        return bound

    def gradient_through_identity(self):
        changed = Rounded(self.network)
        changed.through = True
        return changed

    def forward(self, x):
        rounded = torch.round(10 * x) / 10
        return self.network(rounded + (x - x.detach()) if self.through else rounded)


class LowPass(Plain):
    """A network that sees the frequencies of at most 1 cycle in each direction only."""

    def project(self, delta):
        spectrum = torch.fft.fft2(delta)
        spectrum[..., 2:-1, :] = 0
        spectrum[..., :, 2:-1] = 0
        return torch.fft.ifft2(spectrum).real

    def forward(self, x):
        return self.network(self.project(x))


class Linear(torch.nn.Module):
    """Two classes, logits +-f / 2 with f(x) = w . (x - 1/2)."""

    classes = 2

    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", weight)
        self.eval()

    def forward(self, x):
        f = ((x.double() - 0.5) * self.weight.double()).flatten(1).sum(dim=1)
        return torch.stack([f / 2, -f / 2], dim=1).float()


class OneByOne(torch.nn.Module):
    """A small network whose logits can't depend on the batch: it sees one image at a time."""

    classes = 4

    def __init__(self):
        super().__init__()
        self.network = torch.nn.Sequential(
            torch.nn.Conv2d(1, 6, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Flatten(),
            torch.nn.Linear(6 * 36, self.classes),
        )
        generator = torch.Generator().manual_seed(5)
        for parameter in self.network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = noise / math.sqrt(parameter[0].numel())
            parameter.requires_grad_(False)
        self.network[3].bias.zero_()
        self.eval()

    def forward(self, x):
        return torch.cat([5 * self.network(x[i : i + 1] - 0.5) for i in range(len(x))])


def images_of(count, shape=SHAPE, seed=0):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


def predicted(network, images):
    with torch.no_grad():
        return network(images).argmax(dim=1)


NAMES = {
    "seed": 3,
    "dataset": "noise",
    "model_name": "small",
    "defense_name": "wall",
    "attack_name": "ram",
}


def run(defense, attack, images, labels=None, *, ids=None, size=None, epsilons=(), **names):
    """Run the driver; return all records as one table."""
    labels = predicted(defense.network, images) if labels is None else labels
    ids = [f"image {i}" for i in range(len(images))] if ids is None else ids
    size = size or len(images)
    batches = [
        (ids[i : i + size], labels[i : i + size], images[i : i + size])
        for i in range(0, len(images), size)
    ]
    return pa.concat_tables(
        records.generate(defense, attack, batches, epsilons=epsilons, **(NAMES | names))
    )


def few(kind, **parameters):
    return create(KINDS, kind, **(FEW[kind] | parameters))


def sizes_for(attack):
    return () if attack.minimal else (0.05, 0.3)


# Known answers on a linear model


@pytest.fixture(scope="module")
def linear():
    """A linear model, and images at known l_inf distances from its boundary."""
    weight = torch.randn((3, 8, 8), generator=torch.Generator().manual_seed(1))
    images = 0.45 + 0.1 * images_of(4, (3, 8, 8))
    wanted = torch.tensor([0.01, -0.02, 0.04, -0.05])
    f = ((images - 0.5) * weight).flatten(1).sum(dim=1)
    shift = (wanted * weight.abs().sum() - f) / weight.square().sum()
    images = images + shift[:, None, None, None] * weight
    f = ((images.double() - 0.5) * weight.double()).flatten(1).sum(dim=1).abs()
    linf = (f / weight.double().abs().sum()).numpy()
    return Plain(Linear(weight)), images, linf, (f / weight.double().norm()).numpy()


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("eot_pgd", {}),
        ("eot_pgd", {"loss": "margin", "restarts": 2}),
        ("fgsm", {}),
        ("autoattack", {"version": "custom", "attacks": ["apgd-ce"], "steps": 20}),
    ],
)
def test_gradient_attacks_reach_exactly_their_epsilon(linear, kind, parameters):
    defense, images, linf, _ = linear
    attack = create(KINDS, kind, **parameters)
    labels = predicted(defense.network, images)
    table = run(defense, attack, images, epsilons=(0.03, 0.07))
    found = torch.tensor(store.images_of(table))
    wrong = predicted(defense.network, found).numpy() != np.array(table["label"])
    reached = np.array(table["epsilon"]) > np.repeat(linf, len(table) // 4)
    assert wrong.tolist() == reached.tolist() and not wrong.all()
    assert np.array(table["label"])[:: len(table) // 4].tolist() == labels.tolist()
    np.testing.assert_allclose(table["linf"], table["epsilon"], atol=1e-6)


@pytest.mark.parametrize("kind", ["noise", "square"])
def test_blind_attacks_stay_within_epsilon_and_never_do_better(linear, kind):
    defense, images, linf, _ = linear
    more = {"square": {"queries": 200}}
    table = run(defense, few(kind, **more.get(kind, {})), images, epsilons=(0.009, 0.4))
    found = torch.tensor(store.images_of(table))
    wrong = predicted(defense.network, found).numpy() != np.array(table["label"])
    epsilon = np.array(table["epsilon"])
    assert np.all(np.array(table["linf"]) <= epsilon + 1e-6)
    assert not wrong[epsilon == 0.009].any()
    assert kind == "noise" or wrong[epsilon == 0.4].all()


def test_carlini_wagner_meets_distance_and_confidence(linear):
    defense, images, _, l2 = linear
    attack = create(KINDS, "carlini_wagner_l2", confidences=[0.5, 0.0], steps=150, stepsize=0.01)
    table = run(defense, attack, images)
    assert table["confidence"].to_pylist() == [0.0, 0.5] * 4
    assert table["epsilon"].null_count == 8
    found = torch.tensor(store.images_of(table))
    labels = torch.tensor(table["label"].to_pylist())
    margins = margin(defense.network(found), labels).numpy()
    confidence = np.array(table["confidence"])
    assert np.all(margins >= confidence - 1e-5)
    # f grows by |w| per unit of L2, so a confidence of c lies c / |w| further.
    exact = np.repeat(l2, 2) + confidence / float(defense.network.weight.norm())
    ratio = np.array(table["l2"]) / exact
    assert np.all(ratio > 0.999) and np.all(ratio < 1.05)


# EOT-PGD


class FoolboxFrom(LinfPGD):
    """Foolbox's PGD from a given start."""

    def __init__(self, start, **parameters):
        super().__init__(**parameters)
        self.start = start

    def get_random_start(self, x0, epsilon):
        return astensor(self.start)


@pytest.mark.parametrize("samples", [None, 1])
@pytest.mark.parametrize("rel_stepsize", [0.01 / 0.3, 0.25])
def test_eot_pgd_on_a_defence_that_does_not_draw_is_foolbox_pgd(samples, rel_stepsize):
    defense, images, epsilon = Plain(OneByOne()), images_of(3), 0.1
    attack = create(KINDS, "eot_pgd", samples=samples, steps=12, rel_stepsize=rel_stepsize)
    table = run(defense, attack, images, epsilons=(epsilon,))
    starts = [
        keys.generator(3, "adaptive start", "ram", "wall", "noise", "small", f"image {i}", 0)
        for i in range(3)
    ]
    unit = torch.stack([torch.rand(SHAPE, generator=generator) * 2 - 1 for generator in starts])
    theirs = FoolboxFrom(images + epsilon * unit, steps=12, rel_stepsize=rel_stepsize).run(
        PyTorchModel(defense.network, bounds=(0, 1)),
        images,
        Misclassification(predicted(defense.network, images)),
        epsilon=epsilon,
    )
    assert np.array_equal(store.images_of(table), theirs.numpy())
    assert table["steps"].to_pylist() == [12] * 3


@pytest.mark.parametrize("loss", ["nll", "margin"])
def test_losses_of_each_step_are_kept_and_grow(loss):
    defense, images = Plain(OneByOne()), images_of(3)
    table = run(defense, few("eot_pgd", loss=loss), images, epsilons=(0.3,))
    losses = np.array(table["losses"].to_pylist())
    assert losses.shape == (6, 8) and np.all(losses[:, -1] > losses[:, 0])
    assert table["restart"].to_pylist() == [0, 1] * 3
    assert (losses[:, -1] > 0).all() if loss == "margin" else (losses > 0).all()


def test_the_losses_are_those_they_are_called():
    outputs = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]]).log()
    labels = torch.tensor([0, 2])
    expected = -torch.tensor([0.5, 0.3]).log()
    torch.testing.assert_close(negative_log_likelihood(outputs, labels), expected)
    expected = torch.tensor([0.3 / 0.5, 0.6 / 0.3]).log()
    torch.testing.assert_close(margin(outputs, labels), expected)


def test_each_step_of_each_run_has_draws_of_its_own():
    Noisy.seen.clear()
    run(Noisy(OneByOne()), few("eot_pgd", samples=3), images_of(2), epsilons=(0.05, 0.1))
    # 2 images, 2 epsilons, 2 restarts, 8 steps, 3 samples.
    assert len(Noisy.seen) == len(set(Noisy.seen)) == 2 * 2 * 2 * 8 * 3


@pytest.mark.parametrize("kind", ["eot_pgd", "noise"])
def test_each_run_has_a_start_of_its_own(kind):
    """The network draws nothing: runs from one start would end at one point."""
    table = run(Plain(OneByOne()), few(kind), images_of(2), epsilons=(0.3,))
    assert table["restart"].to_pylist() == [0, 1, 0, 1]
    first, second, *_ = store.images_of(table)
    assert not np.array_equal(first, second)


def test_samples_are_averaged():
    seen = {}
    for samples in (1, 4):
        table = run(Noisy(OneByOne()), few("eot_pgd", samples=samples), images_of(2), epsilons=[0])
        losses = np.array(table["losses"].to_pylist())
        seen[samples] = losses.std(axis=1).mean()
    assert 0 < seen[4] < 0.8 * seen[1]


def test_a_gradient_through_the_identity_gets_past_rounding():
    defense, images = Rounded(OneByOne()), images_of(3)
    labels = predicted(defense.network, torch.round(10 * images) / 10)
    exact, identity = (
        run(defense, few("eot_pgd", gradient=gradient, restarts=1), images, labels, epsilons=(0.3,))
        for gradient in ("exact", "identity")
    )
    assert set(exact["status"].to_pylist()) == {"zero_gradient"}
    assert set(identity["status"].to_pylist()) == {"ok"}
    found = torch.tensor(store.images_of(identity))
    assert (predicted(defense.network, torch.round(10 * found) / 10) != labels).all()
    with pytest.raises(UserError, match="no transform"):
        run(Plain(OneByOne()), few("eot_pgd", gradient="identity"), images, epsilons=(0.3,))


def outside(defense, perturbation):
    """Return the share of a perturbation's energy that the defence filters out."""
    rest = perturbation - defense.project(perturbation)
    return (rest.square().sum() / perturbation.square().sum()).item()


def test_a_perturbation_held_to_the_band_has_no_energy_outside_before_clipping():
    defense = LowPass(OneByOne())
    images = torch.full((2, *SHAPE), 0.5)
    # Steps too small to meet epsilon or the box, so that nothing is clipped.
    attack = few("eot_pgd", band=True, rel_stepsize=0.02)
    table = run(defense, attack, images, torch.zeros(2).long(), epsilons=(0.4,))
    moved = torch.tensor(store.images_of(table)) - 0.5
    assert 0.01 < moved.abs().amax() < 0.4
    assert outside(defense, moved) < 1e-9


def test_clipping_puts_little_energy_back_outside_of_the_band():
    defense, images = LowPass(OneByOne()), images_of(4)
    labels = predicted(defense.network, defense.project(images))
    share = {}
    for band in (False, True):
        table = run(defense, few("eot_pgd", band=band), images, labels, epsilons=(0.1,))
        moved = torch.tensor(store.images_of(table)) - images.repeat_interleave(2, dim=0)
        share[band] = outside(defense, moved)
    assert 0 < share[True] < 0.1 < share[False]


def test_a_band_needs_a_defence_that_filters():
    with pytest.raises(UserError, match="'wall' lets every perturbation pass"):
        run(Plain(OneByOne()), few("eot_pgd", band=True), images_of(1), epsilons=(0.1,))


# What holds for every attack


@pytest.mark.parametrize("defense", [Plain, Noisy])
@pytest.mark.parametrize("kind", FEW)
def test_a_result_does_not_depend_on_companions_order_or_other_epsilons(kind, defense):
    defense, images, attack = defense(OneByOne()), images_of(3, seed=4), few(kind)
    if kind == "autoattack" and defense.random:
        attack = few(kind, version="rand", eot=2)
    labels = predicted(defense.network, images)
    labels[1] = (labels[1] + 1) % 4
    epsilons = sizes_for(attack)
    together = run(defense, attack, images, labels, epsilons=epsilons)
    alone = run(defense, attack, images, labels, size=1, epsilons=epsilons)
    assert together.equals(alone)
    ids = [f"image {i}" for i in (2, 1, 0)]
    back = run(defense, attack, images.flip(0), labels.flip(0), ids=ids, epsilons=epsilons)
    rows = np.arange(len(together)).reshape(3, -1)
    assert together.equals(back.take(rows[::-1].ravel()))
    if epsilons:
        only = run(defense, attack, images, labels, epsilons=epsilons[1:])
        half = rows.reshape(3, 2, -1)[:, 1].ravel()
        assert together.take(half).equals(only)


@pytest.mark.parametrize("kind", FEW)
def test_each_attack_fools_a_small_network(kind):
    defense, images = Plain(OneByOne()), images_of(4, seed=8)
    more = {"noise": {"draws": 40}, "square": {"queries": 300}}
    attack = few(kind, **more.get(kind, {}))
    table = run(defense, attack, images, epsilons=() if attack.minimal else (0.5,))
    found = torch.tensor(store.images_of(table))
    wrong = predicted(defense.network, found).numpy() != np.array(table["label"])
    assert wrong.any() if kind == "noise" else wrong.all()
    assert set(table["status"].to_pylist()) == {"ok"}


@pytest.mark.parametrize("kind", ["eot_pgd", "noise", "square", "autoattack", "pgd"])
@pytest.mark.parametrize(
    "change", ["seed", "dataset", "model_name", "defense_name", "attack_name", "image_id"]
)
def test_each_key_changes_the_draws(kind, change):
    defense, images = Plain(OneByOne()), images_of(1)
    attack = few(kind, **({"version": "rand", "steps": 2} if kind == "autoattack" else {}))
    other = {} if change == "image_id" else {change: 2 if change == "seed" else "other"}
    first = run(defense, attack, images, epsilons=(0.05,))
    ids = ["other"] if change == "image_id" else None
    second = run(defense, attack, images, ids=ids, epsilons=(0.05,), **other)
    assert not np.array_equal(store.images_of(first), store.images_of(second))


@pytest.mark.parametrize("kind", FEW)
def test_global_state_is_left_alone(kind):
    defense, attack = Plain(OneByOne()), few(kind)
    state, threads = torch.get_rng_state(), torch.get_num_threads()

    def trace(frame, event, argument):
        return None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(defense, attack, images_of(2), epsilons=sizes_for(attack))
        assert sys.gettrace() is trace
    finally:
        sys.settrace(before)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads


def test_noise_fills_the_box_or_its_corners():
    defense, images = Plain(OneByOne()), torch.full((2, *SHAPE), 0.5)
    for corner in (False, True):
        table = run(defense, few("noise", corner=corner, draws=40), images, epsilons=(0.1,))
        moved = (store.images_of(table) - 0.5) / 0.1
        assert len({image.tobytes() for image in moved}) == 80
        assert abs(moved.mean()) < 0.05
        assert abs((moved**2).mean() - (1 if corner else 1 / 3)) < 0.02


# Square and AutoAttack


def test_autoattack_is_that_of_the_package():
    # Of four images, epsilon breaks three.
    defense, images, epsilon = Plain(OneByOne()), images_of(4, seed=4), 0.2
    labels = predicted(defense.network, images)
    attack = few("autoattack", steps=100, queries=20, targets=1)
    found = store.images_of(run(defense, attack, images, epsilons=(epsilon,)))
    broken = 0
    for i in range(4):
        seed = keys.derive(3, "adaptive seed", "ram", "wall", "noise", "small", f"image {i}")
        with torch.random.fork_rng(devices=[]):
            suite = AutoAttack(defense.network, eps=epsilon, seed=seed)
            suite.verbose = False
            suite.apgd_targeted.n_target_classes = suite.fab.n_target_classes = 1
            suite.square.n_queries = 20
            theirs, _ = suite.run_standard_evaluation(images[i : i + 1], labels[i : i + 1])
        if torch.equal(theirs, images[i : i + 1]):
            assert predicted(defense.network, torch.tensor(found[i : i + 1])) == labels[i]
        else:
            assert np.array_equal(found[i], theirs[0].numpy())
            broken += 1
    assert broken == 3


def test_where_autoattack_finds_nothing_the_point_of_greatest_loss_is_kept():
    defense, images = Plain(OneByOne()), images_of(3, seed=4)
    right = predicted(defense.network, images)
    for labels in (right, (right + 1) % 4):
        attack = few("autoattack", version="rand", eot=1)
        table = run(defense, attack, images, labels, epsilons=(0.001,))
        found = torch.tensor(store.images_of(table))
        slope = base.loss_gradient(defense.network, images, labels)[1].sign()
        points = images, found, (images + 0.001 * slope).clamp(0, 1)
        with torch.no_grad():
            before, after, best = (
                negative_log_likelihood(defense.network(x), labels) for x in points
            )
        # At so small an epsilon the network is all but linear, and the corner all but the best.
        assert (after > before + 0.8 * (best - before)).all()


def test_of_several_runs_of_autopgd_the_point_of_greatest_loss_is_kept(monkeypatch):
    losses = iter((1.0, 3.0, 2.0))

    def run_once(self, x, y, x_init=None):
        loss = next(losses)
        return x + 0.001 * loss, torch.ones(1), torch.tensor([loss]), x

    monkeypatch.setattr(autoattack.APGDAttack, "attack_single_run", run_once)
    defense, images = Plain(OneByOne()), 0.9 * images_of(1, seed=4)
    attack = few("autoattack", version="custom", attacks=["apgd-ce"], restarts=3)
    table = run(defense, attack, images, epsilons=(0.01,))
    assert table["linf"].to_pylist() == pytest.approx([0.003], abs=1e-6)


def test_what_autoattack_lacks_it_does_not_add():
    defense, images = Plain(OneByOne()), images_of(2, seed=4)
    attack = few("autoattack", version="custom", attacks=["square"])
    table = run(defense, attack, images, epsilons=(0.001,))
    assert np.array_equal(store.images_of(table), images.numpy())


def test_square_attacks_what_is_mislabelled_already():
    defense, images = Plain(OneByOne()), images_of(3, seed=4)
    labels = (predicted(defense.network, images) + 1) % 4
    table = run(defense, few("square"), images, labels, epsilons=(0.01,))
    assert min(table["linf"].to_pylist()) > 0.009


def test_square_asks_no_more_than_it_may():
    defense, images = Plain(OneByOne()), images_of(2, seed=4)
    table = run(defense, few("square", queries=17), images, epsilons=(0.001,))
    assert table["steps"].to_pylist() == [17, 17]
    once = run(defense, few("square", queries=1), images, epsilons=(0.001,))
    assert once["steps"].to_pylist() == [1, 1]


def test_a_lone_image_does_not_pay_for_padding():
    passed = []

    class Counted(torch.nn.Module):
        def forward(self, u):
            passed.append(len(u))
            return u.flatten(1)[:, :4] * torch.tensor([1.0, 2.0, 3.0, 4.0])

    class Several(Plain):
        def forward(self, x):
            return self.network(x.repeat_interleave(70, dim=0)).unflatten(0, (-1, 70)).mean(dim=1)

    network = MicroBatches(Counted(), 32)
    network.classes = 4
    for defense, expected in ((Plain(network), 1), (Several(network), 24)):
        passed.clear()
        run(defense, few("square"), images_of(2), [0, 1], epsilons=(0.1,))
        # The probe of each image is at the old size.
        assert passed.count(32) == 2 * math.ceil((1 if expected == 1 else 70) / 32)
        assert set(passed) == {32, expected}
        assert network.size == 32


def test_autoattack_needs_enough_classes(linear):
    defense, images, _, _ = linear
    with pytest.raises(UserError, match="'apgd-t', whose loss needs 4 classes .* has 2"):
        run(defense, few("autoattack"), images, epsilons=(0.1,))


# Defences that can't be attacked


class Root(torch.nn.Module):
    """A smooth model, plus 0 whose gradient is NaN unless the first pixel is 0.5."""

    classes = 4

    def forward(self, x):
        first = x.flatten(1)[:, :1]
        gap = torch.where(first == 0.5, torch.ones_like(first), 0 * first)
        return (x.flatten(1)[:, 1:5] + first) ** 3 + 0 * torch.sqrt(gap)


class Unreadable(torch.nn.Module):
    """NaN, whose argmax is 0, where the first pixel is not 0.5."""

    classes = 4

    def forward(self, x):
        first = x.flatten(1)[:, :1]
        return torch.where(first == 0.5, (x.flatten(1)[:, 1:5] + first) ** 3, torch.nan)


class Detached(torch.nn.Module):
    """A model whose output has no gradient."""

    classes = 4

    def forward(self, x):
        return 10 * x.detach().flatten(1)[:, :4]


class Steps(torch.nn.Module):
    """A model whose outputs are rounded: the gradient is 0 everywhere."""

    classes = 4

    def forward(self, x):
        return torch.round(10 * x.flatten(1)[:, :4])


def certain(network):
    """Return images of which the network is far from another prediction, and their labels."""
    images = torch.full((2, *SHAPE), 0.5)
    images.flatten(1)[:, 0:5] = torch.tensor([0.5, 0.9, 0.1, 0.1, 0.1])
    return images, predicted(network, images)


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        *((kind, Root) for kind in GRADIENT if kind != "fgsm"),
        *((kind, Unreadable) for kind in (*GRADIENT, "square") if kind != "fgsm"),
    ],
)
def test_values_that_are_not_finite_never_read_as_robust(kind, network):
    # FGSM takes its one gradient at the clean image, where these are sound.
    defense, attack = Plain(network().eval()), few(kind)
    images, labels = certain(defense.network)
    table = run(defense, attack, images, labels, epsilons=() if attack.minimal else (0.001,))
    assert set(table["status"].to_pylist()) == {"nan_gradient"}
    assert np.isfinite(store.images_of(table)).all()


@pytest.mark.parametrize("network", [Detached, Steps])
@pytest.mark.parametrize("kind", GRADIENT)
def test_gradients_of_zero_never_read_as_robust(kind, network):
    defense, attack = Plain(network().eval()), few(kind)
    images, labels = certain(defense.network)
    table = run(defense, attack, images, labels, epsilons=() if attack.minimal else (0.001,))
    assert set(table["status"].to_pylist()) == {"zero_gradient"}


def test_attacks_without_gradients_do_not_mind_that_there_are_none():
    defense = Plain(Detached().eval())
    images, labels = certain(defense.network)
    for kind in ("noise", "square"):
        table = run(defense, few(kind), images, labels, epsilons=(0.5,))
        assert set(table["status"].to_pylist()) == {"ok"}
        if kind == "square":
            found = torch.tensor(store.images_of(table))
            assert (predicted(defense.network, found) != labels).all()


def test_an_attack_that_leaves_its_epsilon_is_stopped():
    class Cheat(Spending):
        name = "cheat"

        def spend(self, target, epsilon):
            none = torch.zeros(len(target.images))
            moved = (target.images + 1.1 * epsilon).clamp(0, 1)
            yield Trial(moved, none, none > 0, none > 0, none[:, None])

    with pytest.raises(ValueError, match="beyond the epsilon 0.1"):
        run(Plain(OneByOne()), Cheat(), 0.5 * images_of(1), epsilons=(0.1,))


# Records


@pytest.mark.parametrize("kind", FEW)
def test_records_are_what_they_say(kind, tmp_path):
    defense, images, attack = Plain(OneByOne()), images_of(3, seed=6), few(kind)
    images[0] = (images[0] > 0.5).float()
    labels = predicted(defense.network, images)
    table = run(defense, attack, images, epsilons=sizes_for(attack))
    assert table.schema.equals(records.schema(SHAPE))
    order = [
        (row["image_id"], row["epsilon"] or 0, row["confidence"] or 0, row["restart"])
        for row in table.drop_columns(["image"]).to_pylist()
    ]
    assert order == sorted(order) and len(set(order)) == len(order)
    assert table["confidence"].null_count == (0 if attack.minimal else len(table))
    store.write(tmp_path / "records.parquet", table)
    ids = [f"image {i}" for i in range(3)]
    clean = [(ids[:2], labels[:2], images[:2]), (ids[2:], labels[2:], images[2:])]
    assert records.recheck(tmp_path / "records.parquet", clean, size=2) == len(table)
    assert run(defense, attack, images, epsilons=sizes_for(attack)).equals(table)


TAMPERINGS = {
    "linf": (lambda value: value * 1.001, "linf"),
    "l2": (lambda value: value + 1e-6, "l2"),
    "status": (lambda value: "failed", "status"),
    "label": (lambda value: (value + 1) % 4, "label"),
    "epsilon": (lambda value: 0.01, "above its epsilon"),
    "image": (lambda value: value + 2, "box"),
    "image_id": (lambda value: "stranger", "stranger"),
}


@pytest.mark.parametrize("column", TAMPERINGS)
def test_recheck_names_the_first_record_that_does_not_hold(column, tmp_path):
    defense, images = Plain(OneByOne()), images_of(3)
    table = run(defense, few("fgsm"), images, epsilons=(0.2,))
    change, word = TAMPERINGS[column]
    place = table.schema.get_field_index(column)
    if column == "image":
        pictures = store.images_of(table).copy()
        pictures[1] = change(pictures[1])
        changed = store.image_column(pictures)
    else:
        values = table[column].to_pylist()
        values[1] = change(values[1])
        changed = pa.array(values, table.schema.field(place).type)
    store.write(
        tmp_path / "bad.parquet", table.set_column(place, table.schema.field(place), changed)
    )
    labels = predicted(defense.network, images)
    clean = [([f"image {i}" for i in range(3)], labels, images)]
    with pytest.raises(UserError, match=word):
        records.recheck(tmp_path / "bad.parquet", clean)


def test_recheck_refuses_another_table(tmp_path):
    store.write(tmp_path / "other.parquet", pa.table({"image_id": ["a"], "image": [1]}))
    with pytest.raises(UserError, match="holds no adversarial records of this kind"):
        records.recheck(tmp_path / "other.parquet", [])


# Mistakes


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("eot_pgdd", {}, "no attack 'eot_pgdd'.*did you mean 'eot_pgd'"),
        ("eot_pgd", {"step": 3}, "no parameter 'step'.*did you mean 'steps'"),
        ("eot_pgd", {"steps": 0}, "'steps'.*at least 1"),
        ("eot_pgd", {"samples": 0}, "'samples'.*at least 1"),
        ("eot_pgd", {"restarts": 1001}, "'restarts'.*at most 1000"),
        ("eot_pgd", {"loss": "nil"}, "'loss'.*did you mean 'nll'"),
        ("eot_pgd", {"gradient": "bpda"}, "'gradient'.*'exact', 'identity'"),
        ("eot_pgd", {"band": 1}, "'band'.*true or false"),
        ("eot_pgd", {"rel_stepsize": 0}, "'rel_stepsize'.*above 0"),
        ("noise", {"corner": "yes"}, "'corner'.*true or false"),
        ("noise", {"draws": 0}, "'draws'.*at least 1"),
        ("square", {"queries": 0}, "'queries'.*at least 1"),
        ("square", {"p_init": 2}, "'p_init'.*at most 1"),
        ("autoattack", {"version": "plus"}, "'version'.*'custom', 'rand', 'standard'"),
        ("autoattack", {"attacks": ["square"]}, "needed for 'custom'"),
        ("autoattack", {"version": "custom"}, "needed for 'custom'"),
        ("autoattack", {"version": "custom", "attacks": ["sqare"]}, "did you mean 'square'"),
        ("autoattack", {"eot": 0}, "'eot'.*at least 1"),
        ("carlini_wagner_l2", {"confidences": []}, "'confidences'.*list of numbers"),
        ("carlini_wagner_l2", {"confidences": [1, 1]}, "'confidences'.*each of them"),
        ("carlini_wagner_l2", {"confidences": [-1]}, "'confidence' .*above 0"),
        ("carlini_wagner_l2", {"confidence": 1}, "did you mean 'confidences'"),
        ("pgd", {"steps": True}, "'steps'.*an integer"),
    ],
)
def test_mistakes_are_told_in_a_sentence(kind, parameters, words):
    with pytest.raises(UserError, match=words):
        create(KINDS, kind, **parameters)


@pytest.mark.parametrize("epsilons", [(), (0.1, 0.1), (8,)])
def test_epsilons_are_checked_before_anything_runs(epsilons):
    with pytest.raises(UserError, match="epsilon|Epsilon"):
        records.generate(Plain(OneByOne()), few("pgd"), [], epsilons=epsilons, **NAMES)


def test_labels_are_checked():
    with pytest.raises(UserError, match="label of image 'image 0' is 4"):
        run(Plain(OneByOne()), few("fgsm"), images_of(1), torch.tensor([4]), epsilons=(0.1,))


def test_the_attacks_of_the_first_study_reach_no_defence():
    home = Path(__file__).parents[2]
    code = reach("scripts/attack.py", home)
    assert not [name for name in code if "defenses" in name]
    assert not {f"bandlimit/attacks/{name}.py" for name in ("adaptive", "autoattack")} & set(code)


def test_every_component_of_autoattack_runs():
    defense, images = Plain(OneByOne()), images_of(1)
    for name in autoattack.COMPONENTS:
        attack = few("autoattack", version="custom", attacks=[name], queries=300)
        table = run(defense, attack, images, epsilons=(0.5,))
        found = torch.tensor(store.images_of(table))
        assert predicted(defense.network, found) != predicted(defense.network, images), name
