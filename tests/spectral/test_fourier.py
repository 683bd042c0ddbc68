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


def signal(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


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


def test_filters_are_linear_and_leave_what_passes():
    x, y = signal(1, 28, 28), signal(3, 28, 28)[:1]
    disk = fourier.uncentred(masks.disk((28, 28), 5)).double()
    whole = fourier.filtered(2 * x - y, disk)
    parts = 2 * fourier.filtered(x, disk) - fourier.filtered(y, disk)
    assert torch.allclose(whole, parts, atol=1e-12)
    assert torch.allclose(fourier.filtered(whole, disk), whole, atol=1e-12)


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
@pytest.mark.parametrize("mask", [masks.disk, masks.beyond], ids=["disk", "beyond"])
def test_masks_are_symmetric_about_frequency_0(sides, mask):
    passed = fourier.uncentred(mask(sides, 3 if mask is masks.disk else 0.25))
    mirrored = torch.roll(passed.flip(0, 1), (1, 1), (0, 1))
    if mask is masks.beyond or all(side % 2 for side in sides):
        assert torch.equal(passed, mirrored)
    inner = [slice(1, side // 2) for side in sides]
    assert torch.equal(passed[inner], mirrored[inner])


def test_a_disk_holds_its_border():
    disk = masks.disk((28, 28), 5)
    centre = 14
    assert disk[centre, centre + 5] and disk[centre + 3, centre + 4]
    assert not disk[centre, centre + 6] and not disk[centre + 4, centre + 4]
    assert int(masks.disk((28, 28), 0).sum()) == 1


def test_no_other_module_has_a_transform_of_its_own():
    for path in LIBRARY.rglob("*.py"):
        if path.parent.name == "spectral":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not {name for name in names if "fft" in name or name == "dct"}, path
