"""From what networks with smoothed kernels say to Table 2.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", section 6, Table 2.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit.claims import reported
from bandlimit.files import store
from bandlimit.studies.high_frequency.columns import UNKNOWN, columns, mean, share

Floats = NDArray[np.float64]
SETTING = ["attack", "loss", "epsilon"]


def smoothed(
    files: Sequence[str], experiments: Sequence[Mapping[str, Any]], claims: str | os.PathLike[str]
) -> pd.DataFrame:
    """Return accuracy by network, smoothing and attack, beside what the document reports.

    Args:
        files: records of `smoothing.SCHEMA`: of each experiment its network and the adversarially
            trained one, of each all seeds, of each all shards.
        experiments: what they stand for.
        claims: the claims file that holds what the document reports.
    """
    document = reported.reported(claims, "table_2")
    rows: list[dict[str, Any]] = []
    place = 0
    for e in experiments:
        found = {}
        for name in [e["model"], *([e["robust"]] if e["robust"] else [])]:
            (network,) = (n for n in e["networks"] if n["name"] == name)
            count = network["seeds"] * e["shards"]
            found[name] = _seeds(files[place : place + count], e["shards"])
            place += count
        for name, seeds in found.items():
            rows += _rows(e, name, seeds, found.get(e["robust"]))
    frame = pd.DataFrame(rows)
    frame["scale_share"] = _scale_shares(frame)
    keys = ["training", "rho", "attack", "epsilon"]
    if not len(document):
        return frame.assign(reported=np.nan)
    by_key = {
        tuple(_plain(row.get(key)) for key in keys): row["accuracy"]
        for row in document.to_dict("records")
    }
    # The document has raw kernels, and attacks by the cross-entropy alone.
    frame["reported"] = [
        by_key.get(tuple(_plain(row[key]) for key in keys), math.nan)
        if not row["normalized"] and row["loss"] != "margin"
        else math.nan
        for row in frame.to_dict("records")
    ]
    return frame


LEAST = 0.02
"""Effects of which a share can be named, at least."""


def _scale_shares(frame: pd.DataFrame) -> list[float]:
    """Return which share of what raw smoothing does is gone once kernels are divided by the gain.

    So much of the effect is the scale of 1 + 8 rho, not smoothness; nan where raw smoothing does
    next to nothing.
    """
    keys = ["dataset", "network", "rho", "attack", "loss", "epsilon"]
    normalized = {
        tuple(map(_plain, key)): value
        for *key, value in frame[frame["normalized"]][[*keys, "gain"]].itertuples(index=False)
    }
    shares = []
    for row in frame.to_dict("records"):
        other = normalized.get(tuple(_plain(row[key]) for key in keys))
        known = other is not None and not row["normalized"] and abs(row["gain"]) >= LEAST
        share = (row["gain"] - other) / row["gain"] if known else math.nan
        shares.append(share)
    return shares


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


Answers = dict[tuple[Any, ...], Floats]
"""What is right, S x N, by rho, normalisation, attack, loss and epsilon."""


def _seeds(files: Sequence[str], shards: int) -> tuple[Answers, Answers]:
    """Return what is right, and where gradients are 0, by setting."""
    right: dict[tuple[Any, ...], list[Floats]] = {}
    zero: dict[tuple[Any, ...], list[Floats]] = {}
    for start in range(0, len(files), shards):
        frame = pd.concat(
            [store.read(path).to_pandas() for path in files[start : start + shards]],
            ignore_index=True,
        )
        ids = frame["image_id"].drop_duplicates().tolist()
        for key, rows in frame.groupby(["rho", "normalized", *SETTING], dropna=False, sort=False):
            own = rows.set_index("image_id").loc[ids]
            place = tuple(_plain(value) for value in key)
            right.setdefault(place, []).append(own["correct"].to_numpy(float))
            zero.setdefault(place, []).append(own["zero"].to_numpy(float))
    return (
        {key: np.stack(values) for key, values in right.items()},
        {key: np.stack(values) for key, values in zero.items()},
    )


def _rows(
    e: Mapping[str, Any],
    name: str,
    seeds: tuple[Answers, Answers],
    robust: tuple[Answers, Answers] | None,
) -> Iterator[dict[str, Any]]:
    right, zero = seeds
    greatest = max((key[-1] for key in right if key[-1] is not None), default=None)
    for key, values in right.items():
        rho, normalized, attack, loss, epsilon = key
        bare = right[0.0, False, attack, loss, epsilon]
        row: dict[str, Any] = {
            **{column: e[column] for column in ("dataset", "model", "document", "stand_in")},
            "network": name,
            "training": "adversarial" if name == e["robust"] else "natural",
            "rho": rho,
            "normalized": normalized,
            "attack": attack,
            "loss": loss,
            "epsilon": math.nan if epsilon is None else epsilon,
            "greatest_epsilon": epsilon == greatest,
            "seeds": len(values),
            "images": values.shape[1],
            **share("accuracy", values),
            "zero": float(zero[key].mean()),
            **_beside("gain", values, bare),
        }
        raw = right.get((rho, False, attack, loss, epsilon))
        row |= _beside("less_raw", values, raw if normalized else None)
        own = robust[0].get((0.0, False, attack, loss, epsilon)) if robust else None
        row |= _beside("less_robust", values, own)
        yield row


def _beside(name: str, values: Floats, other: Floats | None) -> dict[str, Any]:
    """Return the difference to other answers on the same images, seed by seed."""
    if other is None:
        return columns(name, UNKNOWN)
    pairs = min(len(values), len(other))
    return mean(name, values[:pairs] - other[:pairs])
