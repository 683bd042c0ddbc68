"""Spectra of images and perturbations by shell, and their mean maps."""

from __future__ import annotations

import math

import numpy as np
import plain_spectra as plain
import pytest
import torch

from bandlimit.spectral import fourier, masks
from bandlimit.spectral.shells import lfc_ratio, shells

TYPES = [(torch.float64, 1e-10), (torch.float32, 2e-3)]
"""A type, and how far relative to a shell's own value rounding may carry it."""


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    return plain.images(*shape, dtype=dtype), plain.perturbations(*shape, dtype=dtype)


@pytest.mark.parametrize("sides", plain.SIDES)
@pytest.mark.parametrize(("dtype", "close"), TYPES)
def test_measures_are_those_of_the_definition(sides, dtype, close):
    x, d = pair(3, 2, *sides, dtype=dtype)
    found = fourier.measured(x, d)
    expected = {
        "energies": plain.by_shell(np.abs(plain.spectrum(d)) ** 2),
        "clean_energies": plain.by_shell(np.abs(plain.spectrum(x)) ** 2),
        "magnitudes": plain.by_shell(np.abs(plain.spectrum(d))),
        "log_difference": plain.shell_means(plain.log_difference(x.double(), d.double())),
        "relative": plain.shell_means(plain.relative(x, d)),
    }
    assert set(expected) == set(vars(found))
    for name, values in expected.items():
        measure = getattr(found, name)
        assert measure.dtype == dtype
        assert np.allclose(measure.double().numpy(), values, rtol=close, atol=0), name


@pytest.mark.parametrize("sides", plain.SIDES)
def test_energies_are_that_of_the_signal(sides):
    x = plain.images(4, 3, *sides)
    energy = fourier.energies(x).sum(dim=1) / math.prod(sides)
    assert torch.allclose(energy, x.square().sum(dim=(1, 2, 3)))
    assert torch.equal(fourier.energies(x), fourier.measured(x, x * 0).clean_energies)


@pytest.mark.parametrize("sides", plain.SIDES)
@pytest.mark.parametrize("frequency", [(0, 0), (1, 0), (0, 3), (2, 3), (-2, 3), (4, 4)])
def test_a_wave_lies_in_its_shell_with_its_energy(sides, frequency):
    rows, columns = (torch.arange(side, dtype=torch.float64) / side for side in sides)
    phase = frequency[0] * rows[:, None] + frequency[1] * columns[None, :] + 0.1
    wave = torch.sin(2 * math.pi * phase).expand(1, 1, *sides)
    energies, found = fourier.energies(wave)[0], shells(sides)
    expected = np.zeros(len(found.squared))
    own = np.flatnonzero(found.squared == frequency[0] ** 2 + frequency[1] ** 2)
    expected[own] = math.prod(sides) * float(wave.square().sum())
    assert np.allclose(energies.numpy(), expected, atol=1e-8, rtol=1e-10)


def test_the_highest_frequency_of_an_even_side_is_counted_once():
    signs = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)
    for wave, squared in ((signs[None, :].expand(6, 8), 16), (signs[:6, None].expand(6, 8), 9)):
        energies, found = fourier.energies(wave[None, None]), shells((6, 8))
        own = int(np.flatnonzero(found.squared == squared)[0])
        assert float(energies[0, own]) == pytest.approx(48.0**2)
        assert float(energies.sum()) == pytest.approx(48.0**2)


@pytest.mark.parametrize("sides", [(12, 9), (9, 12)])
def test_images_are_measured_apart_and_channels_together(sides):
    x, d = pair(4, 3, *sides)
    found = fourier.measured(x, d)
    order, channels = torch.tensor([2, 0, 3, 1]), torch.tensor([2, 0, 1])
    changed = fourier.measured(x[order][:, channels], d[order][:, channels])
    single = fourier.measured(x[1:2], d[1:2])
    by_channel = [fourier.measured(x[:, [c]], d[:, [c]]) for c in range(3)]
    for name, values in vars(found).items():
        assert torch.allclose(vars(changed)[name], values[order], rtol=1e-12)
        assert torch.equal(vars(single)[name], values[1:2])
        total = sum(vars(part)[name] for part in by_channel)
        means = name in ("log_difference", "relative")
        assert torch.allclose(total / 3 if means else total, values, rtol=1e-12)


