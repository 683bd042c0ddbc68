"""How fast spectra of perturbations are measured here, beside the plain numpy procedure.

All that spectral records hold, of images and perturbations: energies of both, magnitudes, the
log-spectrum difference, the relative magnitude, and the relative change of DCT coefficients. The
plain side transforms x, d and x + d on the whole plane, shifts them, and sums over a mask for each
radius and each ring; with 'masks as a product', all masks at once, as a product of matrices. It
takes batches small enough for the cache. This side streams batches into records, and reads the same
numbers from their columns, which hold the answer for all other radii, too. Sides take turns within
each repetition, in one process with the memory settings of a job
(`bandlimit.provenance.job.keep_memory`), which help both.

    python benchmarks/spectra.py
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import scipy.fft
import torch
from numpy.typing import NDArray

from bandlimit.provenance.job import keep_memory
from bandlimit.spectral import records
from bandlimit.spectral.shells import lfc_ratio, per_shell, radial_profile, ring_means, shells

SIDES = (32, 32)
RADII = range(1, 23)
FLOOR = 1e-8

Numbers = dict[str, NDArray[np.float64]]
Side = Callable[[torch.Tensor, torch.Tensor, int], Numbers]


def plain_masks() -> tuple[list[NDArray[np.bool_]], list[NDArray[np.bool_]]]:
    """Return the masks of all disks and of all rings, H x W each."""
    rows, columns = np.indices(SIDES)
    distance = np.hypot(rows - SIDES[0] // 2, columns - SIDES[1] // 2)
    rings = np.round(distance)
    return (
        [distance <= radius for radius in RADII],
        [rings == k for k in range(int(rings.max()) + 1)],
    )


def shifted(x: NDArray[np.floating]) -> NDArray[np.complexfloating]:
    """Return the centred spectrum of the whole plane."""
    return np.fft.fftshift(np.fft.fft2(x, axes=(-2, -1)), axes=(-2, -1))


def plain(dtype: str, *, product: bool) -> Side:
    """Return the plain procedure in a floating point type."""
    masks = dict(zip(("disks", "rings"), plain_masks(), strict=True))
    matrices = {
        name: np.stack([mask.ravel() for mask in of], axis=1).astype(dtype)
        for name, of in masks.items()
    }
    sizes = matrices["rings"].sum(axis=0)

    def summed(values: NDArray[np.floating], over: str) -> NDArray[np.floating]:
        if product:
            return values.reshape(len(values), -1) @ matrices[over]
        return np.stack([values[:, mask].sum(axis=1) for mask in masks[over]], axis=1)

    def batch(x: NDArray[np.floating], d: NDArray[np.floating]) -> Numbers:
        of_x, of_d, of_both = shifted(x), shifted(d), shifted(x + d)
        clean, magnitudes = np.abs(of_x), np.abs(of_d)
        difference = 20 * np.abs(np.log10(np.abs(of_both) + FLOOR) - np.log10(clean + FLOOR))
        relative = magnitudes / (clean + FLOOR)
        before, after = (scipy.fft.dctn(of, axes=(-2, -1), norm="ortho") for of in (x, x + d))
        found = {
            "rct": (np.abs(after - before) / (np.abs(before) + FLOOR)).mean(axis=(1, 2, 3)),
            "l2": np.linalg.norm(d.reshape(len(d), -1), axis=1),
            "linf": np.abs(d).max(axis=(1, 2, 3)),
        }
        for name, spectrum in (("ratio", magnitudes), ("clean ratio", clean)):
            power = (spectrum**2).sum(axis=1)
            found[name] = summed(power, "disks") / power.sum(axis=(1, 2))[:, None]
        for name, values in (("difference", difference), ("relative", relative)):
            found[name] = summed(values.mean(axis=1), "rings") / sizes
        profile = summed(magnitudes.mean(axis=1), "rings") / sizes
        found["profile"] = profile / magnitudes.mean(axis=(1, 2, 3))[:, None]
        return found

    def run(x: torch.Tensor, d: torch.Tensor, size: int) -> Numbers:
        batches = [
            batch(images.numpy().astype(dtype), perturbations.numpy().astype(dtype))
            for images, perturbations in zip(x.split(size), d.split(size), strict=True)
        ]
        return {name: np.concatenate([part[name] for part in batches]) for name in batches[0]}

    return run


def here(x: torch.Tensor, d: torch.Tensor, size: int) -> Numbers:
    """Stream batches into records, and read the same numbers from their columns."""
    ids, of = [str(i) for i in range(len(x))], shells(SIDES)
    table = pa.concat_tables(
        records.spectra(ids[i : i + size], x[i : i + size], d[i : i + size])
        for i in range(0, len(x), size)
    )

    def ratios(name: str) -> NDArray[np.float64]:
        energies = per_shell(table, name)
        return np.stack([lfc_ratio(energies, of, radius) for radius in RADII], axis=1)

    return {
        **{name: table[name].to_numpy() for name in ("rct", "l2", "linf")},
        "ratio": ratios("energies"),
        "clean ratio": ratios("clean_energies"),
        "difference": ring_means(per_shell(table, "log_difference"), of),
        "relative": ring_means(per_shell(table, "relative"), of),
        "profile": radial_profile(per_shell(table, "magnitudes"), of),
    }


def main() -> None:
    """Measure, check that all sides agree, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=500, help="of records here")
    parser.add_argument("--plain-batch", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    keep_memory()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(options.images, 3, *SIDES, generator=generator)
    d = torch.randn(options.images, 3, *SIDES, generator=generator) * (8 / 255)
    sides: dict[str, Side] = {
        "plain, float64": plain("float64", product=False),
        "plain, masks as a product, float64": plain("float64", product=True),
        "plain, masks as a product, float32": plain("float32", product=True),
        "here, float64": here,
    }
    first = next(iter(sides))
    print(
        f"{options.images} images of 3 x {SIDES[0]} x {SIDES[1]}, batches of {options.batch} "
        f"(plain {options.plain_batch}), "
        f"{options.repetitions} repetitions, {options.threads} threads, {platform.machine()}, "
        f"torch {torch.__version__}, numpy {np.__version__}\n"
    )
    print("| side | seconds | times as fast (min to max) | largest relative difference |")
    print("|---|--:|--:|--:|")
    times: dict[str, list[float]] = {name: [] for name in sides}
    found: dict[str, Numbers] = {}
    for repetition in range(options.repetitions + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            found[name] = side(x, d, options.batch if side is here else options.plain_batch)
            # The first turn warms caches and thread pools.
            if repetition:
                times[name].append(time.perf_counter() - start)
    for name in sides:
        ratios = [a / b for a, b in zip(times[first], times[name], strict=True)]
        apart = {
            of: float(np.max(np.abs(found[name][of] / values - 1)))
            for of, values in found[first].items()
        }
        if "float64" in name and not max(apart.values()) < 1e-6:
            raise SystemExit(f"{name} differs from {first}: {apart}")
        print(
            f"| {name} | {statistics.median(times[name]):.2f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | "
            f"{max(apart.values()):.0e} ({max(apart, key=lambda of: apart[of])}) |"
        )


if __name__ == "__main__":
    main()
