"""What is left of a defence when it is examined: rates, comparisons and checks, from records.

The records say, for one image as an attack left it and one draw of the defence's randomness,
whether the defence classifies it correctly. Three numbers sum up the draws and restarts of an
attack: `mean` over all of them; `majority`, the share of images that most draws classify correctly
after each restart; `worst`, the share that all draws taken classify correctly after all restarts
(where most agree, some are not taken). Comparisons and checks use the majority, since a single
lucky draw decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bandlimit import statistics
from bandlimit.studies.robustness.draws import settled

UNDEFENDED = "undefended"
CLEAN = "clean"
STRONGEST = "strongest"
"""Name of the attack that is, image by image, the strongest of all."""

ANY = "any"
"""What the strongest attack is against: whatever its parts are."""

MODEL = ["dataset", "model"]
Attacks = Mapping[str, Mapping[str, Any]]
Floats = NDArray[np.float64]

# Draws, restarts, intervals ---------------------------------------------------------------------


@dataclass(frozen=True)
class Cube:
    """What a defence says of images, restarts and draws.

    Attributes:
        right: images x restarts x draws, bool: whether it is right; false where it was not asked.
        taken: likewise, whether it was asked: draws end once they are settled.
        planned: how many draws an image would take at most.
    """

    right: NDArray[np.bool_]
    taken: NDArray[np.bool_]
    planned: int

    @property
    def restarts(self) -> int:
        """How many restarts there are."""
        return self.right.shape[1]

    def shares(self) -> Floats:
        """Return, images x restarts, the share of draws that are right, without bias.

        Of draws that end at the a-th right or the b-th wrong one, whichever comes first, the share
        of right ones is biased. The one that ended them tells nothing but when they ended, so it
        is left out (Girshick, Mosteller and Savage 1946, "Unbiased estimates for certain binomial
        sampling problems with applications").
        """
        hits, asked = self.right.sum(axis=2), self.taken.sum(axis=2)
        if self.planned < 3:
            return np.asarray(hits / asked)
        last = hits == settled(self.planned)[0]
        return np.asarray((hits - last) / (asked - 1))

    def majority(self) -> NDArray[np.bool_]:
        """Return per image whether most draws are right after each restart; a tie is wrong."""
        hits = self.right.sum(axis=2)
        return np.asarray((hits > self.taken.sum(axis=2) - hits).all(axis=1))

    def worst(self) -> NDArray[np.bool_]:
        """Return per image whether all draws that were taken are right, after all restarts."""
        return np.asarray((self.right | ~self.taken).all(axis=(1, 2)))

    def deviation(self, axis: int) -> float:
        """Return the standard deviation of accuracy along restarts (1) or draws (2), NaN of one.

        Along draws, of those that every image takes.
        """
        if axis == 1:
            means = self.shares().mean(axis=0)
        else:
            common = self.taken.all(axis=(0, 1))
            means = self.right[:, :, common].mean(axis=(0, 1))
        return float(means.std(ddof=1)) if len(means) > 1 else np.nan


def cube_of(rows: pd.DataFrame) -> tuple[pd.Index, Cube]:
    """Return the images, and what the defence says of them after each restart in each draw.

    Raises:
        ValueError: a combination is missing or there twice, or draws end before they are settled,
            or go on afterwards.
    """
    restarts = rows["restart"].fillna(0) if "restart" in rows else pd.Series(0, rows.index)
    ids, image = np.unique(rows["image_id"].to_numpy(str), return_inverse=True)
    _, restart = np.unique(restarts.to_numpy(np.int64), return_inverse=True)
    draw = rows["draw"].to_numpy(np.int64)
    planned = int(rows["draws"].iloc[0])
    shape = (len(ids), restart.max() + 1, planned)
    taken, right = np.zeros(shape, bool), np.zeros(shape, bool)
    if (rows["draws"] != planned).any() or draw.max() >= planned:
        raise ValueError("records are of different numbers of draws")
    taken[image, restart, draw] = True
    right[image, restart, draw] = rows["correct"].to_numpy(bool)
    enough, failures = settled(planned)
    hits, misses = right.cumsum(axis=2), (taken & ~right).cumsum(axis=2)
    open_ = (hits < enough) & (misses < failures)
    # The first draw, and each that follows one after which all was open.
    due = np.concatenate([np.ones_like(taken[:, :, :1]), open_[:, :, :-1]], axis=2)
    if taken.sum() != len(rows) or (taken != due).any():
        raise ValueError(
            f"{len(rows)} records aren't those of {len(ids)} images, {shape[1]} restarts and "
            f"{planned} draws: one is missing, there twice, or drawn after all was settled"
        )
    return pd.Index(ids), Cube(right, taken, planned)


def _interval(rate: float, total: int, low: str = "low", high: str = "high") -> dict[str, Any]:
    bounds = statistics.wilson(rate * total, total) if total else (None, None)
    return dict(zip((low, high), bounds, strict=True))


def _restored(rows: pd.DataFrame) -> dict[str, Any]:
    """Return images, draws, restored with its interval, and the deviation over draws."""
    if rows.empty:
        nothing = dict.fromkeys(("restored", "low", "high", "deviation"), np.nan)
        return {"images": 0, "draws": 0, **nothing}
    ids, cube = cube_of(rows)
    rate = float(cube.shares().mean())
    return {
        "images": len(ids),
        "draws": cube.planned,
        "restored": rate,
        **_interval(rate, len(ids)),
        "deviation": cube.deviation(2),
    }


def groups(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield the rows that share values, nulls being equal, in the order of values."""
    return iter(frame.groupby(list(keys), sort=True, dropna=False))


def typed(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Return rows with columns of fixed types, so that an empty table has them too."""
    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns)


# Adaptive attacks -------------------------------------------------------------------------------

ACCURACY = {
    **dict.fromkeys(("dataset", "model", "defense", "against", "attack"), "str"),
    "epsilon": "float64",
    **dict.fromkeys(("images", "restarts", "draws"), "int64"),
    **dict.fromkeys(("mean", "low", "high", "majority", "worst"), "float64"),
    **dict.fromkeys(("deviation_draws", "deviation_restarts"), "float64"),
}


def robust_accuracy(judged: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of each defence under each attack at each epsilon.

    Source: Bandlimiting, what section 4 leaves out.

    Args:
        judged: dataset, model, defense (that judges), image_id, against (the attacked defence,
            'none' for clean images), attack ('clean' or a name), epsilon (l_inf, [0, 1] pixels; 0
            for clean, null for minimal attacks, whose rows don't count here), restart (may be
            null), draw, correct.

    Columns: dataset, model, defense, against, attack, epsilon; images, restarts, draws; mean, its
    Wilson 95% interval low and high over images; majority; worst; deviation_draws and
    deviation_restarts, standard deviations of the accuracy (null for a single one). Rows of the
    attack 'strongest' take each image by the attack that hurts it most, the unchanged image among
    them, since it lies within every bound: its mean is over images of the least share of draws,
    found on the draws that judge it and so a little low; its majority asks for the majority under
    every attack. An attack that was given a part of the images counts on that part.

    Raises:
        ValueError: attacks at one epsilon have images of which neither's are a part of the other's,
            an image is in no clean record though others are, or records are missing or there twice.
    """
    rows: list[dict[str, Any]] = []
    cells = judged[judged["epsilon"].notna()]
    for (dataset, model, defense), own in groups(cells, [*MODEL, "defense"]):
        names = {"dataset": dataset, "model": model, "defense": defense}
        cubes: dict[tuple[str, str, float], tuple[pd.Index, Cube]] = {}
        for cell, of_cell in groups(own, ["against", "attack", "epsilon"]):
            ids, cube = cubes[cell] = cube_of(of_cell)
            rows.append(names | dict(zip(("against", "attack", "epsilon"), cell, strict=True)))
            rate = float(cube.shares().mean())
            rows[-1] |= {
                "images": len(ids),
                "restarts": cube.restarts,
                "draws": cube.planned,
                "mean": rate,
                **_interval(rate, len(ids)),
                "majority": float(cube.majority().mean()),
                "worst": float(cube.worst().mean()),
                "deviation_draws": cube.deviation(2),
                "deviation_restarts": cube.deviation(1),
            }
        clean = [part for (_, attack, _), part in cubes.items() if attack == CLEAN]
        for epsilon in sorted({e for _, attack, e in cubes if attack != CLEAN}):
            attacks = {
                f"{attack} against {against}": part
                for (against, attack, e), part in cubes.items()
                if attack != CLEAN and e == epsilon
            }
            rows.append(names | {"against": ANY, "attack": STRONGEST, "epsilon": epsilon})
            rows[-1] |= _strongest(attacks, clean, f"{defense} at epsilon {epsilon:.6g}")
    return typed(rows, ACCURACY)


def _strongest(
    attacks: Mapping[str, tuple[pd.Index, Cube]],
    clean: Sequence[tuple[pd.Index, Cube]],
    place: str,
) -> dict[str, Any]:
    """Return the numbers of the image-wise strongest of attacks and clean images."""
    widest = max(attacks, key=lambda name: len(attacks[name][0]))
    ids = attacks[widest][0]
    shares, majorities, worst = [], [], []
    for name, (other, cube) in [*attacks.items(), *((CLEAN, part) for part in clean)]:
        if name == CLEAN:
            if missing := len(ids.difference(other)):
                raise ValueError(f"{missing} attacked images of {place} have no clean record")
        elif outside := len(other.difference(ids)):
            raise ValueError(
                f"attacks on {place} have unequal images: {outside} of {name} are not among the "
                f"{len(ids)} of {widest}"
            )
        where = other.get_indexer(ids)
        # What was not tried hurts no image.
        tried = where >= 0
        shares.append(np.where(tried, cube.shares().min(axis=1)[where], 1.0))
        majorities.append(cube.majority()[where] | ~tried)
        worst.append(cube.worst()[where] | ~tried)
    cubes = [cube for _, cube in attacks.values()]
    rate = float(np.min(shares, axis=0).mean())
    return {
        "images": len(ids),
        "restarts": max(cube.restarts for cube in cubes),
        "draws": max(cube.planned for cube in cubes),
        "mean": rate,
        **_interval(rate, len(ids)),
        "majority": float(np.all(majorities, axis=0).mean()),
        "worst": float(np.all(worst, axis=0).mean()),
    }


LOSSES = {
    **dict.fromkeys(("dataset", "model", "against", "attack"), "str"),
    "epsilon": "float64",
    **dict.fromkeys(("step", "images", "restarts", "not_finite"), "int64"),
    **dict.fromkeys(("mean", "lower", "median", "upper"), "float64"),
}


def loss_curves(losses: pd.DataFrame) -> pd.DataFrame:
    """Return how the loss that an attack maximises runs from step to step.

    Args:
        losses: dataset, model, against, attack, epsilon, restart, image_id, losses (a list, one
            value per step; attacks without steps have none and give no rows).

    Columns: dataset, model, against, attack, epsilon, step (from 1), images, restarts, not_finite
    (values that are no finite numbers, left out), mean, lower and upper quartile, median, over
    images and restarts.
    """
    rows: list[dict[str, Any]] = []
    keys = ["against", "attack", "epsilon"]
    for names, own in groups(losses, [*MODEL, *keys]):
        lists = [np.asarray(values, np.float64) for values in own["losses"]]
        for step in range(max(map(len, lists))):
            values = np.array([each[step] for each in lists if len(each) > step])
            finite = values[np.isfinite(values)]
            quartiles = np.quantile(finite, (0.25, 0.5, 0.75)) if len(finite) else [np.nan] * 3
            rows.append(dict(zip([*MODEL, *keys], names, strict=True)))
            rows[-1] |= {
                "step": step + 1,
                "images": own["image_id"].nunique(),
                "restarts": own["restart"].fillna(0).nunique(),
                "not_finite": len(values) - len(finite),
                "mean": float(finite.mean()) if len(finite) else np.nan,
                **dict(zip(("lower", "median", "upper"), quartiles, strict=True)),
            }
    return typed(rows, LOSSES)


# Sets that are attacked once --------------------------------------------------------------------

CONFIDENCE = {
    **dict.fromkeys(("dataset", "model", "defense", "against", "attack"), "str"),
    "confidence": "float64",
    **dict.fromkeys(("images", "adversarial", "draws"), "int64"),
    **dict.fromkeys(("defense_rate", "low", "high", "deviation", "ceiling"), "float64"),
    **dict.fromkeys(("median_linf", "epsilon"), "float64"),
    "adversarial_within": "int64",
    **dict.fromkeys(("rate_within", "low_within", "high_within"), "float64"),
}


def confidence_rates(
    judged: pd.DataFrame, epsilons: Mapping[tuple[str, str], float]
) -> pd.DataFrame:
    """Return the defence rate of each defence over the confidence that an attack asks for.

    An image is adversarial if the attacked defence classifies it correctly when clean and wrongly
    when attacked, by its own rows, so these must be there.

    Args:
        judged: as of `robust_accuracy`, with confidence (null elsewhere) and linf ([0, 1] pixels).
        epsilons: l_inf bound of each dataset and model, which the attack does not know.

    Columns: dataset, model, defense, against, attack, confidence, images, adversarial, draws,
    defense_rate (mean over draws and restarts; null without adversarial images) with its Wilson 95%
    interval low and high, deviation (over draws, null for one), ceiling (share of the adversarial
    images whose clean image the defence classifies correctly; null without clean records),
    median_linf of the adversarial images; epsilon, adversarial_within (how many of them keep it, as
    the document counts), and the defence rate of these, rate_within, with its interval low_within
    and high_within (null without any).

    Raises:
        ValueError: the attacked defence has no rows on clean or on these attacked images, or
            records are missing or there twice.
    """
    rows: list[dict[str, Any]] = []
    cells = judged[judged["confidence"].notna()]
    keys = ["against", "attack", "confidence"]
    for (dataset, model, *names), own in groups(cells, [*MODEL, *keys]):
        clean = judged[
            (judged["dataset"] == dataset)
            & (judged["model"] == model)
            & (judged["attack"] == CLEAN)
            & judged["image_id"].isin(own["image_id"])
        ]
        epsilon = epsilons[dataset, model]
        members, images = _fooled(own, clean, names[0])
        # Single precision may round a norm up past the bound that it kept.
        near = members[members.isin(own.loc[own["linf"] <= epsilon + 1e-7, "image_id"])]
        for defense, of_defense in own.groupby("defense", sort=True):
            rate = _restored(of_defense[of_defense["image_id"].isin(members)])
            within = _restored(of_defense[of_defense["image_id"].isin(near)])
            before = clean[(clean["defense"] == defense) & clean["image_id"].isin(members)]
            linf = of_defense.loc[of_defense["image_id"].isin(members)].groupby("image_id")["linf"]
            rows.append({"dataset": dataset, "model": model, "defense": defense})
            rows[-1] |= dict(zip(keys, names, strict=True))
            rows[-1] |= {
                "images": images,
                "adversarial": rate["images"],
                "draws": rate["draws"],
                "defense_rate": rate["restored"],
                **{name: rate[name] for name in ("low", "high", "deviation")},
                "ceiling": _restored(before)["restored"],
                "median_linf": float(linf.max().median()) if len(members) else np.nan,
                "epsilon": epsilon,
                "adversarial_within": within["images"],
                "rate_within": within["restored"],
                "low_within": within["low"],
                "high_within": within["high"],
            }
    return typed(rows, CONFIDENCE)


def _fooled(own: pd.DataFrame, clean: pd.DataFrame, against: str) -> tuple[pd.Index, int]:
    """Return the images that fool the attacked defence, and how many were attacked."""
    own, clean = own[own["defense"] == against], clean[clean["defense"] == against]
    if own.empty or clean.empty:
        raise ValueError(f"what {against!r} itself says of clean and attacked images is missing")
    ids, after = cube_of(own)
    known, before = cube_of(clean)
    if not known.equals(ids):
        raise ValueError(f"attacked images of {against!r} have no clean record")
    return ids[before.majority() & ~after.majority()], len(ids)


SCALING = {
    **dict.fromkeys(("dataset", "model", "attack", "defense"), "str"),
    "factor": "float64",
    **dict.fromkeys(("images", "draws"), "int64"),
    **dict.fromkeys(("restored", "low", "high", "deviation", "median_linf"), "float64"),
}


def scaling_rates(scaled: pd.DataFrame, sets: Sets = ()) -> pd.DataFrame:
    """Return the share of adversarial images restored when their perturbation is lengthened.

    Args:
        scaled: dataset, model, image_id (adversarial images alone), attack, factor (1 is the
            perturbation as the attack left it), defense, draw, linf ([0, 1] pixels), correct.
        sets: dataset, model, attack, defenses and factors of all that was asked; what has no
            adversarial image has rows without rates.

    Columns: dataset, model, attack, defense, factor, images, draws, restored with its Wilson 95%
    interval low and high, deviation (over draws, null for one), median_linf.
    """
    keys = [*MODEL, "attack", "defense", "factor"]
    rows = [
        {
            **dict(zip(keys, names, strict=True)),
            **_restored(own),
            "median_linf": float(own.groupby("image_id")["linf"].max().median()),
        }
        for names, own in groups(scaled, keys)
    ]
    there = {tuple(row[key] for key in (*MODEL, "attack")) for row in rows}
    for each in sets:
        shared = {name: each[name] for name in (*MODEL, "attack")}
        if tuple(shared.values()) not in there:
            rows += [
                {**shared, "defense": defense, "factor": factor, **_restored(scaled.iloc[:0])}
                for defense in each["defenses"]
                for factor in each["factors"]
            ]
    return typed(rows, SCALING)


CONTROLS = {
    **dict.fromkeys(("dataset", "model", "attack"), "str"),
    "epsilon": "float64",
    "control": "str",
    **dict.fromkeys(("adversarial", "draws"), "int64"),
    **dict.fromkeys(("restored", "low", "high", "deviation", "ceiling"), "float64"),
    "images": "int64",
    **dict.fromkeys(("clean", "clean_low", "clean_high", "clean_deviation"), "float64"),
}


Sets = Sequence[Mapping[str, Any]]


def _unfooled(controls: pd.DataFrame, sets: Sets) -> Iterator[tuple[Mapping[str, Any], list[str]]]:
    """Yield the sets without an adversarial image, each with the controls of its network."""
    there = set(zip(*(controls[name] for name in (*MODEL, "inputs")), strict=True))
    for each in sets:
        if (each["dataset"], each["model"], each["attack"]) not in there:
            own = controls[(controls[MODEL] == [each[name] for name in MODEL]).all(axis=1)]
            yield each, sorted(own["control"].unique())


def control_rates(controls: pd.DataFrame, sets: Sets = ()) -> pd.DataFrame:
    """Return what each control restores of the adversarial images, and what it costs.

    Args:
        controls: dataset, model, image_id, inputs ('clean', or an attack: its adversarial images
            alone), epsilon (null for minimal attacks), control (name of a defence), draw, correct.
        sets: dataset, model, attack and epsilon of all that were attacked; one that has no
            adversarial image has rows without rates.

    Columns: dataset, model, attack, epsilon, control, adversarial (number of images), draws,
    restored (mean over draws) with its Wilson 95% interval low and high, deviation (over draws,
    null for one), ceiling (share of these images that the control classifies correctly when clean;
    no defence that only undoes the attack restores more), images (number of clean ones), clean
    (accuracy on them) with interval and deviation; null where a control saw no clean images.
    """
    rows: list[dict[str, Any]] = []
    unattacked = {
        names: own
        for names, own in groups(controls[controls["inputs"] == CLEAN], [*MODEL, "control"])
    }
    attacked = controls[controls["inputs"] != CLEAN]
    parts = list(groups(attacked, [*MODEL, "inputs", "epsilon", "control"]))
    for each, names in _unfooled(controls, sets):
        key = tuple(each[name] for name in (*MODEL, "attack", "epsilon"))
        parts += [((*key, name), attacked.iloc[:0]) for name in names]
    for (dataset, model, attack, epsilon, control), own in parts:
        rate = _restored(own)
        clean = unattacked.get((dataset, model, control), own.iloc[:0])
        on_clean = _restored(clean)
        known = clean[clean["image_id"].isin(own["image_id"])]
        rows.append(
            {
                "dataset": dataset,
                "model": model,
                "attack": attack,
                "epsilon": epsilon,
                "control": control,
                "adversarial": rate["images"],
                "draws": rate["draws"],
                **{name: rate[name] for name in ("restored", "low", "high", "deviation")},
                "ceiling": _restored(known)["restored"],
                "images": on_clean["images"],
                "clean": on_clean["restored"],
                "clean_low": on_clean["low"],
                "clean_high": on_clean["high"],
                "clean_deviation": on_clean["deviation"],
            }
        )
    return typed(rows, CONTROLS)


COMPARISONS = {
    **dict.fromkeys(("dataset", "model", "attack"), "str"),
    "epsilon": "float64",
    **dict.fromkeys(("reference", "control"), "str"),
    **dict.fromkeys(("images", "draws", "control_draws"), "int64"),
    **dict.fromkeys(("only_reference", "only_control"), "int64"),
    **dict.fromkeys(("difference", "p_value", "p_holm"), "float64"),
    "different": "bool",
}


def comparisons(
    controls: pd.DataFrame, reference: str = "post_averaging", sets: Sets = ()
) -> pd.DataFrame:
    """Return exact McNemar tests of one defence against each control, on equal images.

    The test needs one answer to each image. Of a defence that draws it is right or wrong by the
    majority of its draws, a tie being wrong, since a first draw may be a lucky one, and draws of
    one image are no cases of their own. So the test is of what the defence mostly says; the mean
    over draws stands in `control_rates`. P-values are corrected after Holm over all controls (and
    epsilons) of one dataset, model and attack.

    Args:
        controls: as of `control_rates`; clean images are compared too.
        reference: the defence that the others are compared with.
        sets: as of `control_rates`.

    Columns: dataset, model, attack ('clean' for clean images), epsilon, reference, control, images,
    draws and control_draws (of the reference and the control), only_reference and only_control
    (images that only the one classifies correctly), difference (of the shares classified correctly,
    in [-1, 1]; positive where the reference is better), p_value, p_holm, different (p_holm below
    0.05).

    Where the reference is not among the controls, nothing is compared.

    Raises:
        ValueError: a control saw other images than the reference, or records are missing or there
            twice.
    """
    rows: list[dict[str, Any]] = []
    for (dataset, model, attack), family in groups(controls, [*MODEL, "inputs"]):
        tests: list[dict[str, Any]] = []
        for epsilon, own in groups(family, ["epsilon"]):
            right = {name: cube_of(part) for name, part in own.groupby("control", sort=True)}
            if reference not in right:
                continue
            ids, cube = right.pop(reference)
            ours = cube.majority()
            for control, (others, other) in right.items():
                if not others.equals(ids):
                    raise ValueError(f"{control!r} and {reference!r} judged other images")
                theirs = other.majority()
                tests.append(
                    {
                        "dataset": dataset,
                        "model": model,
                        "attack": attack,
                        "epsilon": epsilon[0],
                        "reference": reference,
                        "control": control,
                        "images": len(ids),
                        "draws": cube.planned,
                        "control_draws": other.planned,
                        "only_reference": int((ours & ~theirs).sum()),
                        "only_control": int((theirs & ~ours).sum()),
                        "difference": float(ours.mean() - theirs.mean()),
                        "p_value": statistics.mcnemar(ours, theirs),
                    }
                )
        corrected = statistics.holm([test["p_value"] for test in tests])
        for test, p_value in zip(tests, corrected, strict=True):
            different = p_value is not None and p_value < 0.05
            rows.append(test | {"p_holm": p_value, "different": different})
    counts = dict.fromkeys(
        ("images", "draws", "control_draws", "only_reference", "only_control"), 0
    )
    for each, names in _unfooled(controls, sets):
        shared = {name: each[name] for name in (*MODEL, "attack", "epsilon")}
        rows += [
            {**shared, "reference": reference, "control": name, **counts, "different": False}
            for name in names
            if reference in names and name != reference
        ]
    return typed(rows, COMPARISONS)


# What the figure of robust accuracy draws -------------------------------------------------------

CURVES = {
    **dict.fromkeys(("dataset", "model", "defense", "line", "against", "attack"), "str"),
    "epsilon": "float64",
    **dict.fromkeys(("images", "draws"), "int64"),
    **dict.fromkeys(("mean", "low", "high"), "float64"),
}


def accuracy_curves(
    robust: pd.DataFrame, attacks: Attacks, defenses: Sequence[str] = ("post_averaging",)
) -> pd.DataFrame:
    """Return the lines of accuracy over epsilon for each of some defences.

    Args:
        robust: as `robust_accuracy` gives it.
        attacks: by name, with their kinds, as of `sanity`.
        defenses: those that get a panel.

    Columns: dataset, model, defense, line, against, attack, epsilon, images, draws, mean, low,
    high. A line is 'clean' (at epsilon 0), 'undefended' (the bare network under the strongest
    attack on it), 'transfer' (attacks on the bare network, as the document has them), 'adaptive'
    (attacks on the defence), 'black_box' and 'noise' likewise, or 'strongest'. Of several attacks
    of one line at one epsilon, that of the least mean is taken, among those on the most images.
    """
    parts = []
    kinds = robust["attack"].map(lambda name: attacks.get(name, {}).get("kind", name))
    special = {"noise": "noise", "square": "black_box"}
    for defense in defenses:
        own = robust["defense"] == defense
        adaptive = own & (robust["against"] == defense)
        lines = {
            "clean": own & (robust["attack"] == CLEAN),
            "undefended": (robust["defense"] == UNDEFENDED) & (robust["attack"] == STRONGEST),
            "transfer": own & (robust["against"] == UNDEFENDED) & ~kinds.isin(special),
            "adaptive": adaptive & ~kinds.isin(special),
            **{line: adaptive & (kinds == kind) for kind, line in special.items()},
            "strongest": own & (robust["attack"] == STRONGEST),
        }
        present = robust.loc[own, MODEL].drop_duplicates()
        for line, rows in lines.items():
            of_line = robust[rows].merge(present, on=MODEL)
            of_line = of_line.sort_values(
                ["images", "mean"], ascending=[False, True], kind="stable"
            )
            one = of_line.drop_duplicates([*MODEL, "epsilon"]).sort_values([*MODEL, "epsilon"])
            parts.append(one.assign(defense=defense, line=line))
    frame = pd.concat(parts, ignore_index=True) if parts else typed([], CURVES)
    return frame[list(CURVES)].astype(CURVES)