def test_energies_are_quadratic_and_magnitudes_linear_in_the_perturbation():
    x, d = pair(2, 3, 12, 9)
    once, twice = fourier.measured(x, d), fourier.measured(x, -2 * d)
    assert torch.allclose(twice.energies, 4 * once.energies)
    assert torch.allclose(twice.magnitudes, 2 * once.magnitudes)
    assert torch.allclose(twice.relative, 2 * once.relative)
    assert torch.equal(twice.clean_energies, once.clean_energies)


def test_a_perturbation_that_scales_the_image_changes_all_frequencies_alike():
    x = plain.images(2, 3, 12, 9)
    found = fourier.measured(x, x * 9)
    assert torch.allclose(found.log_difference, torch.full_like(found.energies, 20.0), atol=1e-4)
    assert torch.allclose(found.relative, torch.full_like(found.energies, 9.0), atol=1e-4)


def test_without_a_perturbation_nothing_differs():
    x = plain.images(2, 3, 12, 9)
    found = fourier.measured(x, torch.zeros_like(x))
    for name in ("energies", "magnitudes", "log_difference", "relative"):
        assert not vars(found)[name].any()


def test_images_without_energy_stay_finite():
    d = plain.perturbations(1, 3, 12, 9)
    found = fourier.measured(torch.zeros_like(d), d)
    assert all(bool(values.isfinite().all()) for values in vars(found).values())
    assert not found.clean_energies.any() and float(found.relative.min()) > 1e4


def test_each_tensor_is_transformed_once(monkeypatch):
    transformed, transform = [], torch.fft.rfft2
    monkeypatch.setattr(
        torch.fft, "rfft2", lambda of, **options: transformed.append(of) or transform(of, **options)
    )
    for name in ("fft2", "ifft2", "irfft2", "fftn", "rfftn"):
        monkeypatch.delattr(torch.fft, name)
    x, d = pair(2, 3, 12, 9)
    fourier.measured(x, d, fourier.Maps((12, 9)))
    assert len(transformed) == 2 and transformed[0] is x and transformed[1] is d


@pytest.mark.parametrize("sides", plain.SIDES)
def test_a_card_adds_up_the_same_shells(sides):
    half = plain.images(3, math.prod(shells(sides).index.shape))
    weights, index, members = fourier._tables(sides, half.device)
    assert torch.equal(weights, torch.tensor(shells(sides).weights))
    expected = torch.zeros(3, len(shells(sides).squared)).double().index_add_(1, index, half)
    assert torch.allclose(fourier._gathered(half, members), expected, rtol=1e-12)


def test_energies_made_in_inference_leave_gradients_possible():
    x = plain.images(1, 2, 7, 10)
    with torch.inference_mode():
        before = fourier.energies(x)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(fourier.energies(y).sum(), y)
    assert torch.allclose(gradient, 2 * 70 * x)
    assert torch.equal(fourier.energies(x), before)


@pytest.mark.parametrize(
    "d", [torch.zeros(2, 3, 8, 9), torch.zeros(2, 3, 8, 8, dtype=torch.float64)]
)
def test_perturbations_of_another_shape_or_type_are_refused(d):
    with pytest.raises(ValueError, match="of one type, got"):
        fourier.measured(torch.zeros(2, 3, 8, 8), d)


def test_a_batch_is_needed():
    with pytest.raises(ValueError, match="N x C x H x W"):
        fourier.measured(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8))


