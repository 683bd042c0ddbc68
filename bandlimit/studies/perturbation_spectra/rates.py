"""From records of perturbed images to the tables of the study.

Means are over images, of each image's own ratio, with 95% intervals by Student's t. Sources:
"A Frequency Domain Analysis of Gradient-Based Adversarial Examples" (the ratio tau, figures 2 to
13); Yin et al., "A Fourier Perspective on Model Robustness in Computer Vision" (figure 7);
"Bandlimiting Neural Networks Against Adversarial Attacks" and Wang et al. (CVPR 2020), who take
perturbations for high frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import stdtrit

from bandlimit.files import store
from bandlimit.spectral import shells as spectra
from bandlimit.statistics import paired_error, quantile, student, wilson
from bandlimit.studies.perturbation_spectra.settings import alike

Floats = NDArray[np.float64]

LOW, HIGH = 1.5, 1 / 1.5
"""Lifts beyond which energy is concentrated in low or in high frequencies."""

SPEAKS = {
    "low": "A Frequency Domain Analysis of Gradient-Based Adversarial Examples",
    "uniform": "A Fourier Perspective on Model Robustness in Computer Vision",
    "high": "Bandlimiting; High-frequency Component Helps Explain Generalization",
    "undecided": "none, the interval is too wide",
}
"""Which documents each place in the spectrum speaks for."""

CELL = ("dataset", "model", "network", "batchnorm", "training", "loss", "checkpoint")
"""Columns that name a cell of the grid."""


def frames(files: Mapping[str, Sequence[str]], told: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Return the tables of the study by name.

    Args:
        files: `perturbations` and `spectra`, in the order of `cells`; `trajectories`, in the order
            of `told["followed"]`; `filtered`.
        told: what they stand for: `experiments` (dataset, model, sides, radii, radius, cutoffs,
            filtered, shards, networks with their checkpoints), `clipped` by perturbation, `attack`,
            the perturbation that the filter meets, and `followed` networks.
    """
    lifts: list[dict[str, Any]] = []
    profiles: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    shares: dict[tuple[Any, ...], tuple[list[str], Floats]] = {}
    robust: dict[tuple[str, str], dict[str, Answers]] = {}
    for name, e, parts in grid(files, told["experiments"]):
        for perturbation, group, ids, table in parts:
            key = {**name, "perturbation": perturbation}
            of = spectra.shells(e["sides"])
            clipped = told["clipped"][perturbation]
            lifts += _lifts(key, e, clipped, group, table, of)
            profiles += _profile(key, table, of)
            cells.append(_cell(key, e, table, of))
            ratio = spectra.lfc_ratio(spectra.per_shell(table, "energies"), of, e["radius"])
            shares[(name["dataset"], name["model"], name["checkpoint"], perturbation)] = ids, ratio
            if name["checkpoint"] == "end" and perturbation == told["attack"]:
                for natural in _natural(name["model"], e["networks"]):
                    robust[(name["dataset"], natural)] = {
                        "clean": _right(group, "prediction_before"),
                        "attacked": _right(group, "prediction_after"),
                    }
    found = {
        "lifts": pd.DataFrame(lifts),
        "profiles": pd.DataFrame(profiles),
        "contradiction": pd.DataFrame(cells),
        "comparisons": comparisons(told["experiments"], shares),
    }
    if files["trajectories"]:
        found["trajectories"] = trajectories(files["trajectories"], told)
    if files["filtered"]:
        found["low_pass"] = low_pass(files["filtered"], told, robust)
    return found


def grid(
    files: Mapping[str, Sequence[str]], experiments: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], list[tuple[str, pd.DataFrame, Any, Any]]]]:
    """Yield of each cell its name, its experiment and its records by perturbation.

    Files are those of each experiment, network, checkpoint and shard, in this order. Records are
    the name of the perturbation, what became of the images, their ids, and their spectra.
    """
    place = 0
    for e in experiments:
        for network in e["networks"]:
            for checkpoint in network["checkpoints"]:
                here = slice(place, place + e["shards"])
                place += e["shards"]
                name = {
                    "dataset": e["dataset"],
                    "model": network["name"],
                    "network": network["name"],
                    "batchnorm": network["batchnorm"],
                    "training": network["training"],
                    "loss": network["loss"],
                    "checkpoint": checkpoint,
                }
                yield name, e, _parts(files["perturbations"][here], files["spectra"][here])


