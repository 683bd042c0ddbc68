"""The discrete Fourier transform over the last two axes of images, on a CPU or a card.

Image frequency, over the positions of pixels; it says nothing of the frequencies of the function
that a network computes. Spectra are centred: frequency 0 lies at index n // 2 of each side n.

Source: "A frequency domain analysis of gradient-based adversarial examples", section 3; "High
Frequency Component Helps Explain the Generalization of Convolutional Neural Networks", eq. 1.

Measures take real images and need half of the plane, H x (W // 2 + 1), since the other half mirrors
it. They are computed in the type of their input. In float32 an error of about 1e-7 of the largest
magnitude, that of frequency 0, covers what lies in weak frequencies, so relative measures want
float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import torch
from torch import Tensor
from torch.nn import functional

from bandlimit.spectral import masks
from bandlimit.spectral.shells import Shells, shells

AXES = (-2, -1)
"""Height and width; images of a batch, and their channels, are transformed apart."""

FLOOR = 1e-8
"""What is added to magnitudes under a logarithm, or in a denominator."""

STEPS = (2.0**14, 2.0**-16, 2.0**-46, 2.0**-76)
"""Steps of the parts that values of maps are added up in; see `_sums`."""


def spectrum(x: Tensor) -> Tensor:
    """Return the centred spectrum of a real signal, ... x H x W, complex."""
    return torch.fft.fftshift(torch.fft.fft2(x, dim=AXES), dim=AXES)


def power(x: Tensor) -> Tensor:
    """Return the squared magnitudes of the centred spectrum, ... x H x W."""
    return spectrum(x).abs() ** 2


def uncentred(mask: Tensor) -> Tensor:
    """Return a mask of a centred spectrum, H x W, in the order of the transform itself."""
    return torch.fft.ifftshift(mask, dim=AXES)


def filtered(x: Tensor, passed: Tensor) -> Tensor:
    """Return the part of a real signal, ... x H x W, that a mask lets pass.

    Args:
        x: the signal; it is not clipped.
        passed: H x W, the mask in the order of the transform, as `uncentred` gives it, of the type
            of x; symmetric about frequency 0, so that what passes is real.
    """
    return torch.fft.ifft2(torch.fft.fft2(x, dim=AXES) * passed, dim=AXES).real


def split(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the low-frequency and the high-frequency part of a signal; they add up to it.

    Neither is clipped: the low part of an image leaves [0, 1], the high part has a mean of 0 where
    frequency 0 is low.

    Args:
        x: the signal, ... x H x W, real.
        mask: what counts as low, H x W, centred, bool.

    Returns:
        Both of the shape and type of x.

    Raises:
        ValueError: the mask is of another size, or not symmetric about frequency 0, so that what
            passes would not be real.
    """
    if mask.shape != x.shape[-2:]:
        raise ValueError(
            f"a mask has the height and width of the signal, {tuple(x.shape[-2:])}, "
            f"got {tuple(mask.shape)}"
        )
    if not masks.is_symmetric(mask):
        raise ValueError(
            "a mask must be symmetric about frequency 0, got one that passes a frequency without "
            "its opposite"
        )
    passed = uncentred(mask)[:, : x.shape[-1] // 2 + 1].to(x)
    low = torch.fft.irfft2(torch.fft.rfft2(x, dim=AXES) * passed, s=x.shape[-2:], dim=AXES)
    return low, x - low


def energies(x: Tensor) -> Tensor:
    """Return the energy |F(x)|^2 in each shell, summed over channels, N x S.

    They add up to H W times the squared L2 norm. With `shells.lfc_ratio` they give the share of any
    disk.

    Args:
        x: N x C x H x W, real.
    """
    return _shell_sums(_squared(torch.fft.rfft2(x, dim=AXES)), shells(x.shape[-2:]))


@dataclass(frozen=True)
class Bins:
    """What images and their perturbations hold at each frequency, N x C x H x (W // 2 + 1) each.

    Attributes:
        power: |F(d)|^2.
        clean_power: |F(x)|^2.
        magnitudes: |F(d)|.
        clean_magnitudes: |F(x)|.
        log_difference: 20 |log10(|F(x + d)| + 1e-8) - log10(|F(x)| + 1e-8)|, in decibels.
        relative: |F(d)| / (|F(x)| + 1e-8).
        sides: H and W.
    """

    power: Tensor
    clean_power: Tensor
    magnitudes: Tensor
    clean_magnitudes: Tensor
    log_difference: Tensor
    relative: Tensor
    sides: tuple[int, int]


@torch.no_grad()
def bins(x: Tensor, d: Tensor) -> Bins:
    """Return what images and perturbations hold at each frequency, from one transform of each.

    There is no gradient.

    Args:
        x: images, N x C x H x W, real.
        d: perturbations, of the shape and type of x; not rounded to 8 bits.

    Raises:
        ValueError: shapes or types differ, or are not those.
    """
    if x.shape != d.shape or x.dtype != d.dtype or x.ndim != 4:
        raise ValueError(
            "images and perturbations are N x C x H x W of one type, got "
            f"{tuple(x.shape)} of {x.dtype} and {tuple(d.shape)} of {d.dtype}"
        )
    of_x, of_d = torch.fft.rfft2(x, dim=AXES), torch.fft.rfft2(d, dim=AXES)
    clean_power, power = _squared(of_x), _squared(of_d)
    clean_magnitudes, magnitudes = clean_power.sqrt(), power.sqrt()
    floored = clean_magnitudes + FLOOR
    # The transform is linear, and a difference of logarithms is the logarithm of a ratio.
    changed = _squared(of_d.add_(of_x)).sqrt_().add_(FLOOR)
    return Bins(
        power=power,
        clean_power=clean_power,
        magnitudes=magnitudes,
        clean_magnitudes=clean_magnitudes,
        log_difference=changed.div_(floored).log10_().abs_().mul_(20),
        relative=magnitudes / floored,
        sides=(x.shape[-2], x.shape[-1]),
    )


@dataclass(frozen=True)
class Measures:
    """Spectra of images and their perturbations by shell, N x S each, channels taken together.

    Attributes:
        energies: sum of |F(d)|^2 over the bins of a shell and the channels.
        clean_energies: the same of |F(x)|^2.
        magnitudes: sum of |F(d)|.
        log_difference: mean over bins and channels of the log-spectrum difference, in decibels; see
            `Bins`.
        relative: mean of |F(d)| / (|F(x)| + 1e-8).
    """

    energies: Tensor
    clean_energies: Tensor
    magnitudes: Tensor
    log_difference: Tensor
    relative: Tensor


def measured(x: Tensor, d: Tensor, maps: Maps | None = None) -> Measures:
    """Return the spectra by shell of images and perturbations, from one transform of each.

    There is no gradient.

    Args:
        x: images, N x C x H x W, real.
        d: perturbations, of the shape and type of x.
        maps: if given, mean maps that these images are added to, from the same transforms.

    Raises:
        ValueError: shapes or types differ, or are not those.
    """
    found = bins(x, d)
    if maps is not None:
        maps.add(found)
    return by_shell(found)


def by_shell(found: Bins) -> Measures:
    """Return the spectra by shell of what images hold at each frequency."""
    of = shells(found.sides)
    counts = torch.tensor(of.counts).to(found.power) * found.power.shape[1]
    return Measures(
        energies=_shell_sums(found.power, of),
        clean_energies=_shell_sums(found.clean_power, of),
        magnitudes=_shell_sums(found.magnitudes, of),
        log_difference=_shell_sums(found.log_difference, of) / counts,
        relative=_shell_sums(found.relative, of) / counts,
    )


class Maps:
    """Mean spectra over images and channels, as maps of the whole plane, batch by batch.

    They have the same bits in whatever order and batches the images come.

    Images without a perturbation are counted, and are part of no map, since they would pull the
    mean of a logarithm down to that of 1e-8.

    Args:
        sides: H and W.

    Attributes:
        images: how many the maps are means over.
        zero: how many had no perturbation.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        self.sides = (int(sides[0]), int(sides[1]))
        self.images = 0
        self.zero = 0
        self._channels = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, found: Bins) -> None:
        """Add images.

        Raises:
            ValueError: they are of another size, or have another number of channels.
        """
        channels = found.power.shape[1]
        if found.sides != self.sides or self._channels not in (0, channels):
            raise ValueError(
                f"maps of spectra of {self.sides} and {self._channels or 'any'} channels can't "
                f"take {found.sides} and {channels}"
            )
        self._channels = channels
        kept = ~(found.power == 0).flatten(1).all(dim=1)
        images = int(kept.sum())
        self.zero += len(kept) - images
        self.images += images
        values = {
            "magnitudes": found.magnitudes,
            "log_magnitudes": (found.magnitudes + FLOOR).log10(),
            "clean_magnitudes": found.clean_magnitudes,
            "log_difference": found.log_difference,
            "relative": found.relative,
        }
        for name, value in values.items():
            sums = _sums(value[kept].double())
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def means(self) -> dict[str, Tensor]:
        """Return the mean maps by name, H x W each, centred, float64.

        Names are 'magnitudes' of the perturbations, 'log_magnitudes', which is the mean of
        log10(|F(d)| + 1e-8), 'clean_magnitudes' of the images, 'log_difference' in decibels, and
        'relative'; see `Bins`.

        Raises:
            ValueError: no image with a perturbation was added.
        """
        if not self.images:
            raise ValueError("a mean map needs at least one image with a perturbation, got none")
        return {
            # The small parts first, so that they are not lost beside the great ones.
            name: whole(
                reduce(torch.add, sums.flip(0)) / (self.images * self._channels), self.sides
            )
            for name, sums in self._sums.items()
        }


def whole(half: Tensor, sides: Sequence[int]) -> Tensor:
    """Return a centred plane, ... x H x W, from the half that a real transform gives.

    Args:
        half: ... x H x (W // 2 + 1), values that are equal at opposite frequencies.
        sides: H and W.
    """
    height, width = sides
    rows = torch.arange(height, device=half.device)[:, None]
    columns = torch.arange(width, device=half.device)[None, :]
    mirrored = columns > width // 2
    rows = torch.where(mirrored, -rows % height, rows)
    columns = torch.where(mirrored, width - columns, columns)
    return torch.fft.fftshift(half[..., rows, columns], dim=AXES)


def _sums(values: Tensor) -> Tensor:
    """Return exact sums over images and channels, in parts, 4 x H x (W // 2 + 1).

    Each value is cut into whole numbers of the `STEPS`, whose sums are exact in any order, as those
    of floating-point numbers are not. That holds for values up to 2^44, of which magnitudes of
    images and ratios to 1e-8 stay below, and for 2^23 of them; what is left of a value beyond the
    last step is dropped.

    Args:
        values: N x C x H x (W // 2 + 1), float64; changed in place.
    """
    sums = []
    for step in STEPS:
        # Numbers of this size have no bits for less than a step.
        rounding = 1.5 * 2**52 * step
        part = (values + rounding).sub_(rounding)
        sums.append(part.sum(dim=(0, 1)))
        values.sub_(part)
    return torch.stack(sums)


def _squared(z: Tensor) -> Tensor:
    """Return squared magnitudes, without the square root that `abs` takes."""
    parts = torch.view_as_real(z).square()
    return parts[..., 0] + parts[..., 1]


def _shell_sums(values: Tensor, of: Shells) -> Tensor:
    """Return the sums over channels and the whole plane, N x S, of N x C x H x (W // 2 + 1)."""
    weights, index, members = _tables(of.sides, values.device)
    half = (values.sum(dim=1) * weights.to(values)).flatten(1)
    if values.device.type != "cpu":
        return _gathered(half, members)
    return half.new_zeros(len(half), len(of.squared)).index_add_(1, index, half)


def _gathered(half: Tensor, members: Tensor) -> Tensor:
    """Return the sums of the bins of each shell, N x S, of N x bins.

    Slower on a CPU than to add each bin to its shell, which a card does in another order each time.
    """
    padded = functional.pad(half, (0, 1))
    return padded.index_select(1, members.flatten()).unflatten(1, members.shape).sum(dim=1)


@lru_cache(maxsize=16)
def _tables(sides: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights and the shells of bins, and the bins of each shell, most x S.

    Shells with fewer bins than the largest are filled up with one beyond the last.
    """
    of = shells(sides)
    # Tensors made in inference mode could not take part in a gradient later.
    with torch.inference_mode(False):
        index = torch.tensor(of.index.flatten())
        order = index.argsort(stable=True)
        sizes = index.bincount()
        place = torch.arange(len(order)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        members = torch.full((int(sizes.max()), len(sizes)), len(order))
        members[place, index[order]] = order
        return torch.tensor(of.weights).to(device), index.to(device), members.to(device)
