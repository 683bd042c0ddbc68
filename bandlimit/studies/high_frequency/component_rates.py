"""From what a network says of parts of images to the tables of Figure 2, Corollary 1 and section 8.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", figure 2 (images that a network gets right from themselves and from their high
frequencies, and wrong from their low ones), corollary 1 and section 8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit.files import store
from bandlimit.studies.high_frequency.columns import mean, share
from bandlimit.studies.high_frequency.components_records import CONVENTIONS, FOURIER, IMAGE, SVD

Floats = NDArray[np.float64]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Parts:
    """What the networks of an experiment say of images and their parts.

    Args:
        e: the experiment: model, networks, shards.
        files: of all seeds of its network, shard by shard.
    """

    def __init__(self, e: Mapping[str, Any], files: Sequence[str]) -> None:
        shards = e["shards"]
        self.e = e
        self.seeds = [
            pd.concat(
                [store.read(path).to_pandas() for path in files[place : place + shards]],
                ignore_index=True,
            )
            for place in range(0, len(files), shards)
        ]
        first = self.seeds[0]
        self.ids = first.loc[first["kind"] == IMAGE, "image_id"].tolist()
        self.radii = sorted(first["radius"].dropna().unique().tolist())

    def of(
        self, column: str, kind: str, part: str | None, radius: float | None, convention: str | None
    ) -> Floats:
        """Return a column for one part of the images, S x N."""
        found = []
        for frame in self.seeds:
            rows = frame[frame["kind"] == kind]
            if kind != IMAGE:
                rows = rows[
                    (rows["part"] == part)
                    & (rows["radius"] == radius)
                    & (rows["convention"] == convention)
                ]
            found.append(rows.set_index("image_id").loc[self.ids, column].to_numpy())
        return np.stack(found).astype(float)

    def right(self, kind: str, part: str | None, radius: float | None, convention: str) -> Floats:
        """Return what is right, S x N."""
        return self.of("correct", kind, part, radius, convention)

    def hidden(self, kind: str, radius: float, convention: str = "text") -> Floats:
        """Return which images are right, their high part as well, and their low part not, S x N."""
        image = self.right(IMAGE, None, None, convention)
        low = self.right(kind, "low", radius, convention)
        return image * self.right(kind, "high", radius, convention) * (1 - low)


def each(files: Sequence[str], experiments: Sequence[Mapping[str, Any]]) -> Iterator[Parts]:
    """Yield the parts of each experiment; files are those of its network's seeds, in order."""
    place = 0
    for e in experiments:
        (network,) = (n for n in e["networks"] if n["name"] == e["model"])
        count = network["seeds"] * e["shards"]
        yield Parts(e, files[place : place + count])
        place += count


def frames(
    files: Sequence[str], experiments: Sequence[Mapping[str, Any]]
) -> dict[str, pd.DataFrame]:
    """Return the tables that are read off parts of images, by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for parts in each(files, experiments):
        for name, rows in (
            ("counts", _counts(parts)),
            ("corollary_1", _corollary_1(parts)),
            ("svd", _svd(parts)),
            ("conventions", _conventions(parts)),
        ):
            found.setdefault(name, []).extend(rows)
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def _own(parts: Parts) -> dict[str, Any]:
    return {
        **{key: parts.e[key] for key in ("dataset", "model", "document", "stand_in")},
        "seeds": len(parts.seeds),
        "images": len(parts.ids),
    }


def _counts(parts: Parts) -> Iterator[dict[str, Any]]:
    for radius in parts.radii:
        hidden = parts.hidden(FOURIER, radius)
        yield {
            **_own(parts),
            "radius": radius,
            "least": int(hidden.sum(axis=1).min()),
            "greatest": int(hidden.sum(axis=1).max()),
            **share("share", hidden),
            **share("right", parts.right(IMAGE, None, None, "text")),
            **share("right_lfc", parts.right(FOURIER, "low", radius, "text")),
            **share("right_hfc", parts.right(FOURIER, "high", radius, "text")),
        }


def _corollary_1(parts: Parts) -> Iterator[dict[str, Any]]:
    """Yield how many low-frequency images are adversarial examples, and how far from the image.

    Clipped to [0, 1], so that they are images: as they are, a network may be right of one and wrong
    of the other.
    """
    for convention in ("text", "clipped"):
        for radius in parts.radii:
            image = parts.right(IMAGE, None, None, convention)
            fooled = image * (1 - parts.right(FOURIER, "low", radius, convention))
            row = {
                **_own(parts),
                "convention": convention,
                "radius": radius,
                "adversarial": int(fooled.sum()),
                **share("share", fooled),
            }
            for norm in ("l2", "linf"):
                away = parts.of(norm, FOURIER, "low", radius, convention)[fooled > 0]
                for quantile in QUANTILES:
                    value = float(np.quantile(away, quantile)) if away.size else np.nan
                    row[f"{norm}_{round(100 * quantile)}"] = value
            yield row


def _svd(parts: Parts) -> Iterator[dict[str, Any]]:
    """Yield how many images are right but for their low part, by frequency and singular value."""
    for radius in parts.radii:
        fourier, singular = parts.hidden(FOURIER, radius), parts.hidden(SVD, radius)
        yield {
            **_own(parts),
            "radius": radius,
            "energy_fourier": float(parts.of("energy", FOURIER, "low", radius, "text").mean()),
            "energy_svd": float(parts.of("energy", SVD, "low", radius, "text").mean()),
            **share("fourier", fourier),
            **share("svd", singular),
            **mean("difference", fourier - singular),
            **mean("half_less", fourier / 2 - singular),
            "ratio": float(singular.sum() / fourier.sum()) if fourier.sum() else np.nan,
            **share("right_leading", parts.right(SVD, "low", radius, "text")),
            **share("right_trailing", parts.right(SVD, "high", radius, "text")),
        }


def _conventions(parts: Parts) -> Iterator[dict[str, Any]]:
    """Yield what changes where text and code of the document differ."""
    for radius in parts.radii:
        for convention in CONVENTIONS:
            yield {
                **_own(parts),
                "radius": radius,
                "convention": convention,
                **share("right_lfc", parts.right(FOURIER, "low", radius, convention)),
                **share("right_hfc", parts.right(FOURIER, "high", radius, convention)),
                **share("hidden", parts.hidden(FOURIER, radius, convention)),
            }


def fooled(files: Sequence[str], experiments: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return how far images lie from the low-frequency images that turn them wrong.

    A row for each seed and image that is right as it is, and wrong by its low frequencies clipped
    to [0, 1]: dataset, model, radius (periods per side), and the distances l2 and linf, in [0, 1]
    pixels.

    Args:
        files: records of `components_records.SCHEMA`, of each experiment's network: all seeds, of
            each all shards.
        experiments: what they stand for.
    """
    found = []
    for parts in each(files, experiments):
        image = parts.right(IMAGE, None, None, "clipped")
        for radius in parts.radii:
            wrong = image * (1 - parts.right(FOURIER, "low", radius, "clipped")) > 0
            own = {
                norm: parts.of(norm, FOURIER, "low", radius, "clipped")[wrong]
                for norm in ("l2", "linf")
            }
            facts = {key: parts.e[key] for key in ("dataset", "model")}
            found.append(pd.DataFrame(own).assign(**facts, radius=radius))
    # Columns without a row have no type of their own.
    known = [rows for rows in found if len(rows)] or found[:1]
    return pd.concat(known, ignore_index=True)