def _parts(images: Sequence[str], measured: Sequence[str]) -> list[tuple[str, Any, Any, Any]]:
    became = pd.concat(
        [
            store.read(path, [c for c in store.columns(path) if c != "image"]).to_pandas()
            for path in images
        ],
        ignore_index=True,
    )
    table = pa.concat_tables([store.read(path) for path in measured])
    # In one order for any shards, since sums of floating-point numbers depend on it.
    became = became.sort_values("image_id", kind="stable")
    order = np.argsort(table["image_id"].to_numpy().astype(str), kind="stable")
    names = np.array(table["perturbation"].to_pylist())
    found = []
    for perturbation in dict.fromkeys(names.tolist()):
        part = table.take(order[names[order] == perturbation])
        group = became[became["perturbation"] == perturbation].reset_index(drop=True)
        found.append((perturbation, group, part["image_id"].to_pylist(), part))
    return found


def _known(values: Floats) -> Floats:
    """Return values without those that are nan."""
    return values[~np.isnan(values)]


def _lifts(
    key: Mapping[str, Any],
    e: Mapping[str, Any],
    clipped: bool,
    group: pd.DataFrame,
    table: Any,
    of: spectra.Shells,
) -> list[dict[str, Any]]:
    energies = spectra.per_shell(table, "energies")
    clean = spectra.per_shell(table, "clean_energies")
    # Of an image most energy is its mean, of which a perturbation has next to none.
    bare, bare_clean = energies.copy(), clean.copy()
    bare[:, 0] = bare_clean[:, 0] = 0
    right = group["prediction_before"] == group["label"]
    kept = group["prediction_after"] == group["label"]
    rows = []
    for radius in e["radii"]:
        uniform = spectra.uniform_share(of, radius)
        ratio = spectra.lfc_ratio(energies, of, radius)
        of_images = spectra.lfc_ratio(clean, of, radius)
        known = _known(ratio)
        bare_ratio = spectra.lfc_ratio(bare, of, radius)
        bare_of_images = spectra.lfc_ratio(bare_clean, of, radius)
        mean, error, low, high = student(known)
        rows.append(
            {
                **key,
                "clipped": clipped,
                "radius": radius,
                "main": radius == e["radius"],
                "uniform": uniform,
                "images": known.size,
                "zero": float(np.isnan(ratio).mean()),
                "ratio": mean,
                "deviation": float(known.std(ddof=1)) if known.size > 1 else math.nan,
                "error": error,
                "low": low,
                "high": high,
                "lift": mean / uniform,
                "lift_low": low / uniform,
                "lift_high": high / uniform,
                "clean_ratio": float(of_images.mean()),
                "below_clean": _share_below(ratio, of_images),
                "ratio_without_mean": _mean(bare_ratio),
                "clean_ratio_without_mean": _mean(bare_of_images),
                "below_clean_without_mean": _share_below(bare_ratio, bare_of_images),
                "clean_accuracy": float(right.mean()),
                "attacked_accuracy": float(kept.mean()),
            }
        )
    return rows


def _mean(values: Floats) -> float:
    """Return the mean of what is known."""
    known = _known(values)
    return float(known.mean()) if known.size else math.nan


def _share_below(one: Floats, other: Floats) -> float:
    """Return how often one is less than the other, where both are known."""
    known = ~np.isnan(one) & ~np.isnan(other)
    return float((one[known] < other[known]).mean()) if known.any() else math.nan


def _profile(key: Mapping[str, Any], table: Any, of: spectra.Shells) -> list[dict[str, Any]]:
    profile = spectra.radial_profile(spectra.per_shell(table, "magnitudes"), of)
    rows = []
    for distance in range(profile.shape[1]):
        known = _known(profile[:, distance])
        mean, error, low, high = student(known)
        rows.append(
            {
                **key,
                "distance": distance,
                "images": known.size,
                "profile": mean,
                "low": low,
                "high": high,
                "error": error,
            }
        )
    return rows


