"""Defences that change the input: known answers, gradients, and one image at a time."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from bandlimit.defenses.base import DrawName
from bandlimit.defenses.transforms import (
    DIRECTIONS,
    JPEG,
    Flip,
    LowPass,
    Noise,
    OtherModel,
    Rounding,
    Shift,
    Undefended,
)
from bandlimit.errors import UserError
from bandlimit.models import architectures, batches
from bandlimit.models import classifier as models_classifier

NAME = DrawName(seed=7, purpose="test", dataset="noise", model="small")
SHAPE = (3, 8, 8)


class Curved(nn.Module):
    """A smooth network, not linear, so that a gradient says where it was taken."""

    def __init__(self, size, classes):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(
            torch.randn(classes, size, generator=generator, dtype=torch.float64) / size**0.5
        )

    def forward(self, u):
        return torch.sin(3 * u.flatten(1) @ self.weight.T.to(u))


def classifier(shape=SHAPE, classes=4, network=None, dtype=torch.float32):
    return models_classifier.Classifier(
        network or Curved(math.prod(shape), classes),
        mean=[0.5, 0.4, 0.3][: shape[0]],
        std=[0.25, 0.2, 0.3][: shape[0]],
        shape=shape,
        classes=classes,
        dtype=dtype,
    ).requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    """A small residual network with random weights, as `models.load` gives it."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = architectures.build("cifar_resnet20", classes=5).eval()
    return classifier((3, 16, 16), 5, batches.MicroBatches(batches.fold(network), 16))


def images(count, shape=SHAPE, seed=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator, dtype=dtype)


def ids(count):
    return [f"image {i}" for i in range(count)]


ALL = {
    "undefended": Undefended,
    "rounding": Rounding,
    "flip": Flip,
    "shift": Shift,
    "jpeg": JPEG,
    "low_pass": lambda model: LowPass(model, cutoff=2.5),
    "noise": lambda model: Noise(model, radius=2.0, name=NAME),
}
TRANSFORMS = [kind for kind in ALL if kind != "undefended"]


def test_undefended_is_the_classifier():
    model, x = classifier(), images(2)
    assert torch.equal(Undefended(model)(x), model(x))
    assert (Undefended(model).shape, Undefended(model).classes) == (SHAPE, 4)


def test_another_model_answers_in_its_place():
    model, other = classifier(), classifier(network=Curved(192, 4))
    other.network.weight.data.neg_()
    defense, x = OtherModel(model, other), images(2)
    assert torch.equal(defense(x), other(x)) and not torch.equal(defense(x), model(x))


@pytest.mark.parametrize("change", [{"classes": 5}, {"shape": (3, 8, 9)}])
def test_another_model_must_fit(change):
    with pytest.raises(UserError, match="other model"):
        OtherModel(classifier(), classifier(**change))


def test_rounding_to_levels():
    x = torch.tensor([0.0, 0.24, 0.26, 0.6, 1.0]).expand(1, 1, 5, 5)
    model = classifier((1, 5, 5))
    assert Rounding(model, levels=3).transform(x)[0, 0, 0].tolist() == [0, 0, 0.5, 0.5, 1]
    eight_bits = torch.arange(256).reshape(1, 1, 16, 16) / 255
    near = eight_bits + 0.4 / 255 * (-1) ** torch.arange(16)
    rounded = Rounding(classifier((1, 16, 16))).transform(near)
    assert torch.equal(rounded, eight_bits)


