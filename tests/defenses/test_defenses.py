"""Post-averaging: its exact properties, its engine, and the stops that spare samples."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bandlimit.defenses import evaluation, prediction, sweep
from bandlimit.defenses.base import DrawName
from bandlimit.defenses.directions import hyperplane_directions, random_directions
from bandlimit.defenses.post_averaging import PostAveraging, Squad, combine, post_averaging
from bandlimit.defenses.transforms import Noise, Undefended
from bandlimit.errors import UserError
from bandlimit.models import architectures
from bandlimit.models.batches import MicroBatches, fold
from bandlimit.models.classifier import Classifier
from bandlimit.models.fused import FusedConvolution, _rewrite, evaluator

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
    return Classifier(
        network, mean=[0.5] * shape[0], std=[0.25] * shape[0], shape=shape, classes=classes
    ).requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    """A small residual network with random weights, as `classifier.load` gives it."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = architectures.build("cifar_resnet20", classes=5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
            module.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    network.linear.weight.data *= 8
    batches = MicroBatches(fold(network.eval()), 16)
    return classifier(batches, classes=5, shape=(3, 16, 16))


def images(count, shape=SHAPE, seed=5):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def ids(count):
    return [f"image {i}" for i in range(count)]


class Broken(nn.Module):
    """The affine network, but for bright images, of which it says nothing."""

    def __init__(self, value):
        super().__init__()
        self.affine, self.value = Affine(), value

    def forward(self, u):
        bright = u.flatten(1).mean(1, keepdim=True) > 1
        return torch.where(bright, self.value, self.affine(u))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("stop", ["all", "exact", "sequential"])
@pytest.mark.parametrize(
    "make",
    [
        lambda model: post_averaging(model, radius=0.1, directions=3, name=NAME),
        lambda model: Noise(model, radius=0.1, name=NAME),
        Undefended,
    ],
)
def test_outputs_that_are_not_finite_are_no_answer(make, stop, value):
    """The greatest of NaN is the first class, which would be right on its images."""
    defense, x = make(classifier(MicroBatches(Broken(value).eval(), 4))), images(3)
    assert defense.predict(x, ids(3), [0], stop=stop).shape == (3, 1)
    x[1] = 1.0
    with pytest.raises(UserError, match=r"1 of \d+ images, the first of which is 'image 1'"):
        defense.predict(x, ids(3), [0], stop=stop)


def test_records_of_outputs_that_are_not_finite_are_refused():
    model, x, labels = (
        classifier(MicroBatches(Broken(torch.nan).eval(), 4)),
        images(3),
        torch.zeros(3, dtype=torch.int64),
    )
    x[2] = 1.0
    setting = sweep.Setting(0.1, 2)
    found = sweep.sweep(model, model.network, x, ids(3), labels, [setting], name=NAME)
    with pytest.raises(UserError, match="'image 2'"):
        list(found)
    with pytest.raises(UserError, match="1 of 3 images, .* 'image 2'"):
        evaluation.undefended(ids(3), labels, torch.softmax(model(x), dim=1).double())


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


@pytest.mark.parametrize("draws", ["fresh", "fixed", "shared"])
def test_unbound_defence_refuses_to_run(small, draws):
    defense = post_averaging(small, radius=1.0, directions=1, name=NAME, draws=draws)
    for module in (defense, defense.surrogate(2)):
        with pytest.raises(ValueError, match="bind"):
            module(images(2, small.shape))
        with pytest.raises(ValueError, match="expected 3 images"):
            module.bind(ids(3))(images(2, small.shape))


def test_shared_directions_are_fresh_in_each_call():
    model, x = classifier(Affine()), images(2)
    shared = post_averaging(model, radius=4.0, directions=2, name=NAME, draws="shared")
    bound = shared.bind(ids(2))
    first = bound(x)
    assert not torch.equal(bound(x), first)
    assert torch.equal(shared.bind(["other", "names"])(x), first)


