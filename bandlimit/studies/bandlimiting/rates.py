"""Rates of an attacked and a defended model, from records ("Bandlimiting", section 4.2).

With N images, C those that the model classifies correctly, and A those of C for which the attack
found an adversarial image within epsilon, the attacked set holds the adversarial image for each of
A and the clean image otherwise. The defence rate is the share of A that the defended model
classifies correctly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bandlimit.statistics import paired_error, wilson

ACCURACIES = ("clean_undefended", "attacked_undefended", "clean_defended", "attacked_defended")
"""Columns that are shares of all images."""


def defense_rates(
    undefended: pd.DataFrame,
    attacked: pd.DataFrame,
    clean: pd.DataFrame,
    adversarial: pd.DataFrame,
    settings: Sequence[tuple[float, int]],
) -> pd.DataFrame:
    """Return one row per (radius, directions) with all rates of section 4.2 and of ours.

    Args:
        undefended: the model's clean predictions: image_id, label, prediction, correct.
        attacked: one row per image: image_id, attacked (whether it is in A), prediction_before and
            prediction_after (of the model).
        clean: the defence on clean images: image_id, radius, directions, draw, correct.
        adversarial: the defence on adversarial images, likewise, those of A at least.
        settings: the (radius, directions) that the defence was evaluated at on this attack.

    Columns: images N, adversarial |A|, draws, clean_undefended, attacked_undefended,
    clean_defended, attacked_defended, defense_rate (null if A is empty), its Wilson interval low
    and high over A, deviation (standard deviation of the defence rate over draws, null for one
    draw), ceiling (share of A whose clean image the defence classifies correctly), conditional
    (defence rate among those), clean_differ (share of all images that only one of model and defence
    classifies correctly); ceiling_low and ceiling_high over A, and the same of each accuracy
    over N (clean_undefended_low and so on) are Wilson intervals. Rates of the defence are means
    over draws, and their intervals count images, not draws.

    Raises:
        ValueError: the sets of images differ, the model's predictions differ between the records,
            or an identity of section 4.2 does not hold.
    """
    model = undefended.set_index("image_id")
    images = model["correct"].astype(bool)
    records = attacked.set_index("image_id")
    if set(images.index) != set(records.index) or not images.index.is_unique:
        raise ValueError("the clean and the attacked records are not of the same images")
    records = records.reindex(images.index)
    if (records["prediction_before"] != model["prediction"]).any():
        raise ValueError("the clean and the attacked records disagree on what the model predicts")
    in_a = records["attacked"].astype(bool)
    if (in_a & ~images).any():
        raise ValueError("an image that the model misclassifies counts as attacked")
    members = in_a.index[in_a]
    total, count = len(images), int(in_a.sum())
    still_right = images.copy()
    still_right[in_a] = (records["prediction_after"] == model["label"])[in_a]
    # Identity of section 4.2: Attacked(f) = Clean(f) - |A| / N.
    if int(still_right.sum()) != int(images.sum()) - count:
        raise ValueError("attacked accuracy is not clean accuracy minus the share of #Adv")
    rows: list[dict[str, Any]] = []
    for radius, directions in settings:
        reference = clean[(clean["radius"] == radius) & (clean["directions"] == directions)]
        of_setting = adversarial[
            (adversarial["radius"] == radius) & (adversarial["directions"] == directions)
        ]
        numbers = sorted((of_setting if count else reference)["draw"].unique())
        draws: list[dict[str, float | None]] = []
        for draw in numbers:
            of_draw = of_setting[of_setting["draw"] == draw]
            on_clean = reference[reference["draw"] == draw].set_index("image_id")["correct"]
            on_adversarial = of_draw.set_index("image_id")["correct"].reindex(members)
            on_clean = on_clean.reindex(images.index)
            if on_clean.isna().any() or on_adversarial.isna().any():
                raise ValueError(f"records of the defence are missing at r={radius}, draw {draw}")
            on_clean = on_clean.astype(bool)
            draws.append(_one_draw(in_a, on_clean, on_adversarial.astype(bool)))
            draws[-1]["clean_differ"] = float((on_clean != images).mean())
        if not draws:
            raise ValueError(f"records of the defence are missing at r={radius}, K={directions}")
        table = pd.DataFrame(draws, dtype=float)
        rate = float(table["defense_rate"].mean()) if count else None
        low, high = wilson(rate * count if rate is not None else 0, count)
        several = len(draws) > 1 and count > 0
        row: dict[str, Any] = {
            "radius": radius,
            "directions": directions,
            "images": total,
            "adversarial": count,
            "draws": len(draws),
            "clean_undefended": float(images.mean()),
            "attacked_undefended": float(still_right.mean()),
            "clean_defended": float(table["clean_defended"].mean()),
            "clean_differ": float(table["clean_differ"].mean()),
            "attacked_defended": float(table["attacked_defended"].mean()),
            "defense_rate": rate,
            "low": low,
            "high": high,
            "deviation": float(table["defense_rate"].std()) if several else None,
            "ceiling": float(table["ceiling"].mean()) if count else None,
            "conditional": float(table["conditional"].mean()) if count else None,
        }
        for name, cases in (("ceiling", count), *((name, total) for name in ACCURACIES)):
            bounds = wilson(row[name] * cases if cases else 0, cases)
            row[f"{name}_low"], row[f"{name}_high"] = bounds
        rows.append(row)
    frame = pd.DataFrame(rows)
    empty = ["defense_rate", "low", "high", "deviation", "conditional"]
    empty += ["ceiling", "ceiling_low", "ceiling_high"]
    return frame.astype({name: float for name in empty})


def _one_draw(
    in_a: pd.Series, on_clean: pd.Series, on_adversarial: pd.Series
) -> dict[str, float | None]:
    total, count = len(in_a), int(in_a.sum())
    result = on_clean.copy()
    result[in_a] = on_adversarial
    rate = float(on_adversarial.mean()) if count else None
    attacked = float(result.mean())
    # Identity of section 4.2: kept images count as on the clean set, the others by the rate.
    expected = ((rate or 0.0) * count + int((on_clean & ~in_a).sum())) / total
    if abs(attacked - expected) > 1e-9:
        raise ValueError(f"defended accuracy {attacked} is not {expected}, as its parts say")
    kept = on_clean[in_a]
    return {
        "clean_defended": float(on_clean.mean()),
        "attacked_defended": attacked,
        "defense_rate": rate,
        "ceiling": float(kept.mean()) if count else None,
        "conditional": float(on_adversarial[kept].mean()) if kept.any() else None,
    }


@dataclass(frozen=True)
class Attacked:
    """What the defence says of one attacked set.

    Attributes:
        epsilon: the bound that the set keeps.
        members: ids of the images of A.
        defended: the defence on adversarial images: image_id, radius, directions, draw, correct.
    """

    epsilon: float
    members: Sequence[str]
    defended: pd.DataFrame


def changes(
    sets: Sequence[Attacked],
    clean: pd.DataFrame,
    settings: Sequence[tuple[float, int]],
    main: tuple[float, float, int],
) -> pd.DataFrame:
    """Return how far rates differ from those at the main setting, on the same images.

    Two settings that agree on most images differ by little for certain, which the intervals of the
    two rates can't say. The sets of two epsilons may differ; an image of one of them counts by what
    it adds to the difference of the two rates.

    Args:
        sets: the attacked sets of one attack, one for each epsilon.
        clean: the defence on clean images: image_id, radius, directions, draw, correct.
        settings: the (radius, directions) that the defence was evaluated at.
        main: epsilon, radius and directions of the main setting.

    Columns: epsilon, radius, directions; defense_rate_change and clean_change, the rates less those
    at the main setting, and their standard errors over images, defense_rate_change_error and
    clean_change_error; defense_rate_change_cases, images of the smaller set. Null, where the main
    setting is not among those given, or A is empty.
    """
    of_clean = {setting: _shares(clean, setting) for setting in settings}
    restored = {
        (one.epsilon, *setting): _shares(one.defended, setting).reindex(list(one.members))
        for one in sets
        for setting in settings
    }
    reference = next((name for name in restored if _same(name, main)), None)
    clean_reference = next((name for name in of_clean if _same(name, main[1:])), None)
    rows: list[dict[str, Any]] = []
    for name, own in restored.items():
        epsilon, radius, directions = name
        row: dict[str, Any] = {"epsilon": epsilon, "radius": radius, "directions": directions}
        row["defense_rate_change"], row["defense_rate_change_error"] = _change(
            own, restored.get(reference) if reference else None
        )
        row["defense_rate_change_cases"] = (
            min(len(own), len(restored[reference])) if reference else None
        )
        row["clean_change"], row["clean_change_error"] = _change(
            of_clean[radius, directions], of_clean.get(clean_reference) if clean_reference else None
        )
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype({name: float for name in frame.columns if "change" in name})


def _shares(judged: pd.DataFrame, setting: tuple[float, int]) -> pd.Series:
    """Return by image the share of draws in which the defence is right."""
    radius, directions = setting
    own = judged[(judged["radius"] == radius) & (judged["directions"] == directions)]
    return own.groupby("image_id")["correct"].mean()


def _same(name: Sequence[float], other: Sequence[float]) -> bool:
    return all(abs(a - b) < 1e-9 for a, b in zip(name, other, strict=True))


def _change(own: pd.Series, reference: pd.Series | None) -> tuple[float | None, float | None]:
    """Return the mean of one set of images less that of another, and its standard error."""
    if reference is None or own.empty or reference.empty:
        return None, None
    images = own.index.union(reference.index)
    parts = [
        ((each - each.mean()) * (len(images) / len(each))).reindex(images, fill_value=0.0)
        for each in (own, reference)
    ]
    least = min(len(own), len(reference))
    error = paired_error((parts[0] - parts[1]).to_numpy(float), len(images) / least)
    return float(own.mean() - reference.mean()), error
