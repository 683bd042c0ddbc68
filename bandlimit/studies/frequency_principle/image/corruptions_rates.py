"""From what networks say of corrupted images to the tables of Figures 1, 5 and 6.

Source: "A Fourier Perspective on Model Robustness in Computer Vision". Accuracy changes are those
of a network less the natural one that was trained alike, seed by seed on the same images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bandlimit.files import store
from bandlimit.studies.frequency_principle.image.corruptions_records import BAND, CLEAN, CORRUPTED
from bandlimit.studies.frequency_principle.image.tallies import Tally

Floats = NDArray[np.float64]

ROWS = 4096
"""Rows in flight, to the end of the images that the last one is of; memory, not results."""

Change = tuple[str, str | None, int | None]
"""Kind, name and bandwidth of what was done to images."""

AS_THEY_ARE: Change = (CLEAN, None, None)


class Answers:
    """What the networks of an experiment say of its changed images, added up.

    Images come a batch at a time (`add`), and of each a number is kept for each corruption.

    Attributes:
        e: the experiment: networks, with their models; dataset.
        images: how many came.
        right: by change and network, what is right.
        apart: by change and network, what is right less what of the natural one is, seed by seed.
        lines: by network, that under all corruptions, in the order of `corruptions`, in pairs.

    Args:
        e: the experiment.
    """

    def __init__(self, e: Mapping[str, Any]) -> None:
        self.e, self.images = e, 0
        self.right: dict[tuple[Change, str], Tally] = {}
        self.apart: dict[tuple[Change, str], Tally] = {}
        self.lines: dict[str, Tally] = {}
        self._high: dict[str, list[float]] = {}
        self._own = _places(e["networks"])
        # Those behind a filter are not asked of noise of a band.
        self._bare = _places([network for network in e["networks"] if not network["part"]])

    def changes(self, kind: str) -> list[Change]:
        """Return what was done to images, in order of name and bandwidth."""
        own = {change for change, _ in self.right if change[0] == kind}
        return sorted(own, key=lambda change: (change[1] or "", change[2] or 0))

    @property
    def corruptions(self) -> list[str]:
        """Names of the corruptions, in order."""
        return sorted(self._high)

    def high_fraction(self, name: str) -> float:
        """Return the mean share of high frequencies in a corruption, of images that it changed.

        NaN if it changed none.
        """
        values = self._high[name]
        # Exact, so that it does not depend on the order of shards.
        return math.fsum(values) / len(values) if values else math.nan

    def add(self, frame: pd.DataFrame) -> None:
        """Add images.

        Args:
            frame: records of `corruptions_records.SCHEMA`, all that there are of each of its
                images.
        """
        groups = {
            (kind, None if pd.isna(name) else name, None if pd.isna(wide) else int(wide)): rows
            for (kind, name, wide), rows in frame.groupby(
                ["kind", "name", "bandwidth"], dropna=False
            )
        }
        image_ids = groups[AS_THEY_ARE]["image_id"].tolist()
        self.images += len(image_ids)
        differences: dict[str, dict[str, NDArray[np.int64]]] = {}
        for change, rows in groups.items():
            kind, name, _ = change
            assert rows["image_id"].tolist() == image_ids
            # Models x images.
            answers = np.array(rows["correct"].tolist(), dtype=np.int64).T
            places = self._bare if kind == BAND else self._own
            for network, own in places.items():
                tally = self.right.setdefault((change, network), Tally(own.stop - own.start))
                tally.add(answers[own, :, None])
            for network in self.e["networks"]:
                called, natural = network["name"], network["natural"]
                if natural and called in places:
                    one, other = (answers[places[which]] for which in (called, natural))
                    seeds = min(len(one), len(other))
                    difference = one[:seeds] - other[:seeds]
                    self.apart.setdefault((change, called), Tally(seeds)).add(difference[..., None])
                    if kind == CORRUPTED:
                        differences.setdefault(called, {})[str(name)] = difference
            if kind == CORRUPTED:
                values = rows["high_fraction"].to_numpy(dtype=np.float64)
                known = self._high.setdefault(str(name), [])
                known += values[~np.isnan(values)].tolist()
        for called, each in differences.items():
            values = np.stack([each[name] for name in self.corruptions], axis=2)
            tally = self.lines.setdefault(called, Tally(len(values), values.shape[2], pairs=True))
            tally.add(values)


def _places(networks: Sequence[Mapping[str, Any]]) -> dict[str, slice]:
    """Return where the answers of each network's models are."""
    found, start = {}, 0
    for network in networks:
        found[network["name"]] = slice(start, start + len(network["models"]))
        start += len(network["models"])
    return found


