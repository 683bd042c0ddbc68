"""From curves and records of the study to its tables.

What a network gets right is a mean over its seeds and over images; intervals are those of
`bandlimit.statistics.crossed`, over both. Networks are compared on the same images, first seed with
first seed.

Source: "High-frequency Component Helps Explain the Generalization of Convolutional Neural
Networks", Table 1 and figures 3 to 6.
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
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.statistics import crossed_difference, student
from bandlimit.studies.high_frequency.columns import columns, mean, share

Floats = NDArray[np.float64]
Told = Mapping[str, Any]

FULL, LOW, HIGH = "full", "low", "high"
TRAIN, TEST = "train", "test"

FACTS = (
    *("architecture", "batchnorm", "shuffled", "seeds", "epochs", "batch_size"),
    *("optimizer", "dropout", "mixup", "adversarial"),
)
"""What tables say of a network besides its name."""


class Curves:
    """What the networks of an experiment get right along their training.

    Args:
        e: the experiment: networks, radii.
        files: of each network, in their order.
        histories: accuracy on training images in each epoch, of the networks of `e["labels"]`.

    Raises:
        UserError: the curves of two networks are of different images.
    """

    def __init__(self, e: Told, files: Sequence[str], histories: Sequence[str] = ()) -> None:
        self.e = e
        self.histories = {
            name: store.read(path).to_pandas()
            for name, path in zip(e["labels"], histories, strict=False)
        }
        self.networks = {network["name"]: network for network in e["networks"]}
        self._frames = {}
        chosen: dict[str, str] = {}
        for name, path in zip(self.networks, files, strict=True):
            frame = store.read(path).to_pandas()
            self._frames[name] = frame
            for other in frame.loc[frame["images"] == TEST, "chosen"].unique():
                if chosen.setdefault(TEST, other) != other:
                    raise UserError(
                        f"The curves of {name!r} are of other test images than those of "
                        f"{next(iter(self.networks))!r}; networks that are compared need the same "
                        "'images' under 'curves'."
                    )

    def sets(self, name: str) -> list[tuple[str, str, float | None]]:
        """Return the sets of a network's curves: images, part, radius."""
        frame = self._frames[name][["images", "part", "radius"]].drop_duplicates()
        return [
            (row.images, row.part, None if math.isnan(row.radius) else row.radius)
            for row in frame.itertuples()
        ]

    def steps(self, name: str) -> list[int]:
        """Return the steps at which a network was measured."""
        return sorted(self._frames[name]["step"].unique().tolist())

    def rows(self, name: str, images: str, part: str, radius: float | None) -> pd.DataFrame:
        """Return the curve of one set, a row per seed and step."""
        frame = self._frames[name]
        same = frame["radius"].isna() if radius is None else frame["radius"] == radius
        return frame[(frame["images"] == images) & (frame["part"] == part) & same]

    def right(
        self, name: str, images: str, part: str, radius: float | None, step: int | None = None
    ) -> Floats:
        """Return what is right, S x N, at a step or at the end; empty where it was not measured."""
        frame = self.rows(name, images, part, radius)
        if not len(frame):
            return np.zeros((0, 0))
        frame = frame[frame["step"] == (frame["step"].max() if step is None else step)]
        frame = frame.sort_values("seed")
        return np.stack([np.asarray(row, dtype=float) for row in frame["correct"]])

    def along(self, name: str, images: str, part: str, radius: float | None) -> Floats:
        """Return how often each image is right along the training, S x N.

        It is the mean over epochs, between measurements as on a straight line.
        """
        steps = self.steps(name)
        each = [self.right(name, images, part, radius, step) for step in steps]
        return np.asarray(np.trapezoid(each, steps, axis=0) / (steps[-1] - steps[0]))

    def same(self, one: str, other: str, images: str) -> bool:
        """Return whether the curves of two networks are of the same images."""
        digests = [self.rows(name, images, FULL, None)["chosen"].iloc[0] for name in (one, other)]
        return bool(digests[0] == digests[1])