def test_flip_mirrors_left_and_right():
    x = images(2)
    assert torch.equal(
        Flip(classifier()).transform(x), torch.from_numpy(x.numpy()[..., ::-1].copy())
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("pixels", [1, 3])
def test_shift_repeats_the_edge(direction, pixels):
    shape = (3, 6, 8)
    x = images(2, shape)
    model = classifier(shape)
    moved = Shift(model, pixels=pixels, direction=direction).transform(x).numpy()
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (pixels,) * 2, (pixels,) * 2], mode="edge")
    down = {"down": 0, "up": 2 * pixels}.get(direction, pixels)
    right = {"right": 0, "left": 2 * pixels}.get(direction, pixels)
    assert (moved == padded[..., down : down + 6, right : right + 8]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_flat_images_and_little_else(channels):
    shape = (channels, 16, 16)
    model = classifier(shape)
    flat = torch.full((1, *shape), 128 / 255)
    assert torch.equal(JPEG(model).transform(flat), flat)
    x = images(2, shape)
    error = {q: (JPEG(model, quality=q).transform(x) - x).norm().item() for q in (30, 90, 100)}
    assert 0 < error[100] < error[90] < error[30]
    y = JPEG(model).transform(x) * 255
    assert torch.equal(y.round() / 255, JPEG(model).transform(x))
    assert y.min() >= 0 and y.max() <= 255


def wave(shape, down, right):
    """A cosine of given frequencies, 1 x C x H x W, of unit amplitude."""
    i, j = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    phase = 2 * np.pi * (down * i / shape[1] + right * j / shape[2])
    return torch.from_numpy(np.cos(phase)).expand(1, *shape)


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 15, 15), (1, 12, 17)])
def test_low_pass_keeps_waves_within_the_disk(shape):
    defense = LowPass(classifier(shape, dtype=torch.float64), cutoff=5)
    kept = 0
    for down in range(shape[1] // 2 + 1):
        for right in range(shape[2] // 2 + 1):
            x = wave(shape, down, right)
            passes = down**2 + right**2 <= 25
            kept += passes
            assert torch.allclose(defense.transform(x), x * passes, atol=1e-12), (down, right)
    assert kept == 26  # of them (3, 4), (4, 3), (5, 0) and (0, 5) at distance 5 exactly


def test_low_pass_from_the_mean_to_everything():
    x = images(2)
    mean = LowPass(classifier(), cutoff=0).transform(x)
    assert torch.allclose(mean, x.mean((2, 3), keepdim=True).expand_as(x), atol=1e-6)
    assert torch.allclose(LowPass(classifier(), cutoff=8).transform(x), x, atol=1e-6)


def test_low_pass_projects_perturbations():
    defense, delta = LowPass(classifier(), cutoff=2), images(3) - 0.5
    passed = defense.project(delta)
    assert torch.allclose(defense.project(passed), passed, atol=1e-6)
    spectrum = np.fft.fftshift(np.fft.fft2((delta - passed).numpy()), axes=(2, 3))
    i, j = np.meshgrid(np.arange(8) - 4, np.arange(8) - 4, indexing="ij")
    assert np.abs(spectrum[..., i**2 + j**2 <= 4]).max() < 1e-5
    assert np.abs(spectrum[..., i**2 + j**2 > 4]).max() > 1
    x = images(3, seed=9)
    assert torch.allclose(defense.transform(x + delta), defense.transform(x) + passed, atol=1e-6)


@pytest.mark.parametrize("kind", ["undefended", "rounding", "flip", "noise"])
def test_other_defences_pass_all_of_a_perturbation(kind):
    delta = images(2) - 0.5
    assert torch.equal(ALL[kind](classifier()).project(delta), delta)


def test_noise_lies_at_its_radius():
    model, x = classifier(), images(3)
    noise = Noise(model, radius=2.5, name=NAME).bind(ids(3))
    moved = [(noise.transform(x) - x) / model.std for _ in range(2)]
    for offset in moved:
        assert torch.allclose(offset.flatten(1).norm(dim=1), torch.full((3,), 2.5), rtol=1e-4)
    assert not torch.allclose(*moved)
    again = Noise(model, radius=2.5, name=NAME).bind(["image 2"], draw=1)
    assert torch.equal((again.transform(x[2:]) - x[2:]) / model.std, moved[1][2:])


def test_noise_must_be_bound():
    noise = Noise(classifier(), radius=1.0, name=NAME)
    with pytest.raises(ValueError, match="bind"):
        noise(images(2))
    with pytest.raises(ValueError, match="expected 3 images"):
        noise.bind(ids(3))(images(2))


@pytest.mark.parametrize(
    ("kind", "identity"), [*((kind, False) for kind in ALL), *((kind, True) for kind in TRANSFORMS)]
)
def test_gradient_equals_finite_differences(kind, identity):
    """Of the defence, or, through the identity, of the classifier at the transformed point."""
    shape = (3, 8, 8)
    defense = ALL[kind](classifier(shape, dtype=torch.float64))
    if identity:
        defense = defense.gradient_through_identity()
    x = images(1, shape, dtype=torch.float64).requires_grad_(True)
    output = defense.bind(ids(1))(x)
    (gradient,) = torch.autograd.grad(output[0, 1], x)
    through = identity or not getattr(defense, "differentiable", True)
    with torch.no_grad():
        point = defense.bind(ids(1)).transform(x) if through else x
        function = defense.classifier if through else defense.bind(ids(1))
        assert torch.equal(function(point), output)
    for place in [(0, 0, 0, 0), (0, 1, 3, 6), (0, 2, 7, 7)]:
        values = []
        for step in (1e-5, -1e-5):
            moved = point.detach().clone()
            moved[place] += step
            function = defense.classifier if through else defense.bind(ids(1))
            values.append(function(moved)[0, 1].item())
        slope = (values[0] - values[1]) / 2e-5
        assert gradient[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_gradient_of_a_flip_is_flipped_and_through_the_identity_is_not():
    class Corner(nn.Module):
        def forward(self, u):
            return torch.stack([u[:, 0, 0, 0], -u[:, 0, 0, 0]], dim=1)

    flip = Flip(classifier(classes=2, network=Corner()))
    x = images(1).requires_grad_(True)
    for defense, column in ((flip, 7), (flip.gradient_through_identity(), 0)):
        (gradient,) = torch.autograd.grad(defense(x)[0, 0], x)
        assert gradient.nonzero().tolist() == [[0, 0, 0, column]]
    assert not flip.through_identity


def test_no_transform_no_identity():
    with pytest.raises(UserError, match="Undefended does not"):
        Undefended(classifier()).gradient_through_identity()


@pytest.mark.parametrize("kind", ALL)
def test_output_and_gradient_of_an_image_depend_on_it_alone(small, kind):
    """On its companions, their order and the number of threads they don't."""
    x, names = images(7, small.shape), ids(7)
    defense = ALL[kind](small)
    if kind == "low_pass":
        assert torch.equal(defense.project(x)[[5, 2]], defense.project(x[[5, 2]]))

    def run(rows):
        point = x[rows].requires_grad_(True)
        output = defense.bind([names[i] for i in rows])(point)
        (gradient,) = torch.autograd.grad(output.square().sum(), point)
        return output.detach(), gradient

    everything = run(list(range(7)))
    threads = torch.get_num_threads()
    try:
        for rows, count in (([5, 2], 1), ([3], 1), (list(range(7)), 3)):
            torch.set_num_threads(count)
            for some, whole in zip(run(rows), everything, strict=True):
                assert torch.equal(some, whole[rows])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ALL)
def test_predictions_are_those_of_the_outputs(kind):
    x = images(40)
    defense = ALL[kind](classifier())
    found = defense.predict(x, ids(40), [0, 3, 1])
    assert found.shape == (40, 3) and found.dtype == np.int64
    assert (found[:, 0] != found[:, 1]).any() == (kind == "noise")
    for column, draw in zip(found.T, [0, 3, 1], strict=True):
        assert (column == defense.bind(ids(40), draw)(x).argmax(1).numpy()).all()
    assert defense.predict(x, ids(40), []).shape == (40, 0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: Rounding(m, levels=1), ">= 2, got 1"),
        (lambda m: Shift(m, direction="rigth"), "did you mean 'right'"),
        (lambda m: Shift(m, pixels=8), "from 1 to 7 pixels, got 8"),
        (lambda m: Shift(m, pixels=0), "from 1 to 7 pixels, got 0"),
        (lambda m: JPEG(m, quality=0), "from 1 to 100, got 0"),
        (lambda m: JPEG(classifier((2, 8, 8))), "1 or 3 channels, got 2"),
        (lambda m: LowPass(m, cutoff=-1), ">= 0, got -1"),
        (lambda m: LowPass(m, cutoff=float("nan")), ">= 0, got nan"),
        (lambda m: Noise(m, radius=float("inf"), name=NAME), ">= 0, got inf"),
    ],
)
def test_impossible_parameters_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make(classifier())