def _cell(
    key: Mapping[str, Any], e: Mapping[str, Any], table: Any, of: spectra.Shells
) -> dict[str, Any]:
    """Return where one cell's perturbations lie, in themselves and relative to the image."""
    radius = e["radius"]
    own = spectra.lift(spectra.per_shell(table, "energies"), of, radius)
    lift, _, lift_low, lift_high = student(_known(own))
    zero = np.array(table["zero"].to_pylist())
    inside, outside = spectra.inside_and_outside(
        spectra.per_shell(table, "log_difference")[~zero], of, radius
    )
    # Where nothing changes beyond the radius, no ratio says how much more does within it.
    ratio = inside / np.where(outside > 0, outside, np.nan)
    relative, _, relative_low, relative_high = student(_known(ratio))
    magnitude = verdict(lift_low, lift_high)
    return {
        **key,
        "radius": radius,
        "images": int((~zero).sum()),
        "lift": lift,
        "lift_low": lift_low,
        "lift_high": lift_high,
        "magnitude": magnitude,
        "relative_lift": relative,
        "relative_low": relative_low,
        "relative_high": relative_high,
        "relative": verdict(relative_low, relative_high),
        "supports": SPEAKS[magnitude],
    }


def verdict(low: float, high: float) -> str:
    """Return where energy lies, from the interval of its lift: low, uniform, high or undecided."""
    if low > LOW:
        return "low"
    if high < HIGH:
        return "high"
    if low >= HIGH and high <= LOW:
        return "uniform"
    return "undecided"


def comparisons(
    experiments: Sequence[Mapping[str, Any]],
    shares: Mapping[tuple[Any, ...], tuple[list[str], Floats]],
) -> pd.DataFrame:
    """Return differences of the LFC ratio between networks and checkpoints, on equal images.

    * 'adversarial training': of a network less the natural one that was trained alike;
    * 'squared error': of a network less that of cross-entropy, trained alike but for the learning
      rate, which no two losses share;
    * 'training': of a network at the end less at its start.
    """
    rows = []
    for e in experiments:
        for kind, first, second in _pairs(e["networks"]):
            for key in shares:
                dataset, model, checkpoint, perturbation = key
                if (dataset, model, checkpoint) != (e["dataset"], *first):
                    continue
                other = (dataset, *second, perturbation)
                if other not in shares:
                    continue
                rows.append(
                    {
                        "dataset": dataset,
                        "model": model,
                        "comparison": kind,
                        "with_model": second[0],
                        "with_checkpoint": second[1],
                        "perturbation": perturbation,
                        "radius": e["radius"],
                        **_difference(shares[key], shares[other]),
                    }
                )
    columns = ["dataset", "model", "comparison", "with_model", "with_checkpoint", "perturbation"]
    columns += ["radius", "images", "ratio", "with_ratio", "difference", "error", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _pairs(networks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Any, Any]]:
    """Yield kind, network and checkpoint, and those that it is compared with."""
    for network in networks:
        here = (network["name"], "end")
        if "initial" in network["checkpoints"]:
            yield "training", here, (network["name"], "initial")
        kind, mse = "adversarial training", False
        if network["training"] == "natural":
            kind, mse = "squared error", True
        for other in networks:
            natural = other["training"] == "natural" and other["loss"] == "cross_entropy"
            if natural and network is not other and alike(network, other, mse=mse):
                yield kind, here, (other["name"], "end")
                # The first of several: a claim asks for one difference.
                break


