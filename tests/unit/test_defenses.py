"""Post-averaging: its exact properties, its engine, and the stops that spare samples."""

import numpy as np
import pytest
import torch
from torch import nn

from bandlimit import architectures, models
from bandlimit.defenses import inference, prediction, sweep
from bandlimit.defenses.directions import hyperplane_directions, random_directions
from bandlimit.defenses.inference import evaluator
from bandlimit.defenses.post_averaging import (
    DrawName,
    PostAveraging,
    Squad,
    combine,
    post_averaging,
)
from bandlimit.errors import UserError

NAME = DrawName(seed=7, purpose="test", dataset="noise", model="small")
SHAPE = (3, 8, 8)


class Affine(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.linear = nn.Linear(192, classes)
        self.linear.weight.data = torch.randn(classes, 192, generator=generator) / 8
        self.linear.bias.data = torch.randn(classes, generator=generator)

    def forward(self, u):
        return self.linear(u.flatten(1))


class Counting(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network, self.rows = network, 0

    def forward(self, u):
        self.rows += len(u)
        return self.network(u)


def classifier(network, classes=4, shape=SHAPE):
    return models.Classifier(
        network, mean=[0.5] * shape[0], std=[0.25] * shape[0], shape=shape, classes=classes
    ).requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    """A small residual network with random weights, as `models.load` gives it."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = architectures.build("cifar_resnet20", classes=5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
            module.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    network.linear.weight.data *= 8
    batches = models.MicroBatches(models.fold(network.eval()), 16)
    return classifier(batches, classes=5, shape=(3, 16, 16))


def images(count, shape=SHAPE, seed=5):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def ids(count):
    return [f"image {i}" for i in range(count)]


def test_affine_network_is_its_own_average_of_logits():
    model, x = classifier(Affine()), images(3)
    defense = post_averaging(model, radius=5.0, directions=4, name=NAME, vote="logits")
    assert torch.allclose(defense.bind(ids(3))(x), model(x), atol=1e-5)


def test_quadratic_network_grows_by_its_closed_form():
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(192, 192, generator=generator) / 20

    class Quadratic(nn.Module):
        def forward(self, u):
            flat = u.flatten(1)
            value = ((flat @ q) * flat).sum(1)
            return torch.stack([value, -value], dim=1)

    model, x = classifier(Quadratic(), classes=2), images(1)
    defense = post_averaging(model, radius=3.0, directions=2, name=NAME, vote="logits")
    v = random_directions(SHAPE, 2, seed=7, name=NAME.parts("image 0", 0)).flatten(1)
    squares = torch.tensor([1.0, 4.0, 9.0]).sum()
    increase = 2 * squares * ((v @ q) * v).sum() / 13
    expected = model(x)[0, 0] + increase
    assert defense.bind(ids(1))(x)[0, 0] == pytest.approx(expected.item(), rel=1e-4)


def test_cosine_has_the_response_of_the_sampler():
    omega = torch.randn(192, generator=torch.Generator().manual_seed(2))

    class Cosine(nn.Module):
        def forward(self, u):
            value = torch.cos(u.flatten(1) @ omega)
            return torch.stack([value, -value], dim=1)

    model = classifier(Cosine(), classes=2)
    x = torch.full((1, *SHAPE), 0.5)  # standardised to 0
    defense = post_averaging(model, radius=1.5, directions=5, name=NAME, vote="logits")
    v = random_directions(SHAPE, 5, seed=7, name=NAME.parts("image 0", 0)).flatten(1)
    steps = torch.tensor([0.5, 1.0, 1.5])
    expected = (1 + 2 * torch.cos((v @ omega).outer(steps)).sum()) / 31
    assert defense.bind(ids(1))(x)[0, 0] == pytest.approx(expected.item(), abs=1e-5)


def test_radius_zero_is_no_defence(small):
    x = images(2, small.shape)
    defense = post_averaging(small, radius=0.0, directions=3, name=NAME)
    expected = torch.log_softmax(small(x), dim=1)
    assert torch.allclose(defense.bind(ids(2))(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("switches", "samples"),
    [
        ({}, 6 * 4 + 1),
        ({"center": False}, 6 * 4),
        ({"sign": "increase"}, 3 * 4 + 1),
        ({"sign": "decrease"}, 3 * 4 + 1),
        ({"radii": (1.0, 2.0)}, 4 * 4 + 1),
        ({"clip": True}, 6 * 4 + 1),
        ({"space": "pixel"}, 6 * 4 + 1),
        ({"vote": "majority"}, 6 * 4 + 1),
        ({"vote": "weighted"}, 6 * 4 + 1),
    ],
)
def test_forward_passes_are_counted(switches, samples):
    network = Counting(Affine())
    defense = post_averaging(
        classifier(network), radius=1.0, directions=4, name=NAME, **switches
    ).bind(ids(2))
    assert defense.samples() == samples
    assert defense(images(2)).shape == (2, 4)
    assert network.rows == 2 * samples


def test_pixel_space_divides_by_the_standard_deviation():
    seen = []

    class Note(Affine):
        def forward(self, u):
            seen.append(u)
            return super().forward(u)

    x = images(1)
    for space in ("standardised", "pixel"):
        post_averaging(classifier(Note()), radius=2.0, directions=1, name=NAME, space=space).bind(
            ids(1)
        )(x)
    moved = [(u[1:] - u[0]).flatten(1).norm(dim=1).max() for u in seen]
    assert moved[0] == pytest.approx(2.0, rel=1e-5)
    assert moved[1] == pytest.approx(2.0 / 0.25, rel=1e-5)


def test_clipped_samples_are_valid_pixels():
    class Check(Affine):
        def forward(self, u):
            pixels = u * 0.25 + 0.5
            assert pixels.min() >= -1e-6 and pixels.max() <= 1 + 1e-6
            return super().forward(u)

    defense = post_averaging(classifier(Check()), radius=50.0, directions=2, name=NAME, clip=True)
    defense.bind(ids(1))(images(1))


def test_votes_are_combined_as_stated():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [1.0, 1.0, 0.0]])
    assert torch.allclose(combine(logits, "softmax").exp(), torch.softmax(logits, 1).mean(0))
    assert torch.allclose(combine(logits, "logits"), logits.mean(0))
    # The third sample is a tie: it counts for both.
    assert combine(logits, "majority").tolist() == pytest.approx([2 / 3, 2 / 3, 0])
    assert torch.allclose(
        combine(logits, "weighted"), logits.mean(0) * torch.tensor([2.0, 2.0, 0.0])
    )


def test_draws_are_keyed_per_image_and_call():
    model, x = classifier(Affine()), images(4)
    soft = {"radius": 4.0, "directions": 2, "name": NAME}

    def run(draws, order):
        bound = post_averaging(model, draws=draws, **soft).bind([f"image {i}" for i in order])
        return bound(x[order]), bound(x[order])

    first, second = run("fresh", [0, 1, 2, 3])
    assert not torch.equal(first, second)
    again, _ = run("fresh", [3, 1])
    assert torch.equal(again, first[[3, 1]])
    fixed = run("fixed", [0, 1, 2, 3])
    assert torch.equal(*fixed)
    shared = post_averaging(model, draws="shared", **soft).bind(["a", "b"])
    twin = x[[0, 0]]
    output = shared(twin)
    assert torch.equal(output[0], output[1])


def test_gradient_reaches_the_pixels(small):
    x = images(2, small.shape).requires_grad_(True)
    defense = post_averaging(small, radius=2.0, directions=2, name=NAME, draws="fixed")
    defense.bind(ids(2))(x)[:, 0].sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


def test_squads_choose_the_output_of_least_entropy():
    model, x = classifier(Affine()), images(3)
    squads = [Squad(radius=0.1, directions=2), Squad(radius=400.0, directions=8)]
    single = [
        PostAveraging(model, [squad], name=NAME, draws="fixed").bind(ids(3))(x) for squad in squads
    ]
    both = PostAveraging(model, squads, name=NAME, draws="fixed").bind(ids(3))(x)
    # Steps of 0.1 leave the sharp output of the network; steps of 400 flatten it.
    assert torch.allclose(both, single[0])
    assert not torch.allclose(single[0], single[1], atol=1e-3)


@pytest.mark.parametrize(
    ("switches", "word"),
    [
        ({"vote": "softmux"}, "softmax"),
        ({"sampler": "randon"}, "random"),
        ({"space": "pixels"}, "pixel"),
        ({"draws": "frsh"}, "fresh"),
        ({"sign": "bth"}, "both"),
    ],
)
def test_unknown_switch_is_one_sentence(switches, word):
    with pytest.raises(UserError, match=f"did you mean '{word}'"):
        post_averaging(classifier(Affine()), radius=1.0, directions=2, name=NAME, **switches)


@pytest.mark.parametrize(("radius", "directions"), [(-1.0, 3), (float("nan"), 3), (1.0, 0)])
def test_impossible_setting_is_refused(radius, directions):
    with pytest.raises(UserError):
        Squad(radius=radius, directions=directions)
    with pytest.raises(UserError):
        sweep.Setting(radius, directions)


def test_directions_are_nested_unit_vectors():
    many = random_directions(SHAPE, 9, seed=1, name=("a",))
    assert torch.equal(many[:4], random_directions(SHAPE, 4, seed=1, name=("a",)))
    assert torch.allclose(many.flatten(1).norm(dim=1), torch.ones(9))
    assert not torch.equal(many, random_directions(SHAPE, 9, seed=2, name=("a",)))


def test_nearest_hyperplanes_of_an_affine_network():
    network, u = Affine(classes=5), images(1)[0]
    weight, z = network.linear.weight, network(u.unsqueeze(0))[0]
    distance = (z.abs() / weight.norm(dim=1)).argsort()
    for sampler in ("approximate", "exact", "last_layer"):
        found = hyperplane_directions(network, u, sampler=sampler, counts=(3,))
        for vector, unit in zip(found, distance[:3], strict=True):
            expected = weight[unit] * z[unit].sign() / weight[unit].norm()
            assert torch.allclose(vector.flatten(), expected, atol=1e-6)
    with pytest.raises(UserError, match="from 1 to 5, got 6"):
        hyperplane_directions(network, u, sampler="approximate", counts=(6,))


@pytest.mark.parametrize("sampler", ["approximate", "exact", "last_layer", "random_units"])
def test_boundary_directed_defence_of_a_loaded_model(small, sampler):
    x = images(2, small.shape)
    defense = post_averaging(small, radius=2.0, directions=3, name=NAME, sampler=sampler)
    with torch.no_grad():
        together = defense.bind(ids(2))(x)
        alone = defense.bind(ids(2)[1:])(x[1:])
    assert torch.isfinite(together).all()
    assert torch.equal(together[1:], alone)


def test_sweep_equals_the_module_at_every_setting(small):
    x, labels = images(3, small.shape), torch.tensor([0, 1, 2])
    settings = [sweep.Setting(3.0, 2, draws=2), sweep.Setting(3.0, 4), sweep.Setting(6.0, 2)]
    judgements = list(sweep.sweep(small, evaluator(small), x, ids(3), labels, settings, name=NAME))
    assert len(judgements) == 4
    for judgement in judgements:
        setting = judgement.setting
        defense = post_averaging(
            small, radius=setting.radius, directions=setting.directions, name=NAME
        )
        p = defense.bind(ids(3), draw=judgement.draw)(x).exp()
        assert np.allclose(judgement.p_true, p[range(3), labels], atol=1e-5)
        assert (judgement.prediction == p.argmax(1).numpy()).all()


def test_sweep_shares_samples_between_settings(small):
    # r = 6 steps by 2, 4, 6 and r = 3 by 1, 2, 3: the step 2 enters once for both.
    settings = [sweep.Setting(6.0, 2), sweep.Setting(3.0, 2), sweep.Setting(6.0, 5)]
    assert sweep.forwards(settings) == 1 + 2 * (2 * 5) + 2 * 3 * 3
    network = Counting(evaluator(small))
    x, labels = images(2, small.shape), torch.tensor([0, 1])
    list(sweep.sweep(small, network, x, ids(2), labels, settings, name=NAME))
    assert network.rows == 2 * sweep.forwards(settings)


def test_result_of_an_image_does_not_depend_on_its_companions(small):
    x, labels = images(7, small.shape), torch.zeros(7, dtype=torch.int64)
    settings = [sweep.Setting(4.0, 3)]
    network = evaluator(small)

    def p_true(rows):
        (judgement,) = sweep.sweep(
            small, network, x[rows], [ids(7)[i] for i in rows], labels[rows], settings, name=NAME
        )
        return judgement.p_true

    everything = p_true(list(range(7)))
    assert (p_true([5, 2]) == everything[[5, 2]]).all()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert (p_true(list(range(7))) == everything).all()
    finally:
        torch.set_num_threads(threads)


def test_fused_network_agrees(small):
    u = torch.randn(5, *small.shape, generator=torch.Generator().manual_seed(4))
    plain = small.network(u)
    assert torch.allclose(evaluator(small)(u), plain, atol=1e-4)
    coarse = evaluator(small, bfloat16=True)(u)
    assert torch.allclose(coarse, plain, atol=0.1 * plain.abs().max().item())
    assert coarse.dtype == torch.float32


@pytest.mark.parametrize("name", ["efficientnet_lite0", "cifar_resnet20", "vgg16_bn", "resnet50"])
def test_fused_networks_agree(name):
    """Of all kinds of architecture; some pad by a rule of their own, which no kernel may lose."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = architectures.build(name, classes=10)
    shape = (3, 64, 64)
    batches = models.MicroBatches(models.fold(network.eval()), 2)
    model = classifier(batches, classes=10, shape=shape)
    u = torch.randn(2, *shape, generator=torch.Generator().manual_seed(4))
    plain = batches(u)
    assert torch.allclose(evaluator(model)(u), plain, atol=1e-4 * (1 + plain.abs().max().item()))


class Chain(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        mode = "reflect" if kind == "reflect" else "zeros"
        self.conv = nn.Conv2d(3, 3, 3, padding=1, padding_mode=mode)

    def forward(self, u):
        y = self.conv(u)
        if self.kind == "alpha":
            y = torch.add(y, u, alpha=2)
        elif self.kind == "in place":
            y = y + u.relu_()
        elif self.kind == "twice":
            y = y + y.sigmoid()
        elif self.kind == "broadcast":
            y = y + u.mean((2, 3), keepdim=True)
        elif self.kind == "number":
            y = y + 1.5
        return torch.relu(y).mean((2, 3))


@pytest.mark.parametrize(
    "kind", ["alpha", "in place", "twice", "broadcast", "number", "reflect", "plain"]
)
def test_patterns_that_a_kernel_does_not_compute_stay(kind):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = Chain(kind).eval()
    probe = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected = network(probe.clone())
        fused = inference._rewrite(network, probe.clone())
        assert torch.allclose(fused(probe.clone()), expected, atol=1e-5)
    assert ("fused" in fused.code) == (kind in ("plain",))


def full_predictions(model, x, setting):
    labels = torch.zeros(len(x), dtype=torch.int64)
    (judgement,) = sweep.sweep(
        model, evaluator(model), x, ids(len(x)), labels, [setting], name=NAME
    )
    return judgement.prediction


def test_exact_stop_predicts_what_all_samples_predict(small):
    x, setting = images(24, small.shape), sweep.Setting(8.0, 5)
    found = prediction.predict(
        small, evaluator(small), x, ids(24), setting, name=NAME, stop="exact"
    )
    assert (found.prediction == full_predictions(small, x, setting)).all()
    assert (found.samples > 31 // 2).all() and (found.samples <= 31).all()
    assert found.samples.min() < 31


def test_sequential_stop_spares_samples(small):
    x, setting = images(24, small.shape), sweep.Setting(0.5, 15)
    found = prediction.predict(
        small, evaluator(small), x, ids(24), setting, name=NAME, stop="sequential"
    )
    assert (found.prediction == full_predictions(small, x, setting)).mean() >= 23 / 24
    assert found.samples.mean() < 60
    with pytest.raises(UserError, match=r"\(0, 1\)"):
        prediction.predict(
            small, evaluator(small), x, ids(24), setting, name=NAME, stop="sequential", error=0
        )


def test_error_of_the_sequential_test_is_bounded():
    """Populations where the candidate just loses: the worst case that the hypothesis allows."""
    rng = np.random.default_rng(11)
    total, error, trials = 91, 0.05, 4000
    values = np.zeros((total, 2))
    values[:45] = (1.0, 0.0)
    values[45:] = (0.0, 1.0)  # class 1 wins by a single sample
    seen = np.stack([values[rng.permutation(total)] for _ in range(trials)])
    rule = prediction._Sequential(total, error)
    decided = rule.decide(seen[:, :60])
    wrong = float((decided == 0).mean())
    assert wrong <= error
    # The test is not idle: a looser error accepts wrong candidates, so it can fail.
    assert (prediction._Sequential(total, 0.9).decide(seen[:, :60]) == 0).mean() > error


def test_exact_rule_by_hand():
    rule = prediction._Exact(10)
    lead = np.zeros((1, 6, 3))
    lead[0, :, 1] = 1.0
    assert rule.decide(lead).tolist() == [1]  # 6 ahead, 4 to come
    assert rule.decide(lead[:, :5]).tolist() == [-1]  # 5 ahead, 5 to come: a tie is possible
