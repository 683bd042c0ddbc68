"""From answers to waves to the tables of the Fourier heat maps, and of waves as an attack.

Source: "A Fourier Perspective on Model Robustness in Computer Vision", Figures 3, 4 and 7 (c, d).
An error rate is the share of images that a network gets wrong. Half of the plane was shown; in
means over frequencies each of them counts with its opposite, so that they are those of the plane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bandlimit.files import store
from bandlimit.statistics import crossed

Floats = NDArray[np.float64]

LOWEST, HIGH = 2.0, 10.0
"""Frequencies up to the first count as the lowest, those from the second on as high, in cycles per
image."""

OTHERS_LESS_LOWEST, NATURAL_LESS = "others less lowest", "natural less trained otherwise"


class Answers:
    """What the networks of an experiment say of images with waves of one norm.

    Attributes:
        e: the experiment, as the catalogue tells it.
        norm: L2 norm of the waves in each channel.
        ids: of N images.
        down: frequencies of the P waves, in cycles per image.
        right: the same across.
        clean: by network, whether it is wrong of the image as it is, seeds x N.
        wrong: by network, whether it is wrong of the image with each wave, seeds x N x P.

    Args:
        e: the experiment.
        tables: its records of `heat_maps.SCHEMA`, shard by shard.
        norm: that of the waves.
    """

    def __init__(self, e: Mapping[str, Any], tables: Sequence[pa.Table], norm: float) -> None:
        self.e, self.norm = e, norm
        tables = [table.filter(pc.equal(table["norm"], norm)) for table in tables]
        names = [name for network in e["networks"] for name in network["models"]]
        clean, correct, self.ids = [], [], []
        for table in tables:
            # Each image comes once for each model, in their order.
            assert table["network"].to_pylist() == names * (len(table) // len(names))
            self.ids += table["image_id"].to_pylist()[:: len(names)]
            clean.append(np.array(table["clean"]).reshape(-1, len(names)))
            values = table["correct"].combine_chunks().flatten()
            correct.append(np.array(values).reshape(len(table) // len(names), len(names), -1))
        first = next(table for table in tables if len(table))
        self.down, self.right = (np.array(first[key][0].as_py()) for key in ("down", "right"))
        # By model, image and wave.
        of_clean = ~np.concatenate(clean).T
        of_waves = ~np.concatenate(correct).transpose(1, 0, 2)
        self.clean, self.wrong = {}, {}
        start = 0
        for network in e["networks"]:
            end = start + len(network["models"])
            self.clean[network["name"]] = of_clean[start:end]
            self.wrong[network["name"]] = of_waves[start:end]
            start = end

    @property
    def radii(self) -> Floats:
        """Distances of the frequencies from 0, in cycles per image."""
        return np.hypot(self.down, self.right)

    @property
    def bins(self) -> NDArray[np.int64]:
        """How many frequencies of the plane each stands for: itself, and its opposite."""
        height, width = self.e["sides"]
        own = (2 * self.down % height == 0) & (2 * self.right % width == 0)
        return np.where(own, 1, 2)

    def regions(self) -> Iterator[tuple[str, float, NDArray[np.bool_]]]:
        """Yield name, radius and frequencies of rings and regions that have any."""
        radii = self.radii
        rings = np.round(radii)
        for ring in np.unique(rings):
            yield "ring", float(ring), rings == ring
        for name, chosen in (
            ("lowest", radii <= LOWEST),
            ("others", radii > LOWEST),
            ("high", radii >= HIGH),
            ("all", radii >= 0),
        ):
            if chosen.any():
                yield name, np.nan, chosen

    def errors(self, network: str, chosen: NDArray[np.bool_]) -> Floats:
        """Return the share of some frequencies at which each network is wrong, seeds x N."""
        weights = self.bins[chosen]
        return self.wrong[network][:, :, chosen] @ (weights / weights.sum())


def read(files: Sequence[str], experiments: Sequence[Mapping[str, Any]]) -> Iterator[Answers]:
    """Yield the answers of each experiment and norm; files are those of its shards, in order."""
    place = 0
    for e in experiments:
        tables = [store.read(path) for path in files[place : place + e["shards"]]]
        yield from (Answers(e, tables, norm) for norm in e["norms"])
        place += e["shards"]


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
        "images": len(answers.ids),
    }


def _share(name: str, values: Floats) -> dict[str, Any]:
    mean, _, low, high = crossed(values)
    low, high = (None if side is None else min(max(side, 0.0), 1.0) for side in (low, high))
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _difference(name: str, values: Floats) -> dict[str, Any]:
    mean, _, low, high = crossed(values)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _heat_maps(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield the error of each network in each ring and region, and its rise above the clean one."""
    for network in answers.e["networks"]:
        clean = answers.clean[network["name"]].astype(float)
        for region, radius, chosen in answers.regions():
            errors = answers.errors(network["name"], chosen)
            yield {
                **_own(answers, network),
                "region": region,
                "radius": radius,
                "frequencies": int(answers.bins[chosen].sum()),
                **_share("clean", clean),
                **_share("error", errors),
                **_difference("rise", errors - clean),
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
    regions = {name: chosen for name, _, chosen in answers.regions() if name != "ring"}
    for network in answers.e["networks"]:
        own = network["name"]
        if "lowest" in regions and "others" in regions:
            others, lowest = (answers.errors(own, regions[name]) for name in ("others", "lowest"))
            yield {
                **_own(answers, network),
                "comparison": OTHERS_LESS_LOWEST,
                "region": "others",
                "first": others.mean(),
                "second": lowest.mean(),
                **_difference("difference", others - lowest),
            }
        if network["natural"] is None:
            continue
        natural = network["natural"]
        seeds = min(len(answers.clean[name]) for name in (own, natural))
        rise = answers.clean[natural][:seeds].astype(float) - answers.clean[own][:seeds]
        for region, radius, chosen in answers.regions():
            first, second = (answers.errors(name, chosen)[:seeds] for name in (natural, own))
            yield {
                **_own(answers, network),
                "seeds": seeds,
                "comparison": NATURAL_LESS,
                "against": natural,
                "region": region,
                "radius": radius,
                "first": first.mean(),
                "second": second.mean(),
                **_difference("difference", first - second),
                **_difference("rises", first - second - rise),
            }


def _frequencies(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield the error of each network at each frequency of the half plane."""
    radii = answers.radii
    for network in answers.e["networks"]:
        wrong = answers.wrong[network["name"]]
        counts = wrong.sum(axis=(0, 1))
        for place in range(len(radii)):
            yield {
                **_own(answers, network),
                "down": int(answers.down[place]),
                "right": int(answers.right[place]),
                "radius": float(radii[place]),
                "count": wrong.shape[0] * wrong.shape[1],
                "wrong": int(counts[place]),
                **_share("error", wrong[:, :, place].astype(float)),
            }


def _attack(answers: Answers) -> Iterator[dict[str, Any]]:
    """Yield what waves do to each network as an attack that sees answers alone.

    The worst frequency is that of the most errors, of all seeds. It was chosen on the images that
    it is then counted on, so that it is chosen on each half of the images as well, and counted on
    the other one.
    """
    for network in answers.e["networks"]:
        wrong = answers.wrong[network["name"]]
        worst = int(wrong.sum(axis=(0, 1)).argmax())
        held = np.empty(wrong.shape[:2])
        for half in (0, 1):
            chosen = wrong[:, 1 - half :: 2].sum(axis=(0, 1)).argmax()
            held[:, half::2] = wrong[:, half::2, chosen]
        yield {
            **_own(answers, network),
            "tries": wrong.shape[2],
            **_share("clean", answers.clean[network["name"]].astype(float)),
            **_share("error", answers.errors(network["name"], np.ones(wrong.shape[2], dtype=bool))),
            "down": int(answers.down[worst]),
            "right": int(answers.right[worst]),
            "radius": float(answers.radii[worst]),
            **_share("worst", wrong[:, :, worst].astype(float)),
            **_share("held_out", held),
            **_share("any_wave", wrong.any(axis=2).astype(float)),
        }