def frames(
    files: Sequence[str],
    histories: Sequence[str],
    told: Told,
    claims: str | os.PathLike[str],
) -> dict[str, pd.DataFrame]:
    """Return the tables of the study that are read off curves, by name.

    Args:
        files: curves of all networks of all experiments, in their order.
        histories: of the networks of true and of shuffled labels, in the order of experiments.
        told: `experiments`, and `trained`, the accuracy at which a network counts as trained.
        claims: the claims file that holds what the document reports.
    """
    document = reported.reported(claims, "table_1").to_dict("records")
    found: dict[str, list[dict[str, Any]]] = {}
    place, kept = 0, 0
    for e in told["experiments"]:
        count, labels = len(e["networks"]), len(e["labels"])
        here = Curves(e, files[place : place + count], histories[kept : kept + labels])
        place, kept = place + count, kept + labels
        for name, rows in (
            ("curves", _curves(here)),
            ("table_1", _table_1(here, document)),
            ("labels", _labels(here, told["trained"])),
            ("batch_sizes", _batch_sizes(here)),
            ("batchnorm", _batchnorm(here)),
            ("comparisons", comparisons(here, told["trained"])),
        ):
            found.setdefault(name, []).extend(rows)
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def _own(e: Told) -> dict[str, Any]:
    """Return the columns by which claims find an experiment."""
    return {key: e[key] for key in ("dataset", "model", "document", "stand_in")}


def _curves(here: Curves) -> Iterator[dict[str, Any]]:
    """Yield each network's accuracy on each set at each step."""
    for name, network in here.networks.items():
        for images, part, radius in here.sets(name):
            for step, rows in here.rows(name, images, part, radius).groupby("step"):
                right = here.right(name, images, part, radius, int(step))
                yield {
                    **_own(here.e),
                    "network": name,
                    **{key: network[key] for key in FACTS},
                    "trained_on": network["part"] or FULL,
                    "trained_radius": network["radius"],
                    "step": int(step),
                    "epoch": float(rows["epoch"].iloc[0]),
                    "images": images,
                    "part": part,
                    "radius": radius,
                    "count": right.shape[1],
                    **share("accuracy", right),
                    "loss": float(rows["loss"].mean()),
                }


