"""Corruptions, against their definitions computed another way."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from bandlimit.data.corruptions import CONSTANTS, CORRUPTIONS, corrupt, disk, plasma


def image(shape=(3, 32, 32), seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape) / 255


def made(x, name, severity=3, image_id="a", seed=5):
    return corrupt(x, name, severity=severity, seed=seed, dataset="some", image_id=image_id)


def grey(value=0.5, side=128):
    return np.full((1, side, side), value)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 20, 30)])
def test_stays_in_range_and_depends_on_the_image_and_its_id_alone(name, shape):
    x = image(shape)
    before = x.copy()
    found = made(x, name)
    assert found.shape == shape and found.min() >= 0 and found.max() <= 1
    assert np.array_equal(x, before) and np.array_equal(found, made(x, name))
    assert not np.allclose(found, x)
    random = name in ("gaussian_noise", "shot_noise", "impulse_noise", "fog")
    assert np.array_equal(found, made(x, name, image_id="b")) != random
    assert np.array_equal(found, made(x, name, seed=6)) != random


def test_noise_has_the_spread_of_its_definition():
    x = grey()
    assert (made(x, "gaussian_noise") - x).std() == pytest.approx(0.08, rel=0.02)
    # Poisson: variance of counts equal to their mean.
    shot = made(x, "shot_noise") - x
    assert shot.std() == pytest.approx(np.sqrt(0.5 / 100), rel=0.02)
    counts = 100 * made(x, "shot_noise")
    assert counts == pytest.approx(np.rint(counts))
    hit = made(x, "impulse_noise")
    assert (hit != 0.5).mean() == pytest.approx(0.03, abs=0.004)
    assert set(np.unique(hit)) == {0, 0.5, 1}


def test_severities_grow():
    x = image((1, 28, 28))
    for name in CORRUPTIONS:
        sizes = [np.square(made(x, name, severity) - x).mean() for severity in range(1, 6)]
        if name == "defocus_blur":
            # The authors' radii below 1 are a single pixel, which the Gaussian alone smooths; at
            # severity 4 it is narrower.
            assert sizes[0] < sizes[1] < sizes[2] and sizes[3] < sizes[4]
        else:
            assert sizes == sorted(sizes) and sizes[0] < sizes[4], name


def test_defocus_at_severity_3_is_a_gaussian_over_nine_pixels():
    weights = np.exp(-np.array([1, 0, 1]) / (2 * 0.6**2))
    weights /= weights.sum()
    kernel = disk(*CONSTANTS["defocus_blur"][2])
    assert kernel[7:10, 7:10] == pytest.approx(np.outer(weights, weights))
    assert kernel.sum() == pytest.approx(1) and np.count_nonzero(kernel) == 9
    x = np.zeros((1, 9, 9))
    x[0, 4, 4] = 1
    assert made(x, "defocus_blur")[0, 3:6, 3:6] == pytest.approx(np.outer(weights, weights))
    # A disk of radius 1 is a plus of five pixels.
    assert np.count_nonzero(disk(1, 0.01) > 1e-9) == 5


def test_blur_spreads_a_point_as_a_gaussian_does():
    x = np.zeros((1, 15, 15))
    x[0, 7, 7] = 1
    places = np.arange(-3, 4)
    weights = np.exp(-(places**2) / (2 * 0.7**2))
    weights /= weights.sum()
    assert made(x, "gaussian_blur")[0, 4:11, 4:11] == pytest.approx(
        np.outer(weights, weights), abs=1e-9
    )


def test_contrast_draws_each_channel_to_its_mean():
    x = image()
    found = made(x, "contrast")
    means = x.mean((1, 2), keepdims=True)
    assert found - means == pytest.approx(0.4 * (x - means))


def test_brightness_raises_the_value_of_hue_saturation_and_value():
    x = image((3, 4, 4))
    x[:, 0, 0] = 0
    found = made(x, "brightness")
    for row, column in np.ndindex(4, 4):
        hue, saturation, value = colorsys.rgb_to_hsv(*x[:, row, column])
        wanted = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.15, 1))
        assert found[:, row, column] == pytest.approx(wanted)
    assert made(grey(0.3), "brightness") == pytest.approx(grey(0.45))


def test_fog_lifts_dark_pixels_within_the_brightest():
    x = image((3, 32, 32)) * 0.8
    found = made(x, "fog")
    # (x + 0.75 layer) m / (m + 0.75), the layer in [0, 1] and the same in each channel.
    brightest = x.max()
    layer = (found * (brightest + 0.75) / brightest - x) / 0.75
    assert layer.min() == pytest.approx(0, abs=1e-9) and layer.max() == pytest.approx(1)
    assert layer[0] == pytest.approx(layer[1]) and found.max() <= brightest


def test_plasma_is_smoother_where_detail_decays_faster():
    rough, smooth = (plasma(64, decay, np.random.default_rng(1)) for decay in (1.2, 3))

    def detail(x):
        return np.square(np.diff(x, axis=0)).mean() / x.var()

    assert detail(smooth) < detail(rough) / 10
    assert smooth.min() == 0 and smooth.max() == 1


def test_jpeg_and_pixelate_lose_fine_detail_and_keep_what_is_flat():
    y, x = np.mgrid[:32, :32]
    board = ((y + x) % 2).astype(float)[None]
    # Too faint for the quality.
    assert np.ptp(made(0.5 + board / 51, "jpeg")) == 0
    for name in ("jpeg", "pixelate"):
        assert made(grey(128 / 255, 32), name) == pytest.approx(grey(128 / 255, 32), abs=1e-9)
        assert np.abs(made(board, name) - board).max() > 0.05
        found = 255 * made(image(), name)
        assert found == pytest.approx(np.rint(found))
    # 27 of 32 pixels are left, int(0.85 * 32): some pairs are averaged.
    assert 0.1 < made(board, "pixelate").std() < board.std()


def test_mistakes_are_refused():
    for name, severity in (("rain", 3), ("fog", 0), ("fog", 6)):
        with pytest.raises(ValueError, match="corruptions are gaussian_noise, .* at severities"):
            made(grey(), name, severity)
