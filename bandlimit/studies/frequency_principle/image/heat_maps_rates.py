"""From answers to waves to the tables of the Fourier heat maps, and of waves as an attack.

Source: "A Fourier Perspective on Model Robustness in Computer Vision", Figures 3, 4 and 7 (c, d).
An error rate is the share of images that a network gets wrong. Half of the plane was shown; in
means over frequencies each of them counts with its opposite, so that they are those of the plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit import keys
from bandlimit.files import store
from bandlimit.studies.frequency_principle.image.tallies import Tally

LOWEST, HIGH = 2.0, 10.0
"""Frequencies up to the first count as the lowest, those from the second on as high, in cycles per
image."""

OTHERS_LESS_LOWEST, NATURAL_LESS = "others less lowest", "natural less trained otherwise"

BATCH = 128
"""Images in flight; memory, not results."""

Wrong = NDArray[np.bool_]


class Answers:
    """What the networks of an experiment say of images with waves of one norm, added up.

    Images come a batch at a time (`add`), and nothing is kept of each. Numbers of errors over
    frequencies are whole, each frequency counting as often as it stands for bins of the plane, so
    that tallies are exact.

    Attributes:
        e: the experiment, as the catalogue tells it.
        norm: L2 norm of the waves in each channel.
        down: frequencies of the P waves, in cycles per image.
        right: the same across.
        images: how many came.
        clean: by network, errors on the images as they are.
        errors: by network, errors in each of `regions`, out of `totals`.
        rises: by network, these less those on the image as it is, out of `totals`.
        apart: by network, errors in the region of other frequencies less those in the lowest, out
            of the product of their totals; none where a region is missing.
        waves: by network, errors at each frequency, of two halves of the images.
        any_wave: by network, whether any wave makes it err.
        differences: by network, errors of the natural one less its own, seed by seed, out of
            `totals`.
        differences_of_rises: the same of rises.
    """

    def __init__(
        self, e: Mapping[str, Any], norm: float, down: Sequence[int], right: Sequence[int]
    ) -> None:
        self.e, self.norm, self.images = e, norm, 0
        self.down, self.right = np.array(down), np.array(right)
        self._own: dict[str, slice] = {}
        start = 0
        for network in e["networks"]:
            self._own[network["name"]] = slice(start, start + len(network["models"]))
            start += len(network["models"])
        count, waves = len(self.regions), len(self.down)
        seeds = {name: own.stop - own.start for name, own in self._own.items()}
        self._natural = {
            network["name"]: (network["natural"], min(seeds[network["name"]], seeds[natural]))
            for network in e["networks"]
            if (natural := network["natural"]) is not None
        }
        self.clean, self.any_wave = ({name: Tally(s) for name, s in seeds.items()} for _ in "ab")
        self.errors, self.rises = (
            {name: Tally(s, count) for name, s in seeds.items()} for _ in "ab"
        )
        self.apart = {name: Tally(s) for name, s in seeds.items()} if self._sides else {}
        self.waves = {name: (Tally(s, waves), Tally(s, waves)) for name, s in seeds.items()}
        self.differences, self.differences_of_rises = (
            {name: Tally(s, count) for name, (_, s) in self._natural.items()} for _ in "ab"
        )

    @cached_property
    def radii(self) -> NDArray[np.float64]:
        """Distances of the frequencies from 0, in cycles per image."""
        return np.hypot(self.down, self.right)

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """How many frequencies of the plane each stands for: itself, and its opposite."""
        height, width = self.e["sides"]
        own = (2 * self.down % height == 0) & (2 * self.right % width == 0)
        return np.where(own, 1, 2)

    @cached_property
    def regions(self) -> list[tuple[str, float, NDArray[np.bool_]]]:
        """Name, radius and frequencies of rings and regions that have any."""
        radii = self.radii
        rings = np.round(radii)
        named = (
            ("lowest", radii <= LOWEST),
            ("others", radii > LOWEST),
            ("high", radii >= HIGH),
            ("all", radii >= 0),
        )
        return [
            *(("ring", float(ring), rings == ring) for ring in np.unique(rings)),
            *((name, np.nan, chosen) for name, chosen in named if chosen.any()),
        ]

    @cached_property
    def totals(self) -> NDArray[np.int64]:
        """How many bins of the plane each region has."""
        return np.array([self.bins[chosen].sum() for _, _, chosen in self.regions])

    @cached_property
    def _sides(self) -> tuple[int, int] | None:
        """Places of the regions of other and of the lowest frequencies, where there are both."""
        names = [name for name, _, _ in self.regions]
        found = [names.index(name) for name in ("others", "lowest") if name in names]
        return (found[0], found[1]) if len(found) == 2 else None

    def region(self, name: str) -> int:
        """Return the place of a named region."""
        return [own for own, _, _ in self.regions].index(name)

    def add(self, image_ids: Sequence[str], clean: Wrong, wrong: Wrong) -> None:
        """Add images.

        Args:
            image_ids: of n images.
            clean: whether each model is wrong of the image as it is, models x n.
            wrong: whether it is wrong of the image with each wave, models x n x P.
        """
        self.images += len(image_ids)
        halves = np.array([half(name) for name in image_ids])
        weights = np.stack([chosen * self.bins for _, _, chosen in self.regions], axis=1)
        # Whole numbers in floats, which are exact: products of whole numbers are slow.
        errors = np.rint(wrong.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64)
        rises = errors - self.totals * clean[:, :, None]
        for name, own in self._own.items():
            self.clean[name].add(clean[own, :, None])
            self.any_wave[name].add(wrong[own].max(axis=2, keepdims=True))
            self.errors[name].add(errors[own])
            self.rises[name].add(rises[own])
            if self._sides:
                others, lowest = self._sides
                first, second = (errors[own, :, place] for place in self._sides)
                apart = first * self.totals[lowest] - second * self.totals[others]
                self.apart[name].add(apart[:, :, None])
            for number, tally in enumerate(self.waves[name]):
                tally.add(wrong[own][:, halves == number])
        for name, (natural, seeds) in self._natural.items():
            for tally, values in (
                (self.differences[name], errors),
                (self.differences_of_rises[name], rises),
            ):
                first, second = (values[self._own[one]][:seeds] for one in (natural, name))
                tally.add(first - second)


def half(image_id: str) -> int:
    """Return to which half of the images one belongs, 0 or 1, whichever the others are."""
    return keys.derive(0, "half of the images", image_id) % 2


def read(files: Sequence[str], experiments: Sequence[Mapping[str, Any]]) -> Iterator[Answers]:
    """Yield the answers of each experiment and norm; files are those of its shards, in order.

    Memory holds `BATCH` images.
    """
    place = 0
    for e in experiments:
        yield from _answers(files[place : place + e["shards"]], e)
        place += e["shards"]


def _answers(files: Sequence[str], e: Mapping[str, Any]) -> list[Answers]:
    names = [name for network in e["networks"] for name in network["models"]]
    norms = e["norms"]
    each = len(names) * len(norms)
    found: list[Answers] = []
    for path in files:
        for table in store.batches(path, BATCH * each):
            count = len(table) // each
            if not count:
                continue
            if not found:
                down, right = (table[key][0].as_py() for key in ("down", "right"))
                found = [Answers(e, norm, down, right) for norm in norms]
            # Each image comes with each norm for each model, in their order.
            assert table["network"].to_pylist() == names * (count * len(norms))
            assert table["norm"].to_pylist() == np.repeat(norms, len(names)).tolist() * count
            shape = (count, len(norms), len(names))
            image_ids = table["image_id"].to_pylist()[::each]
            clean = ~np.array(table["clean"]).reshape(shape)
            flat = table["correct"].combine_chunks().flatten()
            wrong = ~np.array(flat).reshape(*shape, -1)
            for number, answers in enumerate(found):
                answers.add(image_ids, clean[:, number].T, wrong[:, number].transpose(1, 0, 2))
    return found


def frames(
    files: Sequence[str], experiments: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    """Return the tables of the heat maps, by name.

    Args:
        files: records of `heat_maps.SCHEMA`, of each experiment all shards.
        experiments: what they stand for.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for answers in read(files, experiments):
        for name, rows in (
            ("heat_maps", _heat_maps(answers)),
            ("heat_map_comparisons", _comparisons(answers)),
            ("heat_map_frequencies", _frequencies(answers)),
            ("waves_as_attack", _attack(answers)),
        ):
            found.setdefault(name, []).extend(rows)
    columns = {"heat_map_comparisons": COMPARED}
    return {name: pd.DataFrame(rows, columns=columns.get(name)) for name, rows in found.items()}