def test_fixed_directions_depend_on_no_draw_and_no_purpose():
    model, x = classifier(Affine()), images(2)
    outputs = [
        post_averaging(model, radius=4.0, directions=2, name=name, draws="fixed").bind(
            ids(2), draw
        )(x)
        for name, draw in ((NAME, 0), (NAME, 3), (replace(NAME, purpose="attack"), 1))
    ]
    assert torch.equal(outputs[0], outputs[1]) and torch.equal(outputs[0], outputs[2])
    reseeded = post_averaging(
        model, radius=4.0, directions=2, name=replace(NAME, seed=8), draws="fixed"
    )
    assert not torch.equal(reseeded.bind(ids(2))(x), outputs[0])


def test_binding_leaves_the_defence_and_other_bindings_alone():
    model, x = classifier(Affine()), images(2)
    defense = post_averaging(model, radius=4.0, directions=2, name=NAME)
    first, second = defense.bind(ids(2)), defense.bind(ids(2))
    outputs = [first(x) for _ in range(3)]
    assert torch.equal(second(x), outputs[0])
    assert torch.equal(defense.bind(ids(2), draw=2)(x), outputs[2])


class Noting(nn.Module):
    """Keeps what enters the network, call by call."""

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, []

    def forward(self, u):
        self.calls.append(u.detach())
        return self.network(u)


