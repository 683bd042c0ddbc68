"""The one Fourier transform of the project, and its masks."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import torch

from bandlimit.spectral import fourier, masks

LIBRARY = Path(__file__).parents[2] / "bandlimit"
SIDES = [(28, 28), (31, 32), (9, 7)]


def signal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("radius", [0, 3, 4.5])
def test_low_and_high_parts_add_up(sides, radius):
    x = signal(2, 3, *sides)
    disk = fourier.uncentred(masks.disk(sides, radius))
    low, high = fourier.filtered(x, disk.double()), fourier.filtered(x, (~disk).double())
    assert torch.allclose(low + high, x, atol=1e-12)


@pytest.mark.parametrize("sides", SIDES)
def test_power_is_that_of_the_signal(sides):
    x = signal(3, *sides)
    assert fourier.power(x).sum() / math.prod(sides) == pytest.approx(float((x**2).sum()))


@pytest.mark.parametrize("sides", SIDES)
def test_spectra_are_linear(sides):
    x, y = signal(2, *sides), signal(2, *sides, seed=1)
    parts = 2 * fourier.spectrum(x) - fourier.spectrum(y)
    assert torch.allclose(fourier.spectrum(2 * x - y), parts, atol=1e-10)


@pytest.mark.parametrize("sides", SIDES)
def test_filters_are_linear_and_leave_what_passes(sides):
    x, y = signal(1, *sides), signal(1, *sides, seed=1)
    disk = fourier.uncentred(masks.disk(sides, 3)).double()
    whole = fourier.filtered(2 * x - y, disk)
    parts = 2 * fourier.filtered(x, disk) - fourier.filtered(y, disk)
    assert torch.allclose(whole, parts, atol=1e-12)
    assert torch.allclose(fourier.filtered(whole, disk), whole, atol=1e-12)
    assert not torch.allclose(whole, 2 * x - y, atol=0.1)


@pytest.mark.parametrize("sides", SIDES)
def test_the_gradient_of_a_filter_is_filtered(sides):
    x, weights = signal(2, *sides).requires_grad_(), signal(2, *sides, seed=1)
    disk = fourier.uncentred(masks.disk(sides, 3)).double()
    (gradient,) = torch.autograd.grad((fourier.filtered(x, disk) * weights).sum(), x)
    assert torch.allclose(gradient, fourier.filtered(weights, disk), atol=1e-12)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("radius", [0, 3, 4.5, 14])
def test_what_a_disk_passes_is_real(sides, radius):
    x = signal(2, *sides)
    passed = fourier.uncentred(masks.disk(sides, radius)).double()
    complete = torch.fft.ifft2(torch.fft.fft2(x) * passed)
    assert float(complete.imag.abs().max()) < 1e-12


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("frequency", [(0, 0), (1, 0), (2, 3), (0, 3)])
def test_a_wave_lies_at_its_frequency(sides, frequency):
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in sides)
    phase = frequency[0] * rows[:, None] / sides[0] + frequency[1] * columns[None, :] / sides[1]
    power = fourier.power(torch.cos(2 * math.pi * phase))
    centre = [side // 2 for side in sides]
    expected = {
        tuple(c + sign * f for c, f in zip(centre, frequency, strict=True)) for sign in (1, -1)
    }
    found = {tuple(place) for place in (power > power.max() * 1e-9).nonzero().tolist()}
    assert found == expected


def test_only_the_last_two_axes_are_shifted():
    x = torch.zeros(4, 3, 8, 8, dtype=torch.float64)
    x[1, 2] = 1
    power = fourier.power(x)
    assert power[1, 2, 4, 4] == pytest.approx(64.0**2)
    power[1, 2, 4, 4] = 0
    assert float(power.max()) == pytest.approx(0)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize(
    ("mask", "limit"),
    [(masks.disk, 3), (masks.disk, 4.5), (masks.disk, 14), (masks.beyond, 0.25)],
)
def test_masks_are_symmetric_about_frequency_0(sides, mask, limit):
    passed = fourier.uncentred(mask(sides, limit))
    # The opposite of index i is -i modulo the side; the highest of an even side is its own.
    mirrored = torch.roll(passed.flip(0, 1), (1, 1), (0, 1))
    assert torch.equal(passed, mirrored)


def test_a_disk_holds_its_border():
    disk = masks.disk((28, 28), 5)
    centre = 14
    assert disk[centre, centre + 5] and disk[centre + 3, centre + 4]
    assert not disk[centre, centre + 6] and not disk[centre + 4, centre + 4]
    assert int(masks.disk((28, 28), 0).sum()) == 1


def test_beyond_leaves_out_its_border():
    beyond = masks.beyond((28, 20), 0.25)
    assert not beyond[14 + 7, 10] and not beyond[14, 10 + 5]
    assert beyond[14 + 8, 10] and beyond[14, 10 + 6] and beyond[14 + 7, 10 + 1]
    assert not masks.beyond((9, 7), 0.8).any()


def transforms(source: str) -> set[str]:
    """Return the names of Fourier and cosine transforms that a module imports or asks for."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            names |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {part for alias in node.names for part in alias.name.split(".")}
    return {name for name in names if "fft" in name or name.strip("in") in ("dct", "dst")}


@pytest.mark.parametrize(
    "source",
    [
        "torch.fft.rfft2(x)",
        "numpy.fft.fftshift(x)",
        "import scipy.fft as f",
        "from torch.fft import irfft2 as back",
        "from scipy import fftpack",
        "from numpy import fft",
        "f.dctn(x)",
        "f.idct(x)",
    ],
)
def test_a_transform_is_seen_however_it_is_asked_for(source):
    assert transforms(source)
    assert not transforms("difference = strict(product) + interindicted")


def test_no_other_module_has_a_transform_of_its_own():
    # Simulations in one dimension, of arrays that are no images, take numpy's.
    apart = {
        LIBRARY / "studies/perturbation_spectra/theorems.py",
        LIBRARY / "studies/frequency_principle/response/sinusoids.py",
    }
    paths = [
        path
        for path in LIBRARY.rglob("*.py")
        if path.parent != LIBRARY / "spectral" and path not in apart
    ]
    assert len(paths) > 50
    for path in [*paths, *(LIBRARY.parent / "scripts").rglob("*.py")]:
        assert not transforms(path.read_text(encoding="utf-8")), path
