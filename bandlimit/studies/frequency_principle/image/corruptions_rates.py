"""From what networks say of corrupted images to the tables of Figures 1, 5 and 6.

Source: "A Fourier Perspective on Model Robustness in Computer Vision". Accuracy changes are those
of a network less the natural one that was trained alike, seed by seed on the same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit.files import store
from bandlimit.statistics import crossed
from bandlimit.studies.frequency_principle.image.corruptions import BAND, CLEAN, CORRUPTED

Floats = NDArray[np.float64]


class Answers:
    """What the networks of an experiment say of its changed images.

    Args:
        e: the experiment: networks, with their models; dataset.
        frame: records of `corruptions.SCHEMA`, of all shards.
    """

    def __init__(self, e: Mapping[str, Any], frame: pd.DataFrame) -> None:
        self.e = e
        self._rows = dict(list(frame.groupby(["kind", "name", "bandwidth"], dropna=False)))
        clean = frame[frame["kind"] == CLEAN]
        self.ids = clean["image_id"].tolist()
        self._places = _places(e["networks"])
        # Those behind a filter are not asked of noise of a band.
        self._bare = _places([network for network in e["networks"] if not network["part"]])

    def changes(self, kind: str) -> list[tuple[str, int | None]]:
        """Return name and bandwidth of what was done to images, in order."""
        return [
            (name, None if pd.isna(bandwidth) else int(bandwidth))
            for own, name, bandwidth in self._rows
            if own == kind
        ]

    def _of(self, kind: str, name: str | None, bandwidth: int | None) -> pd.DataFrame:
        for (own, called, wide), rows in self._rows.items():
            same = called == name or (name is None and pd.isna(called))
            size = wide == bandwidth or (bandwidth is None and pd.isna(wide))
            if own == kind and same and size:
                return rows.set_index("image_id").loc[self.ids]
        raise KeyError((kind, name, bandwidth))

    def right(
        self, network: str, kind: str = CLEAN, name: str | None = None, bandwidth: int | None = None
    ) -> Floats:
        """Return what is right, S x N, 1 or 0."""
        found = np.array(self._of(kind, name, bandwidth)["correct"].tolist(), dtype=np.float64)
        places = self._bare if kind == BAND else self._places
        return found.T[places[network]]

    def high_fraction(self, name: str) -> Floats:
        """Return the share of high frequencies in a corruption, of each image that it changed."""
        values = self._of(CORRUPTED, name, None)["high_fraction"].to_numpy(dtype=np.float64)
        return values[~np.isnan(values)]


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
        files: records of `corruptions.SCHEMA`, of each experiment all shards.
        experiments: what they stand for.
    """
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("corruption_rates", "corruption_slopes", "band_noise", "band_pass")
    }
    place = 0
    for e in experiments:
        tables = [store.read(path).to_pandas() for path in files[place : place + e["shards"]]]
        place += e["shards"]
        answers = Answers(e, pd.concat(tables, ignore_index=True))
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
        "images": len(answers.ids),
    }


def _with_interval(
    name: str, values: Floats | None, further: Sequence[tuple[float, float]] = ()
) -> dict[str, Any]:
    """Return mean and interval over networks and images, S x N; of nothing NaN.

    Args:
        name: of the columns.
        values: S x N, or None.
        further: as of `bandlimit.statistics.crossed`.
    """
    mean, _, low, high = (np.nan,) * 4 if values is None else crossed(values, further=further)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _pair(
    answers: Answers, network: Mapping[str, Any], *change: Any
) -> tuple[Floats, Floats] | None:
    """Return what is right of a network and of the natural one, of as many seeds of each."""
    if not network["natural"]:
        return None
    one, other = (answers.right(name, *change) for name in (network["name"], network["natural"]))
    seeds = min(len(one), len(other))
    return one[:seeds], other[:seeds]


def _beside(answers: Answers, network: Mapping[str, Any], *change: Any) -> dict[str, Any]:
    """Return accuracy on changed images, and its change against the natural network."""
    pair = _pair(answers, network, *change)
    return {
        **_with_interval("accuracy", answers.right(network["name"], *change)),
        **_with_interval("change", None if pair is None else pair[0] - pair[1]),
    }


def _rates(answers: Answers, network: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    own = _own(answers, network)
    nothing = {"corruption": "none", "high_fraction": np.nan}
    yield {**own, **nothing, **_beside(answers, network, CLEAN)}
    for name, _ in answers.changes(CORRUPTED):
        share = answers.high_fraction(name)
        yield {
            **own,
            "corruption": name,
            "high_fraction": float(share.mean()) if share.size else np.nan,
            **_beside(answers, network, CORRUPTED, name),
        }


def _band_noise(answers: Answers, network: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for band, bandwidth in answers.changes(BAND):
        yield {
            **_own(answers, network),
            "band": band,
            "bandwidth": bandwidth,
            **_beside(answers, network, BAND, band, bandwidth),
        }


def _band_pass(answers: Answers, network: Mapping[str, Any]) -> dict[str, Any]:
    right = answers.right(network["name"])
    chance = 1 / answers.e["classes"]
    return {
        **_own(answers, network),
        "chance": chance,
        **_with_interval("accuracy", right),
        **_with_interval("above", right - chance),
    }


def _slope(answers: Answers, network: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line through accuracy changes against shares of high frequencies.

    Its slope and its values at both ends are linear in the changes, so that each image has a value
    of its own: what it adds to them. Networks and images are samples as in
    `bandlimit.statistics.crossed`. Corruptions are a third one, of the variance that leaving out
    each of them tells (jackknife); a line leaves two degrees of freedom less than there are. Of
    fewer than three corruptions there is no interval.
    """
    names = [name for name, _ in answers.changes(CORRUPTED) if answers.high_fraction(name).size]
    x = np.array([answers.high_fraction(name).mean() for name in names])
    pairs = [_pair(answers, network, CORRUPTED, name) for name in names]
    # Corruptions x seeds x images.
    change = np.stack([pair[0] - pair[1] for pair in pairs if pair is not None])
    y = change.mean(axis=(1, 2))
    count = len(x)
    spread = np.full(len(LINE), np.nan)
    if count > 2:
        left = np.stack([line(np.delete(x, i)) @ np.delete(y, i) for i in range(count)])
        spread = np.square(left - left.mean(axis=0)).sum(axis=0) * (count - 1) / count
    found: dict[str, Any] = {}
    for name, weights, variance in zip(LINE, line(x), spread, strict=True):
        # So that an image differs by 1 at most, as `crossed` takes it.
        scale = np.abs(weights).sum()
        own = _with_interval(
            name,
            np.tensordot(weights / scale, change, axes=1),
            [(float(variance / scale**2), count - 2)],
        )
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
