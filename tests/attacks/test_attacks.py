from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch

from bandlimit import keys
from bandlimit.attacks import base, fixed, minimal
from bandlimit.attacks.base import create
from bandlimit.attacks.catalogue import ATTACKS
from bandlimit.attacks.records import generate, recheck, schema
from bandlimit.attacks.selection import select
from bandlimit.errors import UserError
from bandlimit.files import store

SHAPE = (3, 16, 16)
PIXELS = math.prod(SHAPE)
FEW = {
    "fgsm_minimal": {},
    "pgd_minimal": {"binary_search_steps": 4},
    "deepfool_l2": {},
    "carlini_wagner_l2": {
        "binary_search_steps": 3,
        "steps": 20,
        "stepsize": 0.1,
        "initial_const": 0.1,
    },
    "fgsm": {},
    "pgd": {"steps": 12},
    "deepfool_linf": {},
}
"""Settings of each attack that keep a test short."""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Frozen(torch.nn.Module):
    """A module in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.eval()


class OneByOne(Frozen):
    """A model whose logits can't depend on the batch, since it looks at images one at a time."""

    def __init__(self, network):
        super().__init__()
        self.network = network.eval()

    def forward(self, x):
        return torch.cat([self.network(x[i : i + 1]) for i in range(len(x))])


class Linear(Frozen):
    """Two classes, logits +-f / 2 with f(x) = w . (x - 1/2) + b, so that f is their difference."""

    def __init__(self, weight, bias=0.0):
        super().__init__()
        self.register_buffer("weight", weight)
        self.bias = bias

    def forward(self, x):
        # float64 inside: the closed forms are to be met closer than float32 sums allow.
        f = ((x.double() - 0.5) * self.weight.double()).flatten(1).sum(dim=1) + self.bias
        return torch.stack([f / 2, -f / 2], dim=1).float()


class Centre(torch.nn.Module):
    def forward(self, x):
        return x - 0.5