def frames(
    files: Sequence[str], experiments: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    """Return the tables by name.

    Args:
        files: records of `corruptions_records.SCHEMA`, of each experiment all shards.
        experiments: what they stand for.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    place = 0
    for e in experiments:
        answers = Answers(e)
        for path in files[place : place + e["shards"]]:
            for table in _pieces(path):
                answers.add(table.to_pandas())
        place += e["shards"]
        for network in e["networks"]:
            found["corruption_rates"] += _rates(answers, network)
            if not network["part"]:
                found["band_noise"] += _band_noise(answers, network)
            if network["natural"]:
                found["corruption_slopes"].append(_slope(answers, network))
            if network["part"]:
                found["band_pass"].append(_band_pass(answers, network))
    return {
        name: pd.DataFrame(rows, columns=None if rows else list(COLUMNS[name]))
        for name, rows in found.items()
    }


def _pieces(path: str) -> Iterator[pa.Table]:
    """Yield a file of records in pieces of whole images.

    A batch of images has rows of the images as they are, and then those of each change.
    """
    columns = ["image_id", "kind", "name", "bandwidth", "high_fraction", "correct"]
    held: pa.Table | None = None
    for table in store.batches(path, ROWS, columns):
        held = table if held is None else pa.concat_tables([held, table])
        clean = np.array(pc.equal(held["kind"], CLEAN))
        starts = np.flatnonzero(clean[1:] & ~clean[:-1]) + 1
        if len(starts):
            yield held.slice(0, starts[-1])
            held = held.slice(starts[-1])
    if held is not None and len(held):
        yield held


FACTS = (
    *("dataset", "document", "stand_in", "model", "network", "batchnorm", "training", "part"),
    *("size", "shape", "method", "natural", "seeds", "images"),
)
COLUMNS: Mapping[str, Sequence[str]] = {
    "corruption_rates": (*FACTS, "corruption", "high_fraction", "accuracy", "change"),
    "corruption_slopes": (*FACTS, "corruptions", "slope", "start", "end", "residual"),
    "band_noise": (*FACTS, "band", "bandwidth", "accuracy", "change"),
    "band_pass": (*FACTS, "chance", "accuracy", "above"),
}
"""Columns of tables without rows."""


def method(network: Mapping[str, Any]) -> str:
    """Return what sets a network apart from the natural one: how it was trained, or its filter."""
    return f"{network['part']}-pass" if network["part"] else str(network["training"])


def _own(answers: Answers, network: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: answers.e[key] for key in ("dataset", "document", "stand_in")},
        "model": network["name"],
        "network": network["name"],
        **{key: network[key] for key in ("batchnorm", "training", "part", "size", "shape")},
        "method": method(network),
        "natural": network["natural"],
        "seeds": len(network["models"]),
        "images": answers.images,
    }


def _with_interval(name: str, tally: Tally | None, less: float = 0.0) -> dict[str, Any]:
    """Return mean and interval over networks and images; of nothing NaN.

    Args:
        name: of the columns.
        tally: of one number.
        less: taken off.
    """
    mean, _, low, high = (np.nan,) * 4 if tally is None else tally.crossed()
    values = {name: mean, f"{name}_low": low, f"{name}_high": high}
    return {key: None if value is None else value - less for key, value in values.items()}


def _beside(answers: Answers, network: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Return accuracy on changed images, and its change against the natural network."""
    place = change, network["name"]
    return {
        **_with_interval("accuracy", answers.right[place]),
        **_with_interval("change", answers.apart.get(place)),
    }


def _rates(answers: Answers, network: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    own = _own(answers, network)
    nothing = {"corruption": "none", "high_fraction": np.nan}
    yield {**own, **nothing, **_beside(answers, network, AS_THEY_ARE)}
    for change in answers.changes(CORRUPTED):
        name = str(change[1])
        yield {
            **own,
            "corruption": name,
            "high_fraction": answers.high_fraction(name),
            **_beside(answers, network, change),
        }


def _band_noise(answers: Answers, network: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for change in answers.changes(BAND):
        _, band, bandwidth = change
        yield {
            **_own(answers, network),
            "band": band,
            "bandwidth": bandwidth,
            **_beside(answers, network, change),
        }


def _band_pass(answers: Answers, network: Mapping[str, Any]) -> dict[str, Any]:
    right = answers.right[AS_THEY_ARE, network["name"]]
    chance = 1 / answers.e["classes"]
    return {
        **_own(answers, network),
        "chance": chance,
        **_with_interval("accuracy", right),
        **_with_interval("above", right, chance),
    }


def _slope(answers: Answers, network: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line through accuracy changes against shares of high frequencies.

    Its slope and its values at both ends are linear in the changes, so that each image has a value
    of its own: what it adds to them. Networks and images are samples as in
    `bandlimit.statistics.crossed`. Corruptions are a third one, of the variance that leaving out
    each of them tells (jackknife); a line leaves two degrees of freedom less than there are. Of
    fewer than three corruptions there is no interval.
    """
    tally = answers.lines[network["name"]]
    shares = np.array([answers.high_fraction(name) for name in answers.corruptions])
    # What changed no image is no point of the line.
    there = np.isfinite(shares)
    x = shares[there]
    y = np.array([tally.mean(int(place)) for place in np.flatnonzero(there)])
    count = len(x)
    spread = np.full(len(LINE), np.nan)
    if count > 2:
        left = np.stack([line(np.delete(x, i)) @ np.delete(y, i) for i in range(count)])
        spread = np.square(left - left.mean(axis=0)).sum(axis=0) * (count - 1) / count
    found: dict[str, Any] = {}
    for name, weights, variance in zip(LINE, line(x), spread, strict=True):
        # So that an image differs by 1 at most, as `bandlimit.statistics.crossed` takes it.
        scale = np.abs(weights).sum()
        scaled = np.zeros(len(shares))
        scaled[there] = weights / scale
        mean, _, low, high = tally.crossed_sum(scaled, [(float(variance / scale**2), count - 2)])
        own = {name: mean, f"{name}_low": low, f"{name}_high": high}
        found |= {key: np.nan if part is None else part * scale for key, part in own.items()}
    return {
        **_own(answers, network),
        "corruptions": count,
        **found,
        "residual": float(np.sqrt(np.square(y - found["start"] - found["slope"] * x).mean())),
    }


LINE = ("slope", "start", "end")
"""Of a line: its slope, and its values at 0 and at 1."""


def line(x: Floats) -> Floats:
    """Return how much each value counts in a line of least squares, 3 x P, as `LINE`.

    Slope and ends are these weights times the values; NaN where all x agree.

    Args:
        x: P.
    """
    centred = x - x.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = centred / np.square(centred).sum()
    start = 1 / len(x) - x.mean() * slope
    return np.stack([slope, start, start + slope])