def _table_1(here: Curves, document: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield what networks get right that were trained on one part of the spectrum."""
    known = {(row["part"], float(row["radius"])): row for row in document}
    names = [here.e["model"], *here.e["components"]]
    for name in names:
        network = here.networks[name]
        part, radius = network["part"] or FULL, network["radius"]
        own = known.get((part, radius), {})
        yield {
            **_own(here.e),
            "network": name,
            "part": part,
            "radius": radius,
            "seeds": network["seeds"],
            "images": here.right(name, TEST, FULL, None).shape[1],
            # On what it was trained on, and on whole images that it was not.
            **share("train", here.right(name, TRAIN, part, radius)),
            **share("test", here.right(name, TEST, FULL, None)),
            **share("test_part", here.right(name, TEST, part, radius)),
            "reported_train": own.get("train", math.nan),
            "reported_test": own.get("test", math.nan),
        }


def _labels(here: Curves, trained: float) -> Iterator[dict[str, Any]]:
    """Yield how networks of true and of shuffled labels learn."""
    radius = min(here.e["radii"])
    for name in here.e["labels"]:
        network = here.networks[name]
        first = next(step for step in here.steps(name) if step)
        until, reached = epochs_until(here, name, trained)
        yield {
            **_own(here.e),
            "network": name,
            "labels": "shuffled" if network["shuffled"] else "true",
            "seeds": network["seeds"],
            "radius": radius,
            "chance": 1 / here.e["classes"],
            "images": here.right(name, TRAIN, FULL, None).shape[1],
            "first_epoch": float(
                here.rows(name, TRAIN, FULL, None).query("step == @first")["epoch"].iloc[0]
            ),
            **share("first_train", here.right(name, TRAIN, FULL, None, first)),
            **share("first_low", here.right(name, TRAIN, LOW, radius, first)),
            **share("train", here.right(name, TRAIN, FULL, None)),
            **share("last_low", here.right(name, TRAIN, LOW, radius)),
            "epochs_until": float(np.mean(until)),
            "reached": float(np.mean(reached)),
        }


def epochs_until(here: Curves, name: str, trained: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Return after how many epochs each seed counts as trained, and whether it did.

    That is the first epoch in which it got so many of its training images right. The last epoch
    stands for seeds that never did, which took longer than that.
    """
    until, reached = [], []
    for _, rows in here.histories[name].groupby("seed"):
        rows = rows.sort_values("epoch")
        there = rows[rows["accuracy"] >= trained]
        reached.append(bool(len(there)))
        until.append(float((there if len(there) else rows.tail(1))["epoch"].iloc[0]))
    return np.array(until), np.array(reached)


def _batch_sizes(here: Curves) -> Iterator[dict[str, Any]]:
    """Yield accuracies by batch size, at equal epochs and at equal updates.

    `lfc` and `hfc` are those on low and on high frequencies; test_low and test_high are bounds.
    """
    for scheme in ("equal_epochs", "equal_updates"):
        for name in here.e[scheme]:
            network = here.networks[name]
            train, test = (here.right(name, images, FULL, None) for images in (TRAIN, TEST))
            for radius in here.e["radii"]:
                yield {
                    **_own(here.e),
                    "scheme": scheme,
                    "network": name,
                    "batch_size": network["batch_size"],
                    "epochs": network["epochs"],
                    "updates": here.steps(name)[-1],
                    "seeds": network["seeds"],
                    "images": test.shape[1],
                    "radius": radius,
                    **share("train", train),
                    **share("test", test),
                    **columns("gap", crossed_difference(train, test)),
                    **share("lfc", here.right(name, TEST, LOW, radius)),
                    **share("hfc", here.right(name, TEST, HIGH, radius)),
                }


def _low_pairs(here: Curves) -> list[tuple[str, str, float | None]]:
    """Return networks with BatchNorm and without, trained on the same low frequencies."""
    plain = {
        here.networks[name]["radius"]: name
        for name in here.e["components"]
        if here.networks[name]["part"] == LOW
    }
    plain[None] = here.e["model"]
    pairs = []
    for name in here.e["batchnorm"]:
        radius = here.networks[name]["radius"]
        if radius in plain and here.networks[name]["part"] != HIGH:
            pairs.append((name, plain[radius], radius))
    return pairs


def _batchnorm(here: Curves) -> Iterator[dict[str, Any]]:
    """Yield what BatchNorm gains in networks that are trained on low frequencies."""
    for name, plain, radius in _low_pairs(here):
        part = FULL if radius is None else LOW
        for network in (plain, name):
            yield {
                **_own(here.e),
                "network": network,
                "batchnorm": here.networks[network]["batchnorm"],
                "radius": radius,
                "seeds": here.networks[network]["seeds"],
                "images": here.right(network, TEST, FULL, None).shape[1],
                **share("along", here.along(network, TRAIN, part, radius)),
                **share("train", here.right(network, TRAIN, part, radius)),
                **share("test", here.right(network, TEST, FULL, None)),
                **share("test_part", here.right(network, TEST, part, radius)),
            }


# Comparisons


RECIPE = ("learning_rate", "momentum", "weight_decay", "schedule", "loss", "augmentation")
"""What else networks may differ in, so that a comparison is not named after one thing alone."""


def apart(network: Told, other: Told) -> str:
    """Return in words what sets a network apart from another, 'mix-up 0.5' or 'BatchNorm'."""
    found = []
    if network["architecture"] != other["architecture"]:
        found.append(network["architecture"])
    if network["batchnorm"] != other["batchnorm"]:
        found.append("BatchNorm" if network["batchnorm"] else "no BatchNorm")
    if network["dropout"] != other["dropout"]:
        found.append(f"dropout {network['dropout']:g}")
    if network["mixup"] != other["mixup"]:
        found.append(f"mix-up {network['mixup']:g}" if network["mixup"] else "no mix-up")
    if network["adversarial"] != other["adversarial"]:
        found.append("adversarial training" if network["adversarial"] else "natural training")
    for key in ("optimizer", "batch_size"):
        if network[key] != other[key]:
            found.append(f"{key.replace('_', ' ')} {network[key]}")
    for key in RECIPE:
        # An optimizer has steps of its own.
        if network.get(key) != other.get(key) and network["optimizer"] == other["optimizer"]:
            found.append(f"{key.replace('_', ' ')} {network.get(key)}")
    if network["shuffled"] != other["shuffled"]:
        found.append("shuffled labels" if network["shuffled"] else "true labels")
    if (network["part"], network["radius"]) != (other["part"], other["radius"]):
        part = network["part"]
        found.append(f"{part} {network['radius']:g}" if part else "whole images")
    return ", ".join(found)


def comparisons(here: Curves, trained: float) -> Iterator[dict[str, Any]]:
    """Yield differences between networks, on the same images and seed by seed.

    * 'low less high': trained on low less trained on high frequencies of one radius;
    * 'wider': trained on low frequencies of a radius less of the next smaller one, and 'widest':
      of the greatest less of the least;
    * 'true less shuffled', 'shuffled less true': labels;
    * 'heuristic', 'architecture', 'optimizer': less the network of the experiment;
    * 'batch size': the greatest less the least, of a scheme;
    * 'BatchNorm': with it less without it, trained on equal low frequencies; `along` is the mean
      over training, which is greater the faster a network learns;
    * 'BatchNorm elsewhere': that gain less the gain at the least radius.
    """
    e = here.e

    def row(kind: str, one: str, other: str, measure: str, radius: Any, values: Any) -> Any:
        a, b = values
        if not a.size or not b.size:
            return None
        pairs = min(len(a), len(b))
        return {
            **_own(e),
            "comparison": kind,
            "network": one,
            "with_network": other,
            "apart": apart(here.networks[one], here.networks[other]),
            **{key: here.networks[one][key] for key in ("dropout", "mixup")},
            "measure": measure,
            "radius": radius,
            **placed(radius),
            "seeds": pairs,
            "cases": a.shape[1],
            "first": float(a[:pairs].mean()),
            "second": float(b[:pairs].mean()),
            **mean("difference", a[:pairs] - b[:pairs]),
        }

    radii = sorted(e["radii"])

    def placed(radius: Any) -> dict[str, bool]:
        """Return which of the radii it is, for claims that ask for the least or the next."""
        return {
            "least_radius": radius == radii[0],
            "second_radius": radius == radii[min(1, len(radii) - 1)],
        }

    def of(kind: str, one: str, other: str, images: str, part: str, radius: Any) -> Any:
        if not here.same(one, other, images):
            raise UserError(
                f"The curves of {one!r} and {other!r} are of different {images} images, and are "
                f"compared; they need the same dataset and the same "
                f"{'train_images' if images == TRAIN else 'images'} under 'curves'."
            )
        values = [here.right(name, images, part, radius) for name in (one, other)]
        named = f"{images} {part}"
        return row(kind, one, other, named, radius, values)

    rows = []
    by_part = {
        (here.networks[name]["part"], here.networks[name]["radius"]): name
        for name in e["components"]
    }
    for radius in e["radii"]:
        if {(LOW, radius), (HIGH, radius)} <= set(by_part):
            pair = by_part[LOW, radius], by_part[HIGH, radius]
            found = of("low less high", *pair, TEST, FULL, None)
            rows.append({**found, "radius": radius, **placed(radius)})
    low = sorted(radius for part, radius in by_part if part == LOW)
    for smaller, wider in zip(low, low[1:], strict=False):
        found = of("wider", by_part[LOW, wider], by_part[LOW, smaller], TEST, FULL, None)
        rows.append({**found, "radius": wider, **placed(wider)})
    if len(low) > 1:
        ends = by_part[LOW, low[-1]], by_part[LOW, low[0]]
        rows.append({**of("widest", *ends, TEST, FULL, None), "radius": low[-1]})
    if e["labels"]:
        true, shuffled = e["labels"]
        radius = min(e["radii"])
        rows.append(of("true less shuffled", true, shuffled, TRAIN, LOW, radius))
        rows.append({**_slower(here, true, shuffled, trained), **placed(None)})
    for kind, group in (
        ("heuristic", "heuristics"),
        ("architecture", "architectures"),
        ("optimizer", "optimizers"),
    ):
        for name in e[group]:
            rows.append(of(kind, name, e["model"], TEST, FULL, None))
            for radius in e["radii"]:
                rows += [of(kind, name, e["model"], TEST, part, radius) for part in (LOW, HIGH)]
    for scheme in ("equal_epochs", "equal_updates"):
        rows += _sizes(here, scheme, of)
    rows += _gains(here, row)
    yield from (found for found in rows if found is not None)


def _slower(here: Curves, true: str, shuffled: str, trained: float) -> dict[str, Any]:
    """Return how many more epochs shuffled labels take, seed by seed.

    Nothing is known where a network of true labels was never trained; one of shuffled labels that
    was not took longer than it says. A time is known to an epoch, which is part of the error.
    """
    (a, _), (b, known) = (epochs_until(here, name, trained) for name in (shuffled, true))
    pairs = min(len(a), len(b))
    change = np.where(known[:pairs], a[:pairs] - b[:pairs], np.nan)
    # Two times, each uniform within an epoch.
    width = math.sqrt(2 / 12)
    return {
        **_own(here.e),
        "comparison": "shuffled less true",
        "network": shuffled,
        "with_network": true,
        "apart": "shuffled labels",
        "measure": f"epochs until {trained:g}",
        "radius": math.nan,
        "seeds": pairs,
        "cases": pairs,
        "first": float(a[:pairs].mean()),
        "second": float(b[:pairs].mean()),
        **columns("difference", student(change, width)),
        **columns("relative", student(change / b[:pairs], width / float(b[:pairs].min()))),
    }


def _sizes(here: Curves, scheme: str, of: Any) -> list[Any]:
    """Return differences between the greatest and the least batch size of a scheme."""
    names = sorted(here.e[scheme], key=lambda name: here.networks[name]["batch_size"])
    if len(names) < 2:
        return []
    kind = f"batch size, {scheme.replace('_', ' ')}"
    great, small = names[-1], names[0]
    test, train = (of(kind, great, small, images, FULL, None) for images in (TEST, TRAIN))
    pairs = test["seeds"]
    trained, tested = (
        here.right(great, images, FULL, None)[:pairs]
        - here.right(small, images, FULL, None)[:pairs]
        for images in (TRAIN, TEST)
    )
    gap = {
        **train,
        "measure": "gap",
        "first": train["first"] - test["first"],
        "second": train["second"] - test["second"],
        **columns("difference", crossed_difference(trained, tested)),
    }
    rows = [test, train, gap]
    return rows + [of(kind, great, small, TEST, HIGH, radius) for radius in here.e["radii"]]


def _gains(here: Curves, row: Any) -> list[Any]:
    """Return what BatchNorm gains at each radius, and how much more than at the least."""
    rows, gains = [], {}
    for name, plain, radius in _low_pairs(here):
        part = FULL if radius is None else LOW
        along = [here.along(network, TRAIN, part, radius) for network in (name, plain)]
        rows.append(row("BatchNorm", name, plain, "along", radius, along))
        test = [here.right(network, TEST, FULL, None) for network in (name, plain)]
        rows.append(row("BatchNorm", name, plain, "test full", radius, test))
        pairs = min(map(len, along))
        gains[radius] = name, along[0][:pairs] - along[1][:pairs]
    known = sorted(radius for radius in gains if radius is not None)
    for radius in gains:
        if known and radius != known[0]:
            (one, values), (other, least) = gains[radius], gains[known[0]]
            rows.append(row("BatchNorm elsewhere", one, other, "along", radius, (values, least)))
    return rows