def conv_net(classes=4):
    network = torch.nn.Sequential(
        Centre(),
        torch.nn.Conv2d(1, 6, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(6 * 36, classes),
    )
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise / math.sqrt(parameter[0].numel())
        parameter.requires_grad_(False)
    network[4].bias.zero_()
    return OneByOne(network)


def images_of(count, shape, seed=0):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


def predicted(model, images):
    with torch.no_grad():
        return model(images).argmax(dim=1)


def records(model, attack, images, labels=None, *, ids=None, size=None, seed=3, epsilons=()):
    """Run the driver; return all records as one table."""
    labels = predicted(model, images) if labels is None else labels
    ids = [f"image {i}" for i in range(len(images))] if ids is None else ids
    size = size or len(images)
    batches = [
        (ids[i : i + size], labels[i : i + size], images[i : i + size])
        for i in range(0, len(images), size)
    ]
    return pa.concat_tables(
        generate(
            model,
            attack,
            batches,
            seed=seed,
            dataset="noise",
            model_name="small",
            epsilons=epsilons,
        )
    )


def epsilons_for(attack):
    return () if attack.minimal else (0.05, 0.3)


# Known answers on a linear model


@pytest.fixture(scope="module")
def linear():
    """A linear model with weights of different size, and images 0.004 to 0.1 from its boundary."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(SHAPE, generator=generator)
    model = Linear(weight)
    images = 0.4 + 0.2 * images_of(6, SHAPE)
    # Shift each image along w, so that |f| / |w|_1 is the distance wanted.
    wanted = torch.tensor([0.0044, -0.0113, 0.0197, -0.0203, 0.0504, -0.0996])
    f = ((images - 0.5) * weight).flatten(1).sum(dim=1)
    shift = (wanted * weight.abs().sum() - f) / weight.square().sum()
    images = (images + shift[:, None, None, None] * weight).clamp(0.15, 0.85)
    f = ((images.double() - 0.5) * weight.double()).flatten(1).sum(dim=1).abs()
    return (
        model,
        images,
        (f / weight.double().abs().sum()).tolist(),
        (f / weight.double().norm()).tolist(),
    )


def test_fgsm_minimal_meets_the_exact_distance_within_a_grid_step(linear):
    model, images, linf, _ = linear
    table = records(model, create(ATTACKS, "fgsm_minimal"), images)
    assert table["status"].to_pylist() == ["ok"] * 6
    for found, exact, steps in zip(
        table["linf"].to_pylist(), linf, table["steps"].to_pylist(), strict=True
    ):
        coarse = math.ceil(exact / 0.001)
        resolution = 0.001 if coarse > 20 else coarse * 0.001 / 20
        assert exact - 1e-6 <= found <= exact + resolution + 1e-6
        fine = math.ceil(exact / (coarse * 0.001) * 20) if coarse <= 20 else 0
        assert steps == 1 + coarse + fine
    assert min(linf) < 0.020 < max(linf)


def test_fgsm_minimal_stops_at_its_largest_epsilon(linear):
    model, images, linf, _ = linear
    table = records(model, create(ATTACKS, "fgsm_minimal", max_epsilon=0.03), images)
    expected = ["ok" if exact < 0.03 else "failed" for exact in linf]
    assert table["status"].to_pylist() == expected and "failed" in expected
    assert [s for s, e in zip(table["steps"].to_pylist(), expected, strict=True) if e != "ok"] == [
        31,
        31,
    ]


def test_pgd_minimal_meets_the_exact_distance_if_its_steps_cross_the_box(linear):
    model, images, linf, _ = linear
    table = records(model, create(ATTACKS, "pgd_minimal", steps=64), images)
    np.testing.assert_allclose(table["linf"].to_pylist(), linf, rtol=0, atol=2e-6)


def test_pgd_minimal_by_default_needs_nine_eighths_of_the_distance():
    # 40 steps of epsilon / 30 cross 4/3 of epsilon: who starts at u epsilon on the wrong side ends
    # max(0, u - 1/3) short, 1/9 in the mean over u uniform in [-1, 1], so 8/9 epsilon is reached.
    weight = torch.where(images_of(1, SHAPE, seed=2)[0] < 0.5, -1.0, 1.0)
    model = Linear(weight)
    images = 0.5 + torch.tensor([0.01, -0.03])[:, None, None, None] * weight
    table = records(model, create(ATTACKS, "pgd_minimal"), images)
    np.testing.assert_allclose(np.divide(table["linf"], [0.01, 0.03]), 9 / 8, rtol=0.03)


def test_deepfool_l2_meets_the_exact_distance(linear):
    model, images, _, l2 = linear
    table = records(model, create(ATTACKS, "deepfool_l2"), images)
    np.testing.assert_allclose(table["l2"].to_pylist(), 1.05 * np.array(l2), rtol=0, atol=1e-3)
    assert table["steps"].to_pylist() == [1] * 6


def test_deepfool_linf_meets_the_exact_distance(linear):
    model, images, linf, _ = linear
    table = records(model, create(ATTACKS, "deepfool_linf"), images)
    np.testing.assert_allclose(table["linf"].to_pylist(), 1.02 * np.array(linf), atol=2e-4)


@pytest.mark.parametrize("abort_early", [False, True])
def test_carlini_wagner_comes_near_the_exact_distance(linear, abort_early):
    model, images, _, l2 = linear
    attack = create(ATTACKS, "carlini_wagner_l2", steps=150, stepsize=0.01, abort_early=abort_early)
    table = records(model, attack, images[1:4])
    ratio = np.divide(table["l2"].to_pylist(), l2[1:4])
    assert np.all(ratio > 0.999) and np.all(ratio < 1.05)
    if not abort_early:
        assert table["steps"].to_pylist() == [5 * 150] * 3


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_fixed_attacks_succeed_exactly_beyond_the_distance(linear, name):
    model, images, linf, _ = linear
    table = records(model, create(ATTACKS, name), images, epsilons=(0.0, 0.03, 0.13))
    assert table["epsilon"].to_pylist() == [0.0, 0.03, 0.13] * 6
    success = np.array(table["success"]).reshape(6, 3)
    assert not success[:, 0].any() and success[:, 2].all()
    reach = 1 if name == "fgsm" else 8 / 9
    assert success[:, 1].tolist() == [exact < 0.03 * reach for exact in linf]
    assert table["steps"].to_pylist() == [1 if name == "fgsm" else 40] * 18


def test_fixed_pgd_equals_a_hand_written_loop():
    model, images, epsilon = conv_net(), images_of(3, (1, 6, 6)), 0.4
    labels = predicted(model, images)
    table = records(model, create(ATTACKS, "pgd", steps=30), images, epsilons=(epsilon,))
    assert table["success"].to_pylist() == [True] * 3
    for i in range(3):
        generator = keys.generator(3, "pgd start", "noise", "small", f"image {i}", 0)
        clean = images[i : i + 1]
        x = (clean + epsilon * (torch.rand((1, 6, 6), generator=generator) * 2 - 1)).clamp(0, 1)
        for _ in range(30):
            x.requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(x), labels[i : i + 1])
            (gradient,) = torch.autograd.grad(loss, x)
            x = x.detach() + epsilon * 0.1 * gradient.sign()
            x = (clean + (x - clean).clamp(-epsilon, epsilon)).clamp(0, 1)
        assert torch.equal(torch.tensor(store.images_of(table)[i]), x[0])


# What holds for every attack


@pytest.mark.parametrize(
    ("name", "parameters"),
    [*FEW.items(), ("carlini_wagner_l2", {"steps": 40, "stepsize": 0.05, "abort_early": True})],
)
def test_a_result_does_not_depend_on_companions_or_order(name, parameters):
    model, images = conv_net(), images_of(6, (1, 6, 6), seed=4)
    labels = predicted(model, images)
    labels[2] = (labels[2] + 1) % 4
    attack = create(ATTACKS, name, **parameters)
    epsilons = epsilons_for(attack)
    together = records(model, attack, images, labels, epsilons=epsilons)
    alone = records(model, attack, images, labels, size=1, epsilons=epsilons)
    uneven = records(model, attack, images, labels, size=4, epsilons=epsilons)
    ids = [f"image {i}" for i in range(6)]
    back = records(model, attack, images.flip(0), labels.flip(0), ids=ids[::-1], epsilons=epsilons)
    per_image = 1 if attack.minimal else 2
    order = np.arange(6 * per_image).reshape(6, per_image)[::-1].ravel()
    assert together.equals(alone) and together.equals(uneven)
    assert together.equals(back.take(order))
    assert together["success"].to_pylist().count(True) >= 3
    assert together["status"].to_pylist()[2 * per_image] == "misclassified"


@pytest.mark.parametrize("name", ATTACKS)
def test_records_are_what_they_say(name, tmp_path):
    model, images = conv_net(), images_of(5, (1, 6, 6), seed=6)
    images[0] = (images[0] > 0.5).float()
    labels = predicted(model, images)
    attack = create(ATTACKS, name, **FEW[name])
    table = records(model, attack, images, epsilons=epsilons_for(attack))
    assert table.schema.equals(schema((1, 6, 6)))
    assert table["epsilon"].null_count == (5 if attack.minimal else 0)
    found = store.images_of(table)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    path = tmp_path / "records.parquet"
    store.write(path, table)
    ids = [f"image {i}" for i in range(5)]
    clean = [(ids[:3], labels[:3], images[:3]), (ids[3:], labels[3:], images[3:])]
    assert recheck(path, model, clean, size=2) == len(table)
    assert records(model, attack, images, epsilons=epsilons_for(attack)).equals(table)


@pytest.mark.parametrize("name", ["pgd", "pgd_minimal"])
@pytest.mark.parametrize("change", ["seed", "dataset", "model_name", "image_id"])
def test_each_key_changes_the_start(name, change):
    model, images = conv_net(), images_of(1, (1, 6, 6))
    attack = create(ATTACKS, name, **FEW[name])
    key = {"seed": 1, "dataset": "a", "model_name": "b"}
    other = key | ({} if change == "image_id" else {change: 2 if change == "seed" else "c"})
    ids = (["i"], ["j" if change == "image_id" else "i"])
    first, second = (
        next(
            generate(
                model,
                attack,
                [(names, predicted(model, images), images)],
                epsilons=(0.4,),
                **keyed,
            )
        )
        for names, keyed in zip(ids, (key, other), strict=True)
    )
    assert not np.array_equal(store.images_of(first), store.images_of(second))


def test_starts_are_uniform_in_the_box():
    model, seen = conv_net(), []

    class Spy(base.FixedAttack):
        name = "spy"

        def perturb(self, model, images, labels, noise, epsilon):
            seen.extend(noise(i, draw) for i in range(len(images)) for draw in range(50))
            return base.Found(images, 0 * labels, labels < 0)

    records(model, Spy(), images_of(4, (1, 6, 6)), epsilons=(0.1,))
    values = torch.stack(seen)
    assert values.min() >= -1 and values.max() < 1
    assert abs(values.mean()) < 0.02 and abs(values.square().mean() - 1 / 3) < 0.01
    assert len({tuple(v.flatten().tolist()) for v in values}) == 200


@pytest.mark.parametrize("name", ATTACKS)
def test_global_generators_are_left_alone(name):
    model, images = conv_net(), images_of(2, (1, 6, 6))
    attack = create(ATTACKS, name, **FEW[name])
    state = torch.get_rng_state()
    records(model, attack, images, epsilons=epsilons_for(attack))
    assert torch.equal(torch.get_rng_state(), state)


# Models that can't be attacked


class Constant(Frozen):
    def forward(self, x):
        return torch.tensor([1.0, 0.0, -1.0]) + 0 * x.flatten(1).sum(dim=1, keepdim=True)


class Root(Frozen):
    """A smooth model, plus 0 whose gradient is NaN: everywhere, or unless the first pixel is 0.5.

    It is sqrt(0 * pixel): the chain rule multiplies infinity by 0.
    """

    def __init__(self, everywhere):
        super().__init__()
        self.linear = Linear(torch.linspace(-1, 1, 36).reshape(1, 6, 6), bias=1.0)
        self.everywhere = everywhere

    def forward(self, x):
        first = x.flatten(1)[:, :1]
        flat = 0 * first
        gap = flat if self.everywhere else torch.where(first == 0.5, 1.0, flat)
        # Cubed, so that no attack gets through in its first step.
        return self.linear(x) ** 3 + 0 * torch.sqrt(gap)


class Unreadable(Frozen):
    """A linear model that says class 1, and NaN (whose argmax is 0) off grey in the first pixel."""

    def __init__(self, limit):
        super().__init__()
        self.linear = Linear(torch.linspace(-1, 1, 36).reshape(1, 6, 6), bias=-1.0)
        self.limit = limit

    def forward(self, x):
        bad = (x.flatten(1)[:, :1] - 0.5).abs() > self.limit
        return torch.where(bad, torch.nan, self.linear(x))


@pytest.mark.parametrize("name", ATTACKS)
def test_a_constant_model_reads_zero_gradient(name):
    attack = create(ATTACKS, name, **FEW[name])
    table = records(Constant(), attack, images_of(3, (1, 6, 6)), epsilons=epsilons_for(attack))
    assert set(table["status"].to_pylist()) == {"zero_gradient"}
    assert not any(table["success"].to_pylist())
    assert set(table["l2"].to_pylist()) == {0.0}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_nan_gradient_at_the_clean_image_is_named(name):
    attack = create(ATTACKS, name, **FEW[name])
    images = torch.full((2, 1, 6, 6), 0.5)
    table = records(Root(everywhere=True), attack, images, epsilons=epsilons_for(attack))
    assert set(table["status"].to_pylist()) == {"nan_gradient"}
    assert set(table["steps"].to_pylist()) == {0}


@pytest.mark.parametrize("name", [name for name in ATTACKS if "fgsm" not in name])
def test_a_nan_gradient_on_the_way_is_named(name):
    # FGSM is left out: it takes its one gradient at the clean image. Fixed attacks only with an
    # epsilon too small to succeed.
    attack = create(ATTACKS, name, **FEW[name])
    model, images = Root(everywhere=False), torch.full((2, 1, 6, 6), 0.5)
    assert base.sound(base.loss_gradient(model, images, predicted(model, images))[1]).all()
    table = records(model, attack, images, epsilons=() if attack.minimal else (0.001,))
    assert table["status"].to_pylist() == ["nan_gradient"] * 2
    assert table["prediction_before"].equals(table["prediction_after"])


@pytest.mark.parametrize("name", ATTACKS)
def test_logits_that_are_not_finite_never_count_as_adversarial(name):
    attack = create(ATTACKS, name, **FEW[name])
    images = torch.full((2, 1, 6, 6), 0.5)
    epsilons = () if attack.minimal else (0.1,)
    clean = records(Unreadable(-1), attack, images, torch.ones(2).long(), epsilons=epsilons)
    later = records(Unreadable(1e-5), attack, images, epsilons=epsilons)
    assert clean["status"].to_pylist() == later["status"].to_pylist() == ["nan_gradient"] * 2


@pytest.mark.parametrize(
    ("kind", "status"), [(base.MinimalAttack, "nan_gradient"), (base.FixedAttack, "ok")]
)
def test_a_success_after_a_nan_counts_only_where_it_need_not_be_minimal(kind, status):
    class Shaken(kind):
        name = "shaken"

        def search(self, model, images, labels, noise):
            return base.Found(1 - images, 0 * labels, labels >= 0)

        def perturb(self, model, images, labels, noise, epsilon):
            return self.search(model, images, labels, noise)

    # f(1 - x) = -f(x), so each image found is adversarial.
    model, images = Linear(torch.linspace(-1, 1, 36).reshape(1, 6, 6)), images_of(3, (1, 6, 6))
    table = records(model, Shaken(), images, epsilons=() if kind is base.MinimalAttack else (1.0,))
    assert table["status"].to_pylist() == [status] * 3


def test_a_gradient_does_not_shrink_with_companions():
    model, images = conv_net(), images_of(5, (1, 6, 6))
    labels = predicted(model, images)
    _, together = base.loss_gradient(model, images, labels)
    _, alone = base.loss_gradient(model, images[:1], labels[:1])
    assert torch.equal(together[:1], alone)


def test_carlini_wagner_zeros_are_a_failure_even_if_misclassified():
    class BlackIsOther(Frozen):
        """Class 0 with no way out by gradient, but black is class 1."""

        def forward(self, x):
            total = x.flatten(1).sum(dim=1, keepdim=True)
            return torch.where(total < 1e-3, torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))

    class Sloped(BlackIsOther):
        def forward(self, x):
            return super().forward(x) + 1e-9 * x.flatten(1)[:, :2]

    attack = create(ATTACKS, "carlini_wagner_l2", **FEW["carlini_wagner_l2"])
    images = 0.5 + 0.1 * images_of(2, (1, 6, 6))
    assert predicted(Sloped(), torch.zeros(1, 1, 6, 6)).tolist() == [1]
    table = records(Sloped(), attack, images)
    assert table["status"].to_pylist() == ["failed"] * 2
    assert np.array_equal(store.images_of(table), images.numpy())


def test_an_image_that_is_predicted_wrong_is_not_attacked():
    model, images = conv_net(), images_of(2, (1, 6, 6))
    labels = (predicted(model, images) + 1) % 4
    table = records(model, create(ATTACKS, "fgsm"), images, labels, epsilons=(0.1, 0.2))
    assert table["status"].to_pylist() == ["misclassified"] * 4
    assert table["prediction_after"].equals(table["prediction_before"])
    assert np.array_equal(store.images_of(table), images.repeat_interleave(2, dim=0).numpy())


# Parts


def test_deepfool_in_passes_equals_one_long_run(monkeypatch):
    monkeypatch.setattr(minimal, "FIRST_BUDGET", 1)
    model, images = conv_net(), images_of(8, (1, 6, 6), seed=8)
    labels = predicted(model, images)

    def build(steps):
        return minimal._OrderedL2DeepFool(steps=steps, loss="crossentropy")

    passes = minimal._deepfool(build, 30, model, images, labels)
    whole = build(30).run(
        base.foolbox_model(model, images), images, minimal.Misclassification(labels)
    )
    assert torch.equal(passes.images, whole)
    # Three gradients a step; one image is done in the first pass, another needs more.
    assert passes.steps.min() == 3 and passes.steps.max() > 3


def test_ordered_deepfool_is_foolbox_deepfool_up_to_rounding():
    model, images = conv_net(), images_of(5, (1, 6, 6), seed=8)
    labels = minimal.Misclassification(predicted(model, images))
    for ours, theirs in (
        (minimal._OrderedL2DeepFool, minimal.L2DeepFoolAttack),
        (minimal._OrderedLinfDeepFool, minimal.LinfDeepFoolAttack),
    ):
        first, second = (
            kind(steps=5).run(base.foolbox_model(model, images), images, labels)
            for kind in (ours, theirs)
        )
        torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
        assert not torch.equal(first, images)


def search_pgd(distance, noise, **parameters):
    """Attack one image of an even linear model, `distance` from its boundary; return what is found.

    The weights are -1, so brighter pixels lead across.
    """
    model, image = Linear(-torch.ones(1, 4, 4)), torch.full((1, 1, 4, 4), 0.5 - distance)
    attack = create(ATTACKS, "pgd_minimal", **parameters)
    found = attack.search(model, image, torch.zeros(1).long(), noise)
    return float((found.images - image).abs().max()), int(found.steps)


def test_pgd_minimal_draws_a_fresh_start_each_round():
    draws = []

    def noise(i, draw):
        draws.append(draw)
        return torch.zeros(1, 4, 4)

    search_pgd(0.5, noise, binary_search_steps=6)
    # Epsilon 0.3, 0.45 and 0.675, then the bisections.
    assert draws == list(range(3 + 6))


def test_pgd_minimal_keeps_the_nearest_of_all_rounds():
    mixed = torch.tensor([[1.0], [-1.0]]).repeat(2, 4)[None]

    def noise(i, draw):
        # The first round reaches 0.02 from the middle; the second starts at 0.15, mixed in sign.
        return torch.zeros(1, 4, 4) if draw == 0 else mixed

    linf, _ = search_pgd(0.0113, noise, binary_search_steps=1)
    assert linf == pytest.approx(0.02, abs=1e-6)


def test_pgd_minimal_takes_a_step_before_it_looks():
    linf, steps = search_pgd(0.05, lambda i, draw: torch.ones(1, 4, 4), binary_search_steps=1)
    assert steps == 2 and linf == pytest.approx(0.15, abs=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 1000])
def test_ordered_sum(length):
    values = torch.arange(1.0, 2 * length + 1).reshape(2, length)
    assert torch.equal(base.ordered_sum(values), values.sum(dim=1))


def test_ordered_sum_has_the_same_bits_alone_in_a_batch_and_with_more_threads():
    values = images_of(3, (150528,)) - 0.3
    together = base.ordered_sum(values)
    torch.set_num_threads(2)
    assert torch.equal(together, torch.cat([base.ordered_sum(row[None]) for row in values]))


@pytest.mark.parametrize("threshold", [0.3, 0.2, 0.0007, 1.0, 3.0])
def test_the_epsilon_search_closes_in_on_a_threshold(threshold):
    search = minimal._EpsilonSearch(0.3, 20)
    while search.goes_on(search.epsilon >= threshold):
        pass
    assert threshold <= search.good <= threshold + 0.3 * 1.5**6 / 2**20
    assert search.bisections == 21


def test_the_epsilon_search_gives_up():
    search = minimal._EpsilonSearch(0.3, 20)
    while search.goes_on(False):
        pass
    assert search.rounds == 20 and math.isinf(search.good)


def test_arithmetic_settings_are_put_back():
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with base.exact_arithmetic():
            assert not torch.backends.cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before[1])
    assert torch.backends.cudnn.allow_tf32 == before[0]


class Fickle(Frozen):
    """A model of one gradient direction that changes its mind with each call."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        f = (x - 0.5).flatten(1).sum(dim=1) * 0.01 + (1 if self.calls < 4 else -1)
        return torch.stack([f, -f], dim=1)


def test_a_model_that_changes_its_mind_makes_no_clean_image_adversarial():
    images = torch.full((1, 1, 2, 2), 0.5)
    table = records(Fickle(), create(ATTACKS, "fgsm"), images, torch.tensor([0]), epsilons=(0.0,))
    assert table["success"].to_pylist() == [False]


# Select and recheck


def test_select_filters_minimal_records_by_linf():
    model, images = conv_net(), images_of(6, (1, 6, 6))
    table = records(model, create(ATTACKS, "deepfool_linf"), images)
    linf = np.array(table["linf"])
    middle = float(np.sort(linf)[2])
    chosen = select(table, middle)
    assert chosen.num_rows == 6
    assert chosen["attacked"].to_pylist() == (linf <= middle).tolist()
    assert sum(select(table, middle - 5e-8)["attacked"].to_pylist()) == 3
    assert sum(select(table, middle - 2e-7)["attacked"].to_pylist()) == 2
    assert not any(select(table.drop_columns(["image"]), 0.0)["attacked"].to_pylist())


def test_select_leaves_out_what_failed():
    """A failure holds the clean image, at l_inf 0: within any epsilon."""
    table = records(
        conv_net(), create(ATTACKS, "fgsm_minimal", max_epsilon=0.002), images_of(6, (1, 6, 6))
    )
    assert table["linf"].to_pylist() == [0.0] * 6
    assert select(table, 0.1)["attacked"].to_pylist() == [False] * 6


def test_select_takes_the_rows_of_a_fixed_epsilon():
    model, images = conv_net(), images_of(4, (1, 6, 6))
    table = records(model, create(ATTACKS, "fgsm"), images, epsilons=(2 / 255, 8 / 255))
    chosen = select(table, 8 / 255)
    assert chosen["image_id"].to_pylist() == [f"image {i}" for i in range(4)]
    assert set(chosen["epsilon"].to_pylist()) == {8 / 255}
    assert chosen["attacked"].equals(chosen["success"])
    with pytest.raises(UserError, match="no records for epsilon 0.015686.*0.007843, 0.031373"):
        select(table, 4 / 255)


TAMPERINGS = {
    "linf": (lambda value: value * 1.001, "linf"),
    "l2": (lambda value: value + 1e-6, "l2"),
    "status": (lambda value: "failed", "status"),
    "label": (lambda value: (value + 1) % 4, "label"),
    "prediction_after": (lambda value: (value + 1) % 4, "prediction_after"),
    "prediction_before": (lambda value: (value + 1) % 4, "before"),
    "epsilon": (lambda value: 0.01, "above its epsilon"),
    "image": (lambda value: value + 2, "box"),
    "image_id": (lambda value: "stranger", "stranger"),
}


@pytest.mark.parametrize("column", TAMPERINGS)
def test_recheck_names_the_first_record_that_does_not_hold(column, tmp_path):
    model, images = conv_net(), images_of(4, (1, 6, 6))
    table = records(model, create(ATTACKS, "fgsm"), images, epsilons=(0.2,))
    assert table["success"].to_pylist()[2:] == [True, True]
    tamper, words = TAMPERINGS[column]
    if column == "image":
        values = store.images_of(table).copy()
        values[2:] = tamper(values[2:])
        changed = store.image_column(values)
    else:
        old = table[column].to_pylist()
        changed = pa.array([*old[:2], *map(tamper, old[2:])], table.schema.field(column).type)
    table = table.set_column(
        table.schema.get_field_index(column), table.schema.field(column), changed
    )
    path = tmp_path / "records.parquet"
    store.write(path, table)
    clean = [([f"image {i}" for i in range(4)], predicted(model, images), images)]
    with pytest.raises(UserError, match=words) as error:
        recheck(path, model, clean)
    assert column == "image_id" or "'image 2'" in str(error.value)


def test_recheck_finds_a_success_that_the_model_does_not_confirm(tmp_path):
    model, images = conv_net(), images_of(3, (1, 6, 6))
    labels = predicted(model, images)
    path = tmp_path / "records.parquet"
    table = records(model, create(ATTACKS, "fgsm"), images, epsilons=(0.2,))
    place = table.schema.get_field_index("prediction_after")
    table = table.set_column(place, table.schema.field(place), table["label"])
    table = table.set_column(
        table.schema.get_field_index("image"), "image", store.image_column(images.numpy())
    )
    for name in ("linf", "l2"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array([0.0] * 3))
    store.write(path, table)
    with pytest.raises(UserError, match="'image 0'.*still predicts"):
        recheck(path, model, [(["image 0", "image 1", "image 2"], labels, images)])


@pytest.mark.parametrize("status", ["failed", "misclassified"])
def test_recheck_finds_a_reason_that_is_another_than_the_model_gives(tmp_path, status):
    model, images = conv_net(), images_of(2, (1, 6, 6))
    right = predicted(model, images)
    # One image is attacked in vain, the other not attacked, and each says so of the other.
    labels = right if status == "misclassified" else (right + 1) % 4
    path = tmp_path / "records.parquet"
    table = records(model, create(ATTACKS, "fgsm"), images, labels, epsilons=(0.0,))
    place = table.schema.get_field_index("status")
    assert status not in table["status"].to_pylist()
    table = table.set_column(place, table.schema.field(place), pa.array([status] * 2))
    store.write(path, table)
    with pytest.raises(UserError, match=f"'image 0'.*its status is {status!r}, but its clean"):
        recheck(path, model, [(["image 0", "image 1"], labels, images)])


def test_recheck_skips_images_without_records(tmp_path):
    model, images = conv_net(), images_of(4, (1, 6, 6))
    ids = [f"image {i}" for i in range(4)]
    path = tmp_path / "records.parquet"
    table = records(model, create(ATTACKS, "fgsm"), images[1:3], ids=ids[1:3], epsilons=(0.1, 0.2))
    store.write(path, table)
    assert recheck(path, model, [(ids, predicted(model, images), images)]) == 4


def test_recheck_refuses_another_schema(tmp_path):
    path = tmp_path / "other.parquet"
    store.write(path, pa.table({"image_id": ["a"], "epsilon": ["0.1"]}))
    with pytest.raises(UserError, match="holds no adversarial records.*'epsilon'"):
        recheck(path, conv_net(), [])


# Bad input


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("pgd_minmal", {}, "did you mean 'pgd_minimal'"),
        ("pgd", {"step": 4}, "did you mean 'steps'"),
        ("pgd", {"steps": -1}, "'steps'.*'pgd' is -1"),
        ("pgd", {"steps": 2.5}, "integer"),
        ("pgd", {"steps": True}, "integer"),
        ("pgd", {"rel_stepsize": 0}, "above 0"),
        ("pgd_minimal", {"start_epsilon": 8}, "at most 1"),
        ("pgd_minimal", {"binary_search_steps": 0}, "at least 1"),
        ("fgsm_minimal", {"max_epsilon": 32}, "at most 1"),
        ("fgsm_minimal", {"max_epsilon": math.nan}, "nan"),
        ("fgsm_minimal", {"step": 0.5}, "at most 0.13"),
        ("fgsm_minimal", {"substeps": 0}, "at least 1"),
        ("deepfool_l2", {"candidates": 1}, "at least 2"),
        ("deepfool_l2", {"overshoot": -0.1}, "above 0"),
        ("deepfool_linf", {"steps": 0}, "at least 1"),
        ("carlini_wagner_l2", {"stepsize": "fast"}, "'fast'"),
        ("carlini_wagner_l2", {"confidence": -1}, "above 0"),
        ("carlini_wagner_l2", {"initial_const": 0}, "above 0"),
        ("carlini_wagner_l2", {"abort_early": "no"}, "true or false"),
        ("fgsm", {"random_start": True}, "no parameter 'random_start'"),
    ],
)
def test_bad_hyper_parameters_are_refused(name, parameters, words):
    with pytest.raises(UserError, match=words):
        create(ATTACKS, name, **parameters)


