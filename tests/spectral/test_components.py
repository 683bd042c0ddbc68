from __future__ import annotations

import numpy as np
import pytest
import torch

from bandlimit.spectral.components import component


def images(count=5, shape=(3, 12, 10), dtype=torch.float64):
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(3), dtype=dtype)


def by_hand(x, part, radius, strict):
    """Return a component as the document writes it: a mask on the shifted spectrum."""
    height, width = x.shape[-2:]
    found = np.empty(x.shape)
    for place in np.ndindex(x.shape[:-2]):
        z = np.fft.fftshift(np.fft.fft2(x[place]))
        for i in range(height):
            for j in range(width):
                distance = np.sqrt((i - height // 2) ** 2 + (j - width // 2) ** 2)
                inside = distance < radius if strict else distance <= radius
                if inside != (part == "low"):
                    z[i, j] = 0
        back = np.fft.ifft2(np.fft.ifftshift(z))
        assert abs(back.imag).max() < 1e-12
        found[place] = back.real
    return found


@pytest.mark.parametrize("part", ["low", "high"])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("shape", [(3, 12, 10), (1, 9, 11)])
def test_is_what_the_disk_passes_or_stops(part, strict, shape):
    x = images(shape=shape)
    found = component(x, part=part, radius=3, strict=strict, scale="none")
    assert found.numpy() == pytest.approx(by_hand(x.numpy(), part, 3, strict), abs=1e-12)


def test_the_border_belongs_to_the_disk_unless_strict():
    x = images()
    wide, narrow = (component(x, part="low", radius=3, strict=s) for s in (False, True))
    assert not torch.allclose(wide, narrow)
    below = component(x, part="low", radius=2.99)
    assert torch.equal(below, narrow)


@pytest.mark.parametrize("part", ["low", "high"])
@pytest.mark.parametrize("shape", [(3, 12, 10), (1, 9, 11)])
def test_a_bandwidth_is_the_side_of_a_square(part, shape):
    x = images(shape=shape)
    found = component(x, part=part, bandwidth=5, scale="none")
    rows, columns = (abs(np.fft.fftfreq(side, 1 / side)) <= 2 for side in shape[1:])
    inside = rows[:, None] & columns[None, :]
    z = np.fft.fft2(x.numpy()) * (inside if part == "low" else ~inside)
    assert found.numpy() == pytest.approx(np.fft.ifft2(z).real, abs=1e-12)
    # No disk passes the same.
    assert not torch.allclose(found, component(x, part=part, radius=2, scale="none"))


@pytest.mark.parametrize("sizes", [{}, {"radius": 2, "bandwidth": 3}, {"radius": -1}])
def test_a_component_has_one_size(sizes):
    with pytest.raises(ValueError, match="radius"):
        component(images(), part="low", **sizes)


def test_both_parts_add_up_and_the_high_one_has_no_mean():
    x = images()
    low, high = (component(x, part=p, radius=2, scale="none") for p in ("low", "high"))
    torch.testing.assert_close(low + high, x)
    torch.testing.assert_close(high.mean((2, 3)), torch.zeros(5, 3, dtype=x.dtype))
    torch.testing.assert_close(low.mean((2, 3)), x.mean((2, 3)))


@pytest.mark.parametrize("part", ["low", "high"])
def test_each_image_is_divided_by_its_own_maximum_over_all_channels(part):
    x = images() * torch.tensor([1, 0.5, 0.25, 0.9, 0.1]).view(-1, 1, 1, 1)
    plain = component(x, part=part, radius=2, scale="none")
    scaled = component(x, part=part, radius=2)
    for one, own in zip(plain, scaled, strict=True):
        torch.testing.assert_close(own, one / one.max())
    assert (scaled.amax((1, 2, 3)) == 1).all()
    assert (scaled < 0).any() == (plain < 0).any()


def test_an_image_without_a_positive_pixel_is_left_as_it_is():
    x = torch.zeros(2, 1, 8, 8)
    x[1] = 0.5
    # All of a constant image is low.
    found = component(x, part="high", radius=0)
    assert torch.isfinite(found).all()
    assert (found[0] == 0).all() and found[1].abs().max() < 1e-6
    assert (component(x, part="low", radius=0)[0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 11)])
def test_an_image_has_the_same_bits_in_each_batch(dtype, shape):
    x = images(50, shape, dtype)
    for part in ("low", "high"):
        whole = component(x, part=part, radius=4)
        assert whole.dtype == dtype
        alone = torch.cat([component(piece, part=part, radius=4) for piece in x.split(7)])
        assert torch.equal(whole, alone)
        assert torch.equal(whole.flip(0), component(x.flip(0), part=part, radius=4))


def test_no_images_have_no_components():
    assert component(images(0), part="low", radius=1).shape == (0, 3, 12, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"part": "middle"}, "got 'middle'"),
        ({"scale": "mean"}, "'mean'"),
        ({"radius": -1}, "radius of at least 0, got 'low', 'maximum' and -1"),
        ({"images": torch.zeros(1, 1, 4, 4, dtype=torch.uint8)}, "of torch.uint8"),
        ({"images": torch.zeros(1, 4, 4)}, r"N x C x H x W, floating, got \(1, 4, 4\)"),
    ],
)
def test_mistakes_are_refused(change, message):
    given = {"images": images(), "part": "low", "radius": 2} | change
    with pytest.raises(ValueError, match=message):
        component(given.pop("images"), **given)