@pytest.mark.parametrize(
    ("samples", "switches", "coefficients"),
    [
        (1, {}, [1]),
        (2, {}, [1, -1]),
        (3, {}, [1, -1, 0]),
        (4, {}, [1, -1, 2, -2]),
        (5, {}, [1, -1, 2, -2, 0]),
        (3, {"center": False}, [1, -1, 2]),
    ],
)
def test_few_samples_come_in_pairs_at_the_steps_of_the_defence(samples, switches, coefficients):
    network = Noting(Affine())
    model, x = classifier(network), images(5)
    defense = post_averaging(model, radius=3.0, directions=4, name=NAME, **switches)
    output = defense.surrogate(samples).bind(ids(5))(x)
    (entered,) = network.calls  # one call for all images
    offsets = (entered.reshape(5, samples, -1) - ((x - 0.5) / 0.25).reshape(5, 1, -1)).double()
    for k, number in enumerate(coefficients):
        pair = coefficients.index(abs(number)) if number else None
        expected = offsets[:, pair] * (number // abs(number)) if number else 0 * offsets[:, k]
        assert torch.allclose(offsets[:, k], expected, atol=1e-5)
        lengths = offsets[:, k].norm(dim=1) if number else torch.zeros(0)
        assert ((lengths - lengths.round()).abs() < 1e-4).all()
        assert ((lengths > 0.9) & (lengths < 3.1)).all()
    logits = network.network(entered).reshape(5, samples, -1)
    assert torch.allclose(output.exp(), torch.softmax(logits, 2).mean(1), atol=1e-6)


def test_few_samples_take_each_step_equally_often():
    network = Noting(Affine())
    x = images(1).expand(300, -1, -1, -1)
    defense = post_averaging(classifier(network), radius=3.0, directions=1, name=NAME)
    defense.surrogate(2).bind(ids(300))(x)
    u = (x[0] - 0.5) / 0.25
    lengths = (network.calls[0][::2] - u).flatten(1).norm(dim=1).round().int()
    counts = torch.bincount(lengths, minlength=4)
    # 100 of each are expected, with a standard deviation of 8.
    assert counts[0] == 0 and (counts[1:] - 100).abs().max() < 40


def test_few_samples_have_the_mean_of_the_defence():
    """Pairs leave an affine network as it is; on a curved one many calls meet the defence."""
    q = torch.randn(192, 192, generator=torch.Generator().manual_seed(1)) / 60

    class Curved(nn.Module):
        def forward(self, u):
            flat = u.flatten(1)
            value = ((flat @ q) * flat).sum(1)
            return torch.stack([value, 0.3 * value.sin()], dim=1)

    model, x = classifier(Curved(), classes=2), images(1)
    defense = post_averaging(model, radius=6.0, directions=2000, name=NAME, center=False)
    few = defense.surrogate(2).bind(ids(1))
    p = defense.bind(ids(1))(x).exp()[0]
    found = torch.stack([few(x).exp()[0] for _ in range(2000)])
    error = found.std(dim=0) / 2000**0.5
    assert ((found.mean(0) - p).abs() < 5 * error + 1e-3).all()
    assert (torch.softmax(model(x), 1)[0] - p).abs().max() > 20 * error.max()


@pytest.mark.parametrize("space", ["standardised", "pixel"])
def test_few_samples_keep_the_space_and_the_clip(space):
    network, x = Noting(Affine()), images(20)
    model, switches = classifier(network), {"directions": 1, "name": NAME, "space": space}
    post_averaging(model, radius=2.0, **switches).surrogate(2).bind(ids(20))(x)
    post_averaging(model, radius=50.0, clip=True, **switches).surrogate(2).bind(ids(20))(x)
    free, clipped = network.calls
    offsets = free - ((x - 0.5) / 0.25).repeat_interleave(2, dim=0)
    longest = offsets.flatten(1).norm(dim=1).max().item()
    assert longest == pytest.approx(2.0 if space == "standardised" else 2.0 / 0.25, rel=1e-4)
    pixels = clipped * 0.25 + 0.5
    assert torch.allclose(pixels, pixels.clamp(0, 1), atol=1e-6)


def test_surrogates_of_all_samples_are_the_defence_itself(small):
    fresh = post_averaging(small, radius=1.0, directions=2, name=NAME)
    fixed = post_averaging(small, radius=1.0, directions=2, name=NAME, draws="fixed")
    assert fresh.random and not fixed.random
    assert fresh.surrogate(None) is fresh
    assert fixed.surrogate(2) is fixed
    with pytest.raises(ValueError, match=">= 1, got 0"):
        fresh.surrogate(0)
    with pytest.raises(UserError, match="PostAveraging does not"):
        fresh.gradient_through_identity()


@pytest.mark.parametrize("make", ["noise", "one sign"])
def test_other_random_defences_are_averaged_call_by_call(make):
    model, x = classifier(Affine()), images(2)
    defense = (
        Noise(model, radius=3.0, name=NAME)
        if make == "noise"
        else post_averaging(model, radius=3.0, directions=1, name=NAME, sign="increase")
    )
    calls = [torch.softmax(defense.bind(ids(2), draw)(x), dim=1) for draw in range(6)]
    averaged = defense.surrogate(3).bind(ids(2))
    for part in (calls[:3], calls[3:]):
        assert torch.allclose(averaged(x).exp(), torch.stack(part).mean(0), atol=1e-6)


@pytest.mark.parametrize("samples", [2, 3, None])
def test_surrogate_of_an_image_does_not_depend_on_its_companions(small, samples):
    x, names = images(5, small.shape), ids(5)
    surrogate = post_averaging(small, radius=4.0, directions=2, name=NAME).surrogate(samples)

    def run(rows):
        point = x[rows].requires_grad_(True)
        bound = surrogate.bind([names[i] for i in rows], draw=4)
        output = bound(point) + bound(point)
        (gradient,) = torch.autograd.grad(output[:, 1].sum(), point)
        return output.detach(), gradient

    everything = run([0, 1, 2, 3, 4])
    threads = torch.get_num_threads()
    try:
        for rows, count in (([3, 1], 1), ([2], 1), ([4, 3, 2, 1, 0], 3)):
            torch.set_num_threads(count)
            for some, whole in zip(run(rows), everything, strict=True):
                assert torch.equal(some, whole[rows])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("samples", [1, 3, None])
def test_gradient_of_a_surrogate_equals_finite_differences(samples):
    class Curved(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(192, 4).double()

        def forward(self, u):
            return 3 * torch.sin(self.linear(u.flatten(1)))

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Classifier(
            Curved(), mean=[0.5] * 3, std=[0.25] * 3, shape=SHAPE, classes=4, dtype=torch.float64
        ).requires_grad_(False)
    surrogate = post_averaging(model, radius=2.0, directions=2, name=NAME).surrogate(samples)
    x = images(1).double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(surrogate.bind(ids(1))(x)[0, 2], x)
    for place in [(0, 0, 0, 0), (0, 1, 3, 6), (0, 2, 7, 7)]:
        values = []
        for step in (1e-5, -1e-5):
            moved = x.detach().clone()
            moved[place] += step
            values.append(surrogate.bind(ids(1))(moved)[0, 2].item())
        slope = (values[0] - values[1]) / 2e-5
        assert gradient[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.fixture(scope="module")
def rough():
    """A network of many small regions, so that predictions differ between draws and switches."""

    class Rough(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = Affine().linear

        def forward(self, u):
            return 4 * torch.sin(2 * self.linear(u.flatten(1)))

    return classifier(MicroBatches(Rough(), 16))


@pytest.mark.parametrize("stop", ["exact", "sequential", "all"])
@pytest.mark.parametrize("draws", ["fresh", "fixed"])
def test_predictions_of_draws_are_those_of_the_module(rough, draws, stop):
    x = images(40)
    defense = post_averaging(rough, radius=8.0, directions=3, name=NAME, draws=draws)
    found = defense.predict(x, ids(40), [0, 2], stop=stop, error=1e-6)
    with torch.no_grad():
        expected = [defense.bind(ids(40), draw)(x).argmax(1).numpy() for draw in (0, 2)]
    assert (expected[0] != expected[1]).any() == (draws == "fresh")
    assert found.dtype == np.int64
    assert (found == np.stack(expected, axis=1)).all()
    some = defense.predict(x[30:], ids(40)[30:], [2], stop=stop, error=1e-6)
    assert (some == found[30:, 1:]).all()


@pytest.mark.parametrize(
    "switches",
    [
        {"vote": "logits"},
        {"center": False},
        {"draws": "shared"},
        {"sign": "increase"},
        {"space": "pixel"},
        {"clip": True},
        {"radii": (1.0, 3.0)},
    ],
)
def test_predictions_with_other_switches_take_all_samples(rough, switches):
    x = images(40)
    defense = post_averaging(rough, radius=8.0, directions=2, name=NAME, **switches)
    plain = post_averaging(rough, radius=8.0, directions=2, name=NAME)
    with torch.no_grad():
        expected = defense.bind(ids(40), 1)(x).argmax(1).numpy()
    assert (defense.predict(x, ids(40), [1])[:, 0] == expected).all()
    assert (plain.predict(x, ids(40), [1])[:, 0] != expected).any()


def test_unknown_stop_is_refused(small):
    defense = post_averaging(small, radius=1.0, directions=1, name=NAME)
    with pytest.raises(UserError, match="did you mean 'exact'"):
        defense.predict(images(1, small.shape), ids(1), [0], stop="exat")


@pytest.mark.parametrize("directions", [1, 5])
def test_images_of_few_samples_fill_the_network_together(small, directions):
    x, calls = images(9, small.shape), []
    defense = post_averaging(small, radius=3.0, directions=directions, name=NAME)
    hook = small.network.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    try:
        with torch.no_grad():
            together = defense.bind(ids(9))(x)
            assert max(calls) == min(9, 256 // defense.samples()) * defense.samples()
            assert sum(calls) == 9 * defense.samples()
            calls.clear()
            alone = [defense.bind([name])(x[i : i + 1]) for i, name in enumerate(ids(9))]
    finally:
        hook.remove()
    assert torch.equal(together, torch.cat(alone))


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
    batches = MicroBatches(fold(network.eval()), 2)
    model = classifier(batches, classes=10, shape=shape)
    u = torch.randn(2, *shape, generator=torch.Generator().manual_seed(4))
    plain = batches(u)
    assert torch.allclose(evaluator(model)(u), plain, atol=1e-4 * (1 + plain.abs().max().item()))


def test_a_defence_can_be_copied_and_saved_after_it_predicted(small, tmp_path):
    defense = post_averaging(small, radius=1.0, directions=2, name=NAME)
    x = images(3)
    expected = defense.predict(x, ids(3), [0])
    torch.save(defense, tmp_path / "defense.pt")
    loaded = torch.load(tmp_path / "defense.pt", weights_only=False)
    for other in (copy.deepcopy(defense), loaded):
        assert np.array_equal(other.predict(x, ids(3), [0]), expected)


def test_bfloat16_without_instructions_for_it_is_refused(small, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(UserError, match="bfloat16"):
        evaluator(small, bfloat16=True)


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
        fused = _rewrite(network, probe.clone())
        assert torch.allclose(fused(probe.clone()), expected, atol=1e-5)
    kernels = [m for m in fused.modules() if isinstance(m, FusedConvolution)]
    if kind in ("reflect", "in place"):
        assert not kernels
    else:
        assert [kernel.rectifier for kernel in kernels] == ["relu" if kind == "plain" else "none"]
        assert ("relu" in fused.code) == (kind != "plain")


class Residual(nn.Module):
    """A block whose shortcut is what a convolution made, or something that others read too."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.third = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, u):
        a = u if self.kind == "input" else torch.relu(self.first(u))
        view = a[:, 1:] if self.kind == "view" else a
        b = torch.relu(self.second(a)) if self.kind != "source" else a
        rectifier = nn.functional.relu6 if self.kind == "relu6" else torch.relu
        c = rectifier(self.third(b) + a)
        if self.kind == "read later":
            c = torch.cat([c, a], dim=1)
        elif self.kind == "view":
            c = torch.cat([c, view], dim=1)
        return c.mean((2, 3))


@pytest.mark.parametrize("kind", ["own", "relu6", "input", "source", "read later", "view"])
def test_a_shortcut_is_overwritten_only_where_nobody_reads_it(kind):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = Residual(kind).eval()
    probe = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(6))
    given = probe.clone()
    with torch.no_grad():
        expected = network(probe)
        fused = _rewrite(network, probe)
        assert torch.allclose(fused(given), expected, atol=1e-5)
    assert torch.equal(given, probe)
    in_place = [m.in_place for m in fused.modules() if isinstance(m, FusedConvolution)]
    assert any(in_place) == (kind in ("own", "relu6"))


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


def wealths(x, total):
    """Yield the number of samples seen and the wealth after each, as the module's text has it."""
    wealth = 1.0
    for t in range(prediction.FIRST, len(x)):
        past = x[:t]
        bound = (total / 2 - sum(past)) / (total - t)
        mean = (0.5 + sum(past)) / (t + 1)
        spread = (0.25 + sum((value - mean) ** 2 for value in past)) / (t + 1)
        edge = mean - bound
        bet = min(max(edge / (spread + edge**2), 0.0), prediction.GREATEST_BET / bound)
        wealth *= 1 + bet * (x[t] - bound)
        yield t + 1, wealth


def test_sequential_rule_by_hand():
    total, error = 91, 0.01
    x = np.random.default_rng(3).uniform(0.5, 0.9, 45)
    seen = np.stack([x, 1 - x], axis=1)[None]
    enough = next(count for count, wealth in wealths(x.tolist(), total) if wealth >= 1 / error)
    assert prediction.FIRST + 2 < enough < 45
    rule = prediction._Sequential(total, error)
    assert rule.decide(seen[:, : enough - 1]).tolist() == [-1]
    assert rule.decide(seen[:, :enough]).tolist() == [0]


def test_samples_are_visited_in_a_random_order_of_each_image_and_draw(small, monkeypatch):
    orders = []
    visit = prediction._run

    def run(around, direction, coefficient, order, *rest):
        orders.extend(map(tuple, order.tolist()))
        return visit(around, direction, coefficient, order, *rest)

    monkeypatch.setattr(prediction, "_run", run)
    for draw in (0, 1):
        prediction.predict(
            small, evaluator(small), images(3, small.shape), ids(3), sweep.Setting(1.0, 5),
            name=NAME, draw=draw,
        )  # fmt: skip
    everything = tuple(range(31))
    assert all(tuple(sorted(order)) == everything != order for order in orders)
    assert len(set(orders)) == len(orders) == 6


def test_all_samples_are_taken_where_they_are_asked_for(small, monkeypatch):
    monkeypatch.setattr(prediction, "predict", None)
    x = images(2, small.shape)
    defence = post_averaging(small, radius=0.1, directions=2, name=NAME)
    assert (
        defence.predict(x, ids(2), [0], stop="all")[:, 0]
        == defence.bind(ids(2))(x).argmax(1).numpy()
    ).all()


def test_exact_rule_by_hand():
    rule = prediction._Exact(10)
    lead = np.zeros((1, 6, 3))
    lead[0, :, 1] = 1.0
    assert rule.decide(lead).tolist() == [1]  # 6 ahead, 4 to come
    assert rule.decide(lead[:, :5]).tolist() == [-1]  # 5 ahead, 5 to come: a tie is possible