@pytest.mark.parametrize(
    ("epsilons", "words"),
    [
        ((8,), "0.031373"),
        ((-0.1,), "-0.1"),
        ((math.nan,), "nan"),
        ((0.1, 0.1), "each only once"),
        ((), "at least one"),
        (("8/255",), "'8/255'"),
    ],
)
def test_bad_epsilons_are_refused_before_any_work(epsilons, words):
    with pytest.raises(UserError, match=words):
        generate(
            Constant(),
            create(ATTACKS, "fgsm"),
            [],
            seed=0,
            dataset="d",
            model_name="m",
            epsilons=epsilons,
        )


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(UserError, match="'image 1' is 4.*0 to 3"):
        records(
            conv_net(),
            create(ATTACKS, "deepfool_l2"),
            images_of(2, (1, 6, 6)),
            torch.tensor([0, 4]),
        )


@pytest.mark.parametrize(
    "images",
    [images_of(1, (1, 6, 6)).double(), images_of(1, (1, 6, 6)) + 1, images_of(1, (6, 6))],
)
def test_images_of_another_kind_are_a_programming_error(images):
    with pytest.raises(ValueError, match="expected"):
        records(conv_net(), create(ATTACKS, "deepfool_l2"), images, torch.zeros(1).long())


def test_all_names_and_kinds():
    assert {name: attack.minimal for name, attack in ATTACKS.items()} == {
        "fgsm_minimal": True,
        "pgd_minimal": True,
        "deepfool_l2": True,
        "carlini_wagner_l2": True,
        "fgsm": False,
        "pgd": False,
        "deepfool_linf": True,
    }
    with pytest.raises(TypeError):
        fixed.PGD(40)


def test_attacks_need_no_git():
    """Images and compute nodes may have none, and Foolbox imports a package that looks for it."""
    code = "import bandlimit.attacks.fixed"
    environment = {k: v for k, v in os.environ.items() if k != "GIT_PYTHON_REFRESH"} | {"PATH": ""}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=100)