@pytest.mark.parametrize("sides", plain.SIDES)
@pytest.mark.parametrize("sizes", [(5,), (2, 3), (1, 1, 3)])
def test_maps_are_means_over_images_and_channels_of_the_whole_plane(sides, sizes):
    x, d = pair(5, 3, *sides)
    maps = fourier.Maps(sides)
    for images, perturbations in zip(x.split(sizes), d.split(sizes), strict=True):
        maps.add(fourier.bins(images, perturbations))
    magnitudes = np.abs(plain.spectrum(d))
    expected = {
        "magnitudes": magnitudes,
        "log_magnitudes": np.log10(magnitudes + plain.FLOOR),
        "clean_magnitudes": np.abs(plain.spectrum(x)),
        "log_difference": plain.log_difference(x, d),
        "relative": plain.relative(x, d),
    }
    found = maps.means()
    assert set(found) == set(expected) and (maps.images, maps.zero) == (5, 0)
    for name, values in expected.items():
        assert found[name].dtype == torch.float64
        assert np.allclose(found[name].numpy(), values.mean(axis=(0, 1)), rtol=1e-9, atol=1e-12)
        opposite = found[name].numpy()[np.ix_(*((s // 2 * 2 - np.arange(s)) % s for s in sides))]
        assert np.allclose(found[name].numpy(), opposite, rtol=1e-9)


def test_maps_have_the_same_bits_in_any_order_and_batches():
    x, d = pair(40, 3, 12, 9)

    def means(order, sizes):
        maps = fourier.Maps((12, 9))
        for part in torch.tensor(order).split(sizes):
            maps.add(fourier.bins(x[part], d[part]))
        return maps.means()

    expected = means(range(40), 40)
    for order in (range(40), range(39, -1, -1), [*range(0, 40, 2), *range(1, 40, 2)]):
        for sizes in (1, 7, 40):
            for name, values in means(order, sizes).items():
                assert torch.equal(values, expected[name])


def test_sums_of_maps_are_those_of_their_values():
    """Of numbers from 1e-14 to 1e12, cancelling and not."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(50, 2, 4, 3)) * 10.0 ** generator.integers(
        -14, 12, (1, 1, 4, 3)
    )
    found = sum(fourier._sums(torch.from_numpy(values.copy())).flip(0)).numpy()
    for row, column in np.ndindex(4, 3):
        expected = math.fsum(values[:, :, row, column].ravel())
        assert found[row, column] == pytest.approx(expected, rel=1e-15)


def test_images_without_a_perturbation_are_counted_and_in_no_map():
    x, d = pair(4, 3, 12, 9)
    d[1] = 0
    maps, others = fourier.Maps((12, 9)), fourier.Maps((12, 9))
    fourier.measured(x, d, maps)
    kept = torch.tensor([0, 2, 3])
    fourier.measured(x[kept], d[kept], others)
    assert (maps.images, maps.zero) == (3, 1)
    for name, values in others.means().items():
        assert torch.allclose(maps.means()[name], values, rtol=1e-12)


def test_an_image_that_is_not_finite_shows_in_its_map():
    x, d = pair(2, 1, 8, 8)
    d[0, 0, 0, 0] = math.nan
    maps = fourier.Maps((8, 8))
    fourier.measured(x, d, maps)
    assert maps.images == 2 and bool(maps.means()["magnitudes"].isnan().all())


def test_maps_of_nothing_are_refused():
    maps = fourier.Maps((8, 8))
    fourier.measured(torch.rand(2, 3, 8, 8), torch.zeros(2, 3, 8, 8), maps)
    with pytest.raises(ValueError, match="at least one image"):
        maps.means()


@pytest.mark.parametrize("shape", [(1, 3, 8, 9), (1, 1, 8, 8)])
def test_maps_take_images_of_one_size(shape):
    maps = fourier.Maps((8, 8))
    maps.add(fourier.bins(*pair(1, 3, 8, 8)))
    with pytest.raises(ValueError, match="can't take"):
        maps.add(fourier.bins(*pair(*shape)))


@pytest.mark.parametrize("sides", plain.SIDES)
def test_a_split_moves_all_low_energy_to_the_low_part(sides):
    x, found = plain.images(3, 2, *sides), shells(sides)
    low, high = fourier.split(x, masks.disk(sides, 4))
    assert torch.allclose(lfc_ratio(fourier.energies(low), found, 4), torch.ones(3).double())
    assert float(lfc_ratio(fourier.energies(high), found, 4).max()) < 1e-20