def _own(answers: Answers, network: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: answers.e[key] for key in ("dataset", "document", "stand_in")},
        "model": network["name"],
        "network": network["name"],
        "batchnorm": network["batchnorm"],
        "training": network["training"],
        "norm": answers.norm,
        "main": answers.norm == answers.e["norm"],
        "least": answers.norm == min(answers.e["norms"]),
        "seeds": len(network["models"]),
        "images": answers.images,
    }


def _share(name: str, tally: Tally, cell: int = 0, scale: float = 1) -> dict[str, Any]:
    mean, _, low, high = tally.crossed(cell, scale)
    low, high = (None if side is None else min(max(side, 0.0), 1.0) for side in (low, high))
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _difference(name: str, tally: Tally, cell: int = 0, scale: float = 1) -> dict[str, Any]:
    mean, _, low, high = tally.crossed(cell, scale)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _heat_maps(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield the error of each network in each ring and region, and its rise above the clean one."""
    for network in answers.e["networks"]:
        own = network["name"]
        for place, (region, radius, _) in enumerate(answers.regions):
            total = int(answers.totals[place])
            yield {
                **_own(answers, network),
                "region": region,
                "radius": radius,
                "frequencies": total,
                **_share("clean", answers.clean[own]),
                **_share("error", answers.errors[own], place, total),
                **_difference("rise", answers.rises[own], place, total),
            }


COMPARED = (
    *("dataset", "document", "stand_in", "model", "network", "batchnorm", "training", "norm"),
    *(
        "main",
        "least",
        "seeds",
        "images",
        "comparison",
        "against",
        "region",
        "radius",
        "first",
        "second",
    ),
    *("difference", "difference_low", "difference_high"),
    *("rises", "rises_low", "rises_high"),
)
"""Columns of `heat_map_comparisons`; a network of which nothing is trained otherwise has few
rows."""


def _comparisons(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield differences on the same images: of regions, and of networks, seed by seed."""
    for network in answers.e["networks"]:
        own = network["name"]
        if own in answers.apart:
            others, lowest = (answers.region(name) for name in ("others", "lowest"))
            totals = answers.totals[others], answers.totals[lowest]
            yield {
                **_own(answers, network),
                "comparison": OTHERS_LESS_LOWEST,
                "region": "others",
                "first": answers.errors[own].mean(others, totals[0]),
                "second": answers.errors[own].mean(lowest, totals[1]),
                **_difference("difference", answers.apart[own], scale=float(totals[0] * totals[1])),
            }
        natural = network["natural"]
        if natural is None:
            continue
        tally, of_rises = answers.differences[own], answers.differences_of_rises[own]
        seeds = len(tally.sums)
        for place, (region, radius, _) in enumerate(answers.regions):
            total = int(answers.totals[place])
            yield {
                **_own(answers, network),
                "seeds": seeds,
                "comparison": NATURAL_LESS,
                "against": natural,
                "region": region,
                "radius": radius,
                "first": answers.errors[natural].mean(place, total, seeds),
                "second": answers.errors[own].mean(place, total, seeds),
                **_difference("difference", tally, place, total),
                **_difference("rises", of_rises, place, total),
            }


def _frequencies(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield the error of each network at each frequency of the half plane."""
    radii = answers.radii
    for network in answers.e["networks"]:
        first, second = answers.waves[network["name"]]
        wrong = first + second
        counts = wrong.sums.sum(axis=0)
        for place in range(len(radii)):
            yield {
                **_own(answers, network),
                "down": int(answers.down[place]),
                "right": int(answers.right[place]),
                "radius": float(radii[place]),
                "count": len(wrong.sums) * wrong.count,
                "wrong": int(counts[place]),
                **_share("error", wrong, place),
            }


def _attack(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield what waves do to each network as an attack that sees answers alone.

    The worst frequency is that of the most errors, of all seeds. It was chosen on the images that
    it is then counted on, so that it is chosen on each half of the images as well, and counted on
    the other one.
    """
    every = answers.region("all")
    for network in answers.e["networks"]:
        own = network["name"]
        halves = answers.waves[own]
        wrong = halves[0] + halves[1]
        worst = _worst(wrong)
        held_out = halves[0].at(_worst(halves[1])) + halves[1].at(_worst(halves[0]))
        yield {
            **_own(answers, network),
            "tries": len(answers.down),
            **_share("clean", answers.clean[own]),
            **_share("error", answers.errors[own], every, int(answers.totals[every])),
            "down": int(answers.down[worst]),
            "right": int(answers.right[worst]),
            "radius": float(answers.radii[worst]),
            **_share("worst", wrong, worst),
            **_share("held_out", held_out),
            **_share("any_wave", answers.any_wave[own]),
        }


def _worst(wrong: Tally) -> int:
    """Return the frequency of the most errors, the first of several."""
    return int(wrong.sums.sum(axis=0).argmax())