def _natural(model: str, networks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the natural networks of the kind of an adversarially trained one.

    What defends best is asked of both, so each may be trained as suits it.
    """
    (own,) = (network for network in networks if network["name"] == model)
    kind = ("batchnorm", "architecture", "loss")
    return [
        other["name"]
        for other in networks
        if own["training"] == "adversarial"
        and other["training"] == "natural"
        and all(own[key] == other[key] for key in kind)
    ]


def _right(group: pd.DataFrame, prediction: str) -> Answers:
    return (group[prediction] == group["label"]).set_axis(group["image_id"])


def _difference(one: tuple[list[str], Floats], two: tuple[list[str], Floats]) -> dict[str, Any]:
    a, b = (pd.Series(values, index=ids) for ids, values in (one, two))
    both = pd.concat([a, b], axis=1, join="inner").dropna()
    change = (both[0] - both[1]).to_numpy()
    if not change.size:
        names = ("ratio", "with_ratio", "difference", "error", "low", "high")
        return {"images": 0, **dict.fromkeys(names, math.nan)}
    error = paired_error(change) or 0.0
    mean, reach = float(change.mean()), quantile(0.95) * error
    return {
        "images": len(both),
        "ratio": float(both[0].mean()),
        "with_ratio": float(both[1].mean()),
        "difference": mean,
        "error": error,
        "low": mean - reach,
        "high": mean + reach,
    }


def trajectories(files: Sequence[str], told: Mapping[str, Any]) -> pd.DataFrame:
    """Return the measurements along all trainings, with the intervals of the means."""
    networks = {n["name"]: n for e in told["experiments"] for n in e["networks"]}
    parts = []
    for path, followed in zip(files, told["followed"], strict=True):
        frame = store.read(path).to_pandas()
        name = followed["name"]
        network = networks[name]
        label = {"dataset": followed["dataset"], "model": name, "network": name}
        label |= {key: network[key] for key in ("batchnorm", "training", "loss", "architecture")}
        frame = frame.rename(columns={"loss": "loss_value"})
        for place, (column, value) in enumerate(label.items()):
            frame.insert(place, column, value)
        frame["error"] = frame["deviation"] / np.sqrt(frame["images"])
        reach = stdtrit(np.maximum(frame["images"] - 1, 1), 0.975) * frame["error"]
        frame["low"], frame["high"] = frame["ratio"] - reach, frame["ratio"] + reach
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


def low_pass(
    files: Sequence[str],
    told: Mapping[str, Any],
    adversarial: Mapping[tuple[str, str], Mapping[str, Answers]],
) -> pd.DataFrame:
    """Return accuracy behind the filter by cut-off, with Wilson intervals.

    Args:
        files: evaluations of the filter.
        told: as of `frames`.
        adversarial: by dataset and network, what the adversarially trained network of its kind says
            of the images, `clean` and `attacked`.
    """
    rows = []
    place = 0
    for e in told["experiments"]:
        for model in e["filtered"]:
            parts = [store.read(p).to_pandas() for p in files[place : place + e["shards"]]]
            place += e["shards"]
            frame = pd.concat(parts, ignore_index=True)
            bare = frame[frame["cutoff"].isna()]
            unfiltered = {
                "unfiltered_clean": float(bare[bare["inputs"] == "clean"]["correct"].mean()),
                "unfiltered_attacked": float(bare[bare["inputs"] == "unaware"]["correct"].mean()),
            }
            for cutoff in e["cutoffs"]:
                here = frame[frame["cutoff"] == cutoff]
                row = {
                    "dataset": e["dataset"],
                    "model": model,
                    "document": e["document"],
                    "stand_in": e["stand_in"],
                    "cutoff": cutoff,
                    "images": int((here["inputs"] == "clean").sum()),
                }
                for inputs in ("clean", "unaware", "aware"):
                    correct = here[here["inputs"] == inputs]["correct"]
                    row[inputs] = float(correct.mean())
                    low, high = wilson(int(correct.sum()), len(correct))
                    row[f"{inputs}_low"], row[f"{inputs}_high"] = low, high
                bare_clean, clean = _answers(bare, "clean"), _answers(here, "clean")
                row["clean_differ"] = float((bare_clean.reindex(clean.index) != clean).mean())
                unaware = _answers(here, "unaware")
                for end, at in (("first", min(e["cutoffs"])), ("last", max(e["cutoffs"]))):
                    other = _answers(frame[frame["cutoff"] == at], "unaware")
                    row |= _beside(f"unaware_{end}", unaware, other)
                robust = adversarial.get((e["dataset"], model))
                for inputs, name in (("clean", "clean"), ("unaware", "attacked")):
                    own = _answers(here, inputs)
                    other = None if robust is None else robust[name]
                    row |= _beside(f"adversarial_{name}", own, other)
                rows.append({**row, **unfiltered, "best": cutoff == _best(frame)})
    return pd.DataFrame(rows)


Answers: TypeAlias = "pd.Series[bool]"
"""Whether each image is classified correctly, by its id."""


def _answers(frame: pd.DataFrame, inputs: str) -> Answers:
    return frame[frame["inputs"] == inputs].set_index("image_id")["correct"]


def _beside(name: str, own: Answers, other: Answers | None) -> dict[str, float]:
    """Return the mean of other answers on the same images, and how often they differ."""
    if other is None:
        return {name: math.nan, f"{name}_differ": math.nan}
    same = other.reindex(own.index)
    return {name: float(same.mean()), f"{name}_differ": float((same != own).mean())}


def _best(frame: pd.DataFrame) -> float:
    """Return the cut-off behind which the unaware attack leaves most, the least of several."""
    unaware = frame[(frame["inputs"] == "unaware") & frame["cutoff"].notna()]
    means = unaware.groupby("cutoff")["correct"].mean()
    return float(means.idxmax())
