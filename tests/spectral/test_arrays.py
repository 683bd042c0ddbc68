"""Spectra of arrays against those of tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bandlimit.spectral import arrays, fourier, masks
from bandlimit.spectral.components import PARTS, component

SIDES = [(28, 28), (31, 32), (9, 7)]


def signal(*shape: int) -> arrays.Floats:
    return np.random.default_rng(0).random(shape)


@pytest.mark.parametrize("sides", SIDES)
def test_magnitudes_are_those_of_the_transform(sides):
    x = signal(2, 3, *sides)
    wanted = fourier.spectrum(torch.from_numpy(x)).abs().numpy()
    assert arrays.magnitudes(x) == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("limit", [0.1, 0.25, 0.5])
def test_frequencies_beyond_a_limit_are_those_of_the_mask(sides, limit):
    assert ((arrays.frequencies(sides) > limit) == masks.beyond(sides, limit).numpy()).all()


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("radius", [0, 3, 4.5, 50])
def test_parts_are_those_that_networks_see(sides, radius):
    x = signal(2, 3, *sides)
    found = arrays.parts(x, radius)
    for part, seen in zip(PARTS, found, strict=True):
        wanted = component(torch.from_numpy(x), part=part, radius=radius, scale="none")
        assert seen == pytest.approx(wanted.numpy(), abs=1e-12)
    assert sum(found) == pytest.approx(x)
