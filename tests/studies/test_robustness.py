import dataclasses
import inspect
import itertools
import runpy
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bandlimit.defenses.kinds import PARAMETERS
from bandlimit.defenses.post_averaging import PostAveraging, Squad
from bandlimit.files import store
from bandlimit.statistics import wilson
from bandlimit.studies import chance
from bandlimit.studies.robustness import checks as robustness_checks
from bandlimit.studies.robustness import figures as robustness_figures
from bandlimit.studies.robustness import rates as robustness_rates
from bandlimit.studies.robustness import summaries
from bandlimit.studies.robustness import tables as robustness_tables
from bandlimit.studies.robustness.draws import settled
from bandlimit.studies.robustness.settings import LARGER

E1, E2, E8 = 1 / 255, 2 / 255, 8 / 255
BOUNDS = defaultdict(lambda: E8)
PLACE = {"dataset": "d", "model": "m"}


def until_settled(row):
    """Return the draws that are taken: until those to come can't change what most of all say."""
    for count in range(1, len(row)):
        hits, left = sum(row[:count]), len(row) - count
        if len(row) > 2 and (2 * hits > len(row) or 2 * (hits + left) <= len(row)):
            return list(row[:count])
    return list(row)


def share_of(row):
    """Return the share of right draws of those that are taken, less the one that settled them."""
    taken = until_settled(row)
    return np.mean(taken if len(row) < 3 else taken[:-1])


def judged(right, **columns):
    """Return records: `right` is images x restarts x draws, of 0 and 1, if all were taken."""
    cube = np.array(right)
    cube = cube.reshape((*cube.shape, *[1] * (3 - cube.ndim)))
    rows = [
        {
            **PLACE,
            "defense": "g",
            "image_id": f"i{i}",
            "against": "g",
            "attack": "pgd",
            "epsilon": E8,
            "confidence": None,
            "restart": r,
            "label": 0,
            "linf": E8,
            "draws": cube.shape[2],
            "draw": d,
            "correct": bool(right),
            **columns,
        }
        for i, r in np.ndindex(cube.shape[:2])
        for d, right in enumerate(until_settled(cube[i, r]))
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)  # any order


def clean(right, **columns):
    return judged(right, attack="clean", against="none", epsilon=0.0, **columns)


def only(frame, **columns):
    for name, value in columns.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


# Accuracy ---------------------------------------------------------------------------------------

# Four images, two restarts, three draws, of which two alike settle an image.
CUBE = [
    [[1, 1, 1], [1, 1, 1]],  # always right
    [[1, 0, 1], [1, 1, 1]],  # by majority after both restarts
    [[1, 1, 1], [1, 0, 0]],  # lost after the second
    [[0, 0, 0], [0, 1, 0]],
]


def test_accuracy_by_hand():
    row = only(robustness_rates.robust_accuracy(judged(CUBE)), attack="pgd")
    assert (row["images"], row["restarts"], row["draws"]) == (4, 2, 3)
    # Without the draw that settled them: 1, 1, 1/2, 1, 1, 1/2, 0, 1/2.
    assert row["mean"] == pytest.approx(5.5 / 8)
    assert (row["low"], row["high"]) == pytest.approx(wilson(4 * 5.5 / 8, 4))
    assert row["majority"] == 0.5
    assert row["worst"] == 0.25
    # Of the two draws that all took.
    assert row["deviation_draws"] == pytest.approx(np.std([6 / 8, 5 / 8], ddof=1))
    assert row["deviation_restarts"] == pytest.approx(np.std([2.5 / 4, 3 / 4], ddof=1))


def test_one_draw_and_restart_have_no_deviation_and_a_tie_is_no_majority():
    row = only(robustness_rates.robust_accuracy(judged([1, 0])), attack="pgd")
    assert np.isnan(row["deviation_draws"]) and np.isnan(row["deviation_restarts"])
    row = only(robustness_rates.robust_accuracy(judged([[[1, 0]], [[1, 1]]])), attack="pgd")
    assert row["majority"] == 0.5


def test_clean_rows_need_no_restart_and_rows_without_epsilon_do_not_count():
    frame = pd.concat([clean([1, 0], restart=None), judged([1, 1], epsilon=None, attack="cw")])
    table = robustness_rates.robust_accuracy(frame)
    assert list(table["attack"]) == ["clean"]
    assert table["mean"].item() == 0.5


def test_the_strongest_attack_is_found_image_by_image():
    frame = pd.concat(
        [
            judged([1, 1, 0, 0], attack="a"),
            judged([1, 0, 1, 0], attack="b", against="f"),
            clean([0, 1, 1, 1]),
            judged([1, 1, 1, 1], attack="a", epsilon=E1),
        ]
    )
    table = robustness_rates.robust_accuracy(frame)
    strongest = table[table["attack"] == "strongest"].set_index("epsilon")
    # At 8/255 each image falls to one of the attacks, or is lost unattacked.
    assert strongest.loc[E8, ["mean", "majority", "worst"]].tolist() == [0, 0, 0]
    assert strongest.loc[E1, ["mean", "majority", "worst"]].tolist() == [0.75] * 3
    assert set(strongest["against"]) == {"any"}


def test_an_attack_on_a_part_of_the_images_counts_on_that_part():
    frame = pd.concat([judged([1, 1, 1, 0], attack="a"), judged([1, 0], attack="b")])
    table = robustness_rates.robust_accuracy(frame).set_index("attack")
    assert table.loc["strongest", ["images", "mean", "majority", "worst"]].tolist() == [
        4,
        *[0.5] * 3,
    ]


def test_the_strongest_never_lies_above_a_part():
    generator = np.random.default_rng(0)
    cubes = {name: generator.random((12, 2, 5)) < 0.6 for name in "abc"}
    frame = pd.concat([judged(cube, attack=name) for name, cube in cubes.items()])
    table = robustness_rates.robust_accuracy(frame).set_index("attack")
    parts = table.drop("strongest")
    for column in ("mean", "majority", "worst"):
        assert table.loc["strongest", column] <= parts[column].min()
    shares = [np.apply_along_axis(share_of, 2, cube) for cube in cubes.values()]
    least = np.min([each.min(axis=1) for each in shares], axis=0)
    assert table.loc["strongest", "mean"] == pytest.approx(least.mean())


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.concat([judged([1, 1], attack="a"), judged([1], attack="b", image_id="other")]),
            "unequal images: 1 of b against g are not among the 2 of a against g",
        ),
        (pd.concat([judged([1, 1]), clean([1])]), "1 attacked images of g .* no clean record"),
        (judged(CUBE).iloc[1:], "18 records aren't those of 4 images, 2 restarts and 3 draws"),
        (pd.concat([judged([1, 1]), judged([1, 1])]), "4 records aren't those of 2 images"),
    ],
)
def test_incomplete_records_are_refused(frame, message):
    with pytest.raises(ValueError, match=message):
        robustness_rates.robust_accuracy(frame)


def records_of(draws, planned, numbers=None):
    """Return records of one image as they are: right or wrong, of these numbers of draws."""
    numbers = range(len(draws)) if numbers is None else numbers
    rows = [
        {"image_id": "i", "draws": planned, "draw": number, "correct": bool(right)}
        for number, right in zip(numbers, draws, strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("planned", [1, 2, 3, 4, 5, 10])
def test_an_early_end_biases_no_mean_and_changes_no_majority(planned):
    """Over all sequences of draws, each as likely as it is."""
    rows = np.array(list(itertools.product([0, 1], repeat=planned)))
    taken = [until_settled(row) for row in rows]
    if planned > 2:
        assert sum(map(len, taken)) < rows.size
    ids, cube = robustness_rates.cube_of(judged(rows[:, None, :]))
    order = [int(name[1:]) for name in ids]
    assert cube.taken.sum(axis=(1, 2)).tolist() == [len(taken[i]) for i in order]
    hits = rows[order].sum(axis=1)
    assert cube.majority().tolist() == (2 * hits > planned).tolist()
    plain = np.array([np.mean(taken[i]) for i in order])
    for p in (0.0, 0.1, 0.5, 0.83, 1.0):
        likely = p**hits * (1 - p) ** (planned - hits)
        assert likely.sum() == pytest.approx(1)
        assert likely @ cube.shares()[:, 0] == pytest.approx(p, abs=1e-12)
    # The plain share of what was taken would be biased.
    likely = 0.83**hits * 0.17 ** (planned - hits)
    assert (abs(likely @ plain - 0.83) > 1e-3) == (planned > 2)


@pytest.mark.parametrize("planned", range(1, 12))
def test_draws_are_settled_where_those_to_come_change_nothing(planned):
    right, wrong = settled(planned)
    if planned < 3:
        assert min(right, wrong) > planned
        return
    assert 2 * right > planned >= 2 * (right - 1)
    # Whatever is left may be right.
    assert 2 * (planned - wrong) <= planned < 2 * (planned - wrong + 1)


@pytest.mark.parametrize(
    ("draws", "planned", "numbers"),
    [
        ([1, 1, 1, 1, 1], 10, None),  # six right ones settle it
        ([0, 0, 0, 0], 10, None),  # five wrong ones
        ([1, 0], 3, None),
        ([1], 2, None),  # of two draws both are taken
        ([1, 1, 1], 5, [0, 1, 3]),
        ([1, 1, 1], 5, [1, 2, 3]),
        ([1, 1, 0], 3, None),  # goes on after the second
        ([1] * 10, 10, None),
        ([1, 1], 3, [0, 0]),
    ],
)
def test_draws_end_where_they_are_settled_and_have_no_gaps(draws, planned, numbers):
    with pytest.raises(ValueError, match=f"{len(draws)} records aren't those of 1 images"):
        robustness_rates.cube_of(records_of(draws, planned, numbers))


def test_as_many_draws_are_planned_of_each_image():
    several = [records_of([1, 1], 3), records_of([1, 1, 1], 5).assign(image_id="other")]
    with pytest.raises(ValueError, match="of different numbers of draws"):
        robustness_rates.cube_of(pd.concat(several))
    with pytest.raises(ValueError, match="of different numbers of draws"):
        robustness_rates.cube_of(records_of([1, 1], 2, [0, 2]))


def test_a_share_needs_no_draw_that_was_not_taken():
    frame = pd.concat([judged([[[1] * 10], [[0] * 10]]), clean([[[1] * 10], [[1] * 10]])])
    assert len(frame) == 6 + 5 + 6 + 6
    row = only(robustness_rates.robust_accuracy(frame), attack="pgd")
    assert row[["mean", "majority", "worst"]].tolist() == [0.5] * 3
    assert (row["draws"], row["deviation_draws"]) == (10, 0)


def test_empty_tables_keep_their_columns_and_types():
    empty = judged([1]).iloc[:0]
    table = robustness_rates.robust_accuracy(empty)
    assert list(table.columns) == list(robustness_rates.ACCURACY) and table.empty
    assert table["draws"].dtype == "int64"
    confidence = robustness_rates.confidence_rates(empty, BOUNDS)
    assert list(confidence.columns) == list(robustness_rates.CONFIDENCE) and confidence.empty


# Losses -----------------------------------------------------------------------------------------


def losses(*lists, **columns):
    rows = [
        {
            **PLACE,
            "against": "g",
            "attack": "eot",
            "epsilon": E8,
            "restart": 0,
            "image_id": f"i{i}",
            "losses": values,
            **columns,
        }
        for i, values in enumerate(lists)
    ]
    return pd.DataFrame(rows)


def test_loss_curves_by_hand():
    frame = losses([0.0, 4.0], [2.0, 8.0], [4.0, np.nan], [6.0])
    table = robustness_rates.loss_curves(frame).set_index("step")
    assert list(table.index) == [1, 2]
    assert table["mean"].tolist() == [3, 6]
    assert table.loc[1, ["lower", "median", "upper"]].tolist() == [1.5, 3, 4.5]
    assert table["not_finite"].tolist() == [0, 1]
    assert set(table["images"]) == {4}


def test_attacks_without_losses_give_no_curve():
    assert robustness_rates.loss_curves(losses([], [])).empty


# Sets attacked once -----------------------------------------------------------------------------


def confidence_frame():
    """Of four images one is lost when clean, and one withstands the attack at confidence 0."""
    cw = {"attack": "cw", "against": "f", "epsilon": None}
    return pd.concat(
        [
            clean([1, 1, 1, 0], defense="f"),
            clean([[[1, 1]], [[0, 1]], [[1, 1]], [[1, 1]]], defense="g"),
            judged([0, 0, 1, 0], defense="f", confidence=0.0, **cw),
            judged([[[1, 1]], [[1, 0]], [[1, 1]], [[1, 1]]], defense="g", confidence=0.0, **cw),
            judged([0, 0, 0, 0], defense="f", confidence=9.0, linf=2 * E8, **cw),
            judged([[[0, 0]]] * 4, defense="g", confidence=9.0, linf=2 * E8, **cw),
        ]
    )


def test_confidence_counts_what_fools_the_attacked_network():
    table = robustness_rates.confidence_rates(confidence_frame(), BOUNDS)
    row = only(table, defense="g", confidence=0.0)
    assert (row["images"], row["adversarial"], row["draws"]) == (4, 2, 2)
    assert row["defense_rate"] == 0.75
    assert (row["low"], row["high"]) == pytest.approx(wilson(1.5, 2))
    assert row["deviation"] == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert row["ceiling"] == 0.75
    assert row["median_linf"] == E8
    row = only(table, defense="g", confidence=9.0)
    assert (row["adversarial"], row["defense_rate"]) == (3, 0)


def test_what_lies_within_the_bound_is_counted_beside_all():
    frame = confidence_frame()
    # Of the two that count at confidence 0, the one that the defence always rights lies beyond.
    frame.loc[(frame["confidence"] == 0) & (frame["image_id"] == "i0"), "linf"] = 2 * E8
    # Single precision may round the other past the bound that it kept.
    frame.loc[(frame["confidence"] == 0) & (frame["image_id"] == "i1"), "linf"] = E8 + 1e-9
    table = robustness_rates.confidence_rates(frame, BOUNDS)
    row = only(table, defense="g", confidence=0.0)
    assert (row["adversarial"], row["defense_rate"]) == (2, 0.75)
    assert (row["adversarial_within"], row["rate_within"]) == (1, 0.5)
    assert (row["low_within"], row["high_within"]) == pytest.approx(wilson(0.5, 1))
    assert row["epsilon"] == E8
    row = only(table, defense="g", confidence=9.0)
    assert (row["adversarial"], row["adversarial_within"]) == (3, 0)
    assert row[["rate_within", "low_within", "high_within"]].isna().all()


@pytest.mark.parametrize("attack", ["clean", "cw"])
def test_confidence_needs_what_the_attacked_network_says(attack):
    frame = confidence_frame()
    frame = frame[(frame["defense"] != "f") | (frame["attack"] != attack)]
    with pytest.raises(ValueError, match="'f' itself"):
        robustness_rates.confidence_rates(frame, BOUNDS)


def test_scaling_by_hand():
    rows = [
        {
            **PLACE,
            "image_id": f"i{i}",
            "attack": "a",
            "factor": factor,
            "defense": "g",
            "draws": len(draws),
            "draw": draw,
            "linf": factor * (i + 1) ** 2 / 255,
            "correct": right,
        }
        for factor, rights in ((1.0, [[1, 1], [1, 0], [1, 1]]), (4.0, [[0, 0], [0, 0], [1, 0]]))
        for i, draws in enumerate(rights)
        for draw, right in enumerate(draws)
    ]
    table = robustness_rates.scaling_rates(pd.DataFrame(rows))
    assert table["restored"].tolist() == pytest.approx([5 / 6, 1 / 6])
    assert table["images"].tolist() == [3, 3]
    assert table["median_linf"].tolist() == pytest.approx([4 / 255, 16 / 255])
    assert table["deviation"].tolist() == pytest.approx([np.std([3 / 3, 2 / 3], ddof=1)] * 2)


def controls(inputs, control, right, epsilon=None):
    table = np.array(right)
    table = table.reshape(len(table), -1)
    rows = [
        {
            **PLACE,
            "image_id": f"i{i}",
            "inputs": inputs,
            "epsilon": epsilon,
            "control": control,
            "draws": table.shape[1],
            "draw": draw,
            "correct": bool(right),
        }
        for i, row in enumerate(table)
        for draw, right in enumerate(until_settled(row))
    ]
    return pd.DataFrame(rows).astype({"epsilon": float})


def test_controls_by_hand():
    frame = pd.concat(
        [
            controls("clean", "flip", [1, 1, 0, 0]),
            controls("a", "flip", [1, 1, 0]),
            controls("clean", "g", [[1, 1], [1, 0], [1, 1], [1, 1]]),
            controls("a", "g", [[1, 0], [1, 1], [0, 0]]),
            controls("a", "other", [1, 1, 1]),
        ]
    )
    table = robustness_rates.control_rates(frame).set_index("control")
    assert table["adversarial"].tolist() == [3, 3, 3]
    assert table["restored"].tolist() == pytest.approx([2 / 3, 0.5, 1])
    assert table.loc["g", "deviation"] == pytest.approx(np.std([2 / 3, 1 / 3], ddof=1))
    assert np.isnan(table.loc["flip", "deviation"])
    # Of the three images that were attacked.
    assert table["ceiling"].tolist()[:2] == pytest.approx([2 / 3, 5 / 6])
    assert table["clean"].tolist()[:2] == pytest.approx([0.5, 7 / 8])
    assert table["images"].tolist() == [4, 4, 0]
    assert table.loc["other", ["ceiling", "clean", "clean_low"]].isna().all()
    assert tuple(table.loc["flip", ["clean_low", "clean_high"]]) == pytest.approx(wilson(2, 4))


def test_controls_are_compared_on_equal_images_by_most_draws():
    frame = pd.concat(
        [
            # Wrong at the first draw.
            controls("a", "post_averaging", [[0, 1, 1]] * 12),
            # Right at the first draw alone, or at half of them, is wrong.
            controls("a", "lucky", [[1, 0, 0, 0]] * 6 + [[1, 1, 0, 0]] * 6),
            controls("a", "same", [1] * 12),
            controls("a", "worse", [0] * 8 + [1] * 4),
            controls("a", "little_worse", [0] * 6 + [1] * 6),
        ]
    )
    table = robustness_rates.comparisons(frame).set_index("control")
    assert table.loc["worse", ["only_reference", "only_control"]].tolist() == [8, 0]
    assert table.loc["lucky", ["only_reference", "only_control"]].tolist() == [12, 0]
    assert table["draws"].tolist() == [3] * 4
    assert table["control_draws"].tolist() == [1, 4, 1, 1]
    assert table["difference"].tolist() == pytest.approx([0.5, 1, 0, 8 / 12])
    # Exact: 2 / 2^6, 2 / 2^12, 1, 2 / 2^8; Holm multiplies the least by 4, the next by 3.
    assert table["p_value"].tolist() == pytest.approx([2 / 64, 2 / 4096, 1, 2 / 256])
    assert table["p_holm"].tolist() == pytest.approx([4 / 64, 8 / 4096, 1, 6 / 256])
    assert table["different"].tolist() == [False, True, False, True]


def test_holm_goes_over_the_bounds_of_one_attack_and_not_over_attacks():
    parts = []
    for attack, epsilon in (("a", E1), ("a", E8), ("b", E8)):
        parts.append(controls(attack, "post_averaging", [1] * 8, epsilon))
        parts.append(controls(attack, "worse", [0] * 8, epsilon))
    table = robustness_rates.comparisons(pd.concat(parts))
    p = 2 / 2**8
    assert table["p_holm"].tolist() == pytest.approx([2 * p, 2 * p, p])


def test_unlike_sets_are_not_compared():
    ours = controls("a", "post_averaging", [1, 1])
    with pytest.raises(ValueError, match="judged other images"):
        robustness_rates.comparisons(pd.concat([ours, controls("a", "flip", [1])]))
    assert robustness_rates.comparisons(controls("a", "flip", [1])).empty


# Checks -----------------------------------------------------------------------------------------

ATTACKS = {
    "fgsm": {"kind": "fgsm"},
    "eot": {"kind": "eot_pgd", "steps": 20, "samples": 2},
    "eot_long": {"kind": "eot_pgd", "steps": 40, "samples": 2},
    "eot_margin": {"kind": "eot_pgd", "steps": 40, "samples": 2, "loss": "margin"},
    "pgd": {"kind": "pgd", "steps": 40},
    "square": {"kind": "square", "queries": 100},
    "noise": {"kind": "noise"},
}
DEFENSES = {
    "undefended": {"kind": "undefended"},
    "g": {"kind": "post_averaging"},
    "g_fixed": {"kind": "post_averaging", "draws": "fixed", "directions": 15},
    "low_pass": {"kind": "low_pass"},
}
EXPERIMENTS = [{**PLACE, "radius": 6.0, "directions": 15}]
# Accuracies at 1/255 and 8/255 of an evaluation without fault.
SOUND = {
    ("g", "none", "clean"): None,
    ("g", "undefended", "pgd"): (0.9, 0.1),
    ("g", "g", "fgsm"): (0.8, 0.3),
    ("g", "g", "eot"): (0.4, 0.0),
    ("g", "g", "eot_long"): (0.4, 0.0),
    ("g", "g", "square"): (0.8, 0.2),
    ("g", "g", "noise"): (0.9, 0.9),
    ("g_fixed", "g_fixed", "pgd"): (0.3, 0.0),
    ("undefended", "undefended", "pgd"): (0.1, 0.0),
}
FLAGS = {
    "images": 16,
    "random_output": True,
    "largest_difference": 0.01,
    "probability_output": False,
    "zero_gradients": 0,
    "nan_gradients": 0,
}


def robust(cells, draws=10, images=100):
    rows = []
    for (defense, against, attack), shares in cells.items():
        points = [(0.0, 0.95)] if shares is None else zip((E1, E8), shares, strict=True)
        rows += [
            {
                **PLACE,
                "defense": defense,
                "against": against,
                "attack": attack,
                "epsilon": epsilon,
                "images": images,
                "draws": draws,
                "majority": share,
                "mean": share,
            }
            for epsilon, share in points
        ]
    frame = pd.DataFrame(rows)
    attacked = frame[frame["attack"] != "clean"]
    least = attacked.groupby([*PLACE, "defense", "epsilon"], as_index=False).agg(
        {"majority": "min", "mean": "min", "images": "first", "draws": "first"}
    )
    return pd.concat([frame, least.assign(attack="strongest", against="any")], ignore_index=True)


def symptoms(**flags):
    rows = [{**PLACE, "defense": "g", **FLAGS, **flags}]
    rows += [
        {**PLACE, "defense": name, **FLAGS, "random_output": False, "largest_difference": 0.0}
        for name in ("g_fixed", "undefended")
    ]
    return pd.DataFrame(rows)


def rising(last=5.0, against="g"):
    return robustness_rates.loss_curves(losses([1.0, 3.0, last], against=against))


def inputs(restored):
    return pd.concat(
        [controls("pgd_minimal", "undefended", [restored, 0]), controls("clean", "g", [1, 1])]
    )


def check(cells=None, flags=None, last=5.0, restored=0, draws=10, images=100, right=90):
    table = robust(SOUND | (cells or {}), draws, images)
    return robustness_checks.sanity(
        table,
        symptoms(**(flags or {})),
        attacks=ATTACKS,
        defenses=DEFENSES,
        experiments=EXPERIMENTS,
        losses=rising(last),
        controls=robustness_rates.control_rates(inputs(restored)),
        clean={("d", "m"): chance.Clean(right, 100, 10)},
    )


def failed(table):
    rows = table[table["passed"].eq(False).fillna(False)]
    return set(zip(rows["defense"], rows["check"], strict=True))


def test_a_sound_evaluation_passes_all_checks_of_the_defence():
    table = check()
    assert failed(table) == set()
    own = table[table["defense"] == "g"].set_index("check")
    network = {"clean_accuracy", "undefended_falls", "adversarial_inputs"}
    assert list(own.index) == [name for name in robustness_checks.CHECKS if name not in network]
    assert own["passed"].all()
    assert own["value"].notna().all() and own["limit"].notna().all()
    of_network = table[(table["defense"] == "undefended") & table["check"].isin(network)]
    assert len(of_network) == 3 and of_network["passed"].all()
    assert table["passed"].dtype == "boolean"


@pytest.mark.parametrize(("right", "passed"), [(0, False), (10, False), (14, False), (30, True)])
def test_a_network_that_is_not_above_chance_fails_and_marks_all_its_numbers(right, passed):
    """Of 100 images of 10 classes 14 may be guessed: the interval begins at 0.085."""
    table = check(right=right)
    row = only(table, defense="undefended", check="clean_accuracy")
    assert (row["passed"], row["value"], row["limit"]) == (passed, right / 100, 0.1)
    assert row["note"].startswith(f"{right / 100:.3f} [")
    assert "on 100 clean images, where guesses are right on 0.1" in row["note"]
    rates = robustness_rates.robust_accuracy(pd.concat([judged(CUBE), clean([[1], [1], [1], [1]])]))
    others = rates.assign(model="other")
    marked = robustness_checks.mark(pd.concat([rates, others], ignore_index=True), table)
    named = marked["checks_failed"].eq("clean_accuracy").fillna(False)
    assert named.tolist() == [not passed] * len(rates) + [False] * len(rates)
    sets = robustness_rates.control_rates(inputs(0))
    assert robustness_checks.mark(sets, table)["checks_failed"].notna().all() == (not passed)


@pytest.mark.parametrize(("right", "verdict"), [(0, "not shown"), (90, "does not hold")])
def test_nothing_is_shown_of_a_defence_whose_network_is_not_above_chance(right, verdict):
    records = [
        frame(rows, defense=name, **columns)
        for name in ("g", "undefended")
        for frame, rows, columns in (
            (clean, [1, 1, 0, 1] * 10, {}),
            (judged, [0] * 40, {"against": name}),
        )
    ]
    told = {
        "robust_accuracy": robustness_rates.robust_accuracy(pd.concat(records)),
        "sanity": check(right=right),
    }
    (found,) = summaries.summary("g", told, [{**PLACE, "epsilon": E8}])
    assert found["verdict"] == verdict
    questions = [failed["question"] for failed in found["failed"]]
    assert (robustness_checks.CHECKS["clean_accuracy"].question in questions) == (right == 0)
    assert ("not above chance on clean images" in found["reading"]) == (right == 0)


def test_chance_is_asked_of_all_images_of_a_network(tmp_path):
    files = []
    for number, correct in enumerate(([True] * 30, [False] * 70, [False] * 50)):
        files.append(tmp_path / f"{number}.parquet")
        store.write(files[-1], pa.table({"correct": correct}))
    names = [{"dataset": "d", "model": m, "classes": 10} for m in ("m", "m", "n")]
    found = chance.clean(names, files)
    assert {key: (one.right, one.images) for key, one in found.items()} == {
        ("d", "m"): (30, 100),
        ("d", "n"): (0, 50),
    }
    (alarm,) = chance.alarms(found)
    assert alarm.startswith(
        "No number of n on d says anything: its accuracy is 0.000 [0.000, 0.071]"
    )


def test_sets_without_an_adversarial_image_have_rows_without_rates():
    records = pd.concat([controls("clean", name, [1, 0]) for name in ("post_averaging", "flip")])
    sets = [{**PLACE, "attack": "pgd_minimal", "epsilon": E8}]
    sets.append({"dataset": "d", "model": "other", "attack": "pgd_minimal", "epsilon": E8})
    table = robustness_rates.control_rates(records, sets)
    assert table[["attack", "control", "adversarial", "images"]].to_numpy().tolist() == [
        ["pgd_minimal", "flip", 0, 2],
        ["pgd_minimal", "post_averaging", 0, 2],
    ]
    assert table["clean"].tolist() == [0.5, 0.5]
    assert table[["restored", "low", "high", "ceiling"]].isna().all(axis=None)
    tests = robustness_rates.comparisons(records, sets=sets)
    row = only(tests, attack="pgd_minimal")
    assert (row["control"], row["images"], row["different"]) == ("flip", 0, False)
    assert np.isnan(row["p_value"]) and np.isnan(row["p_holm"]) and np.isnan(row["difference"])
    # Sets that have records are theirs alone.
    more = pd.concat([records, *(controls("pgd_minimal", n, [1]) for n in ("flip", "rounding"))])
    assert len(robustness_rates.control_rates(more, sets)) == 2
    columns = ["dataset", "model", "image_id", "attack", "factor", "defense", "draws", "draw"]
    empty = pd.DataFrame(columns=[*columns, "linf", "correct"])
    asked = [{**PLACE, "attack": "pgd_minimal", "defenses": ["g", "f"], "factors": [1.0, 2.0]}]
    scaled = robustness_rates.scaling_rates(empty, asked)
    assert scaled[["defense", "factor", "images"]].to_numpy().tolist() == [
        ["g", 1.0, 0],
        ["g", 2.0, 0],
        ["f", 1.0, 0],
        ["f", 2.0, 0],
    ]
    assert scaled[["restored", "low", "high", "median_linf"]].isna().all(axis=None)
    robustness_figures.restored_by_scaling(scaled)
    robustness_figures.restored_by_controls(table)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("random_output", {"draws": 5}),
        ("probability_output", {"flags": {"probability_output": True}}),
        ("zero_gradients", {"flags": {"zero_gradients": 1}}),
        ("nan_gradients", {"flags": {"nan_gradients": 3}}),
        ("falls_to_zero", {"cells": {("g", "g", "eot"): (0.4, 0.1)}}),
        ("non_increasing", {"cells": {("g", "g", "square"): (0.5, 0.6)}}),
        ("many_steps", {"cells": {("g", "g", "fgsm"): (0.3, 0.3)}}),
        ("more_budget", {"cells": {("g", "g", "eot_long"): (0.3, 0.0)}}),
        ("loss_rises", {"last": 0.5}),
        ("loss_rises", {"last": np.nan}),
        ("noise", {"cells": {("g", "g", "noise"): (0.9, 0.0)}}),
        ("black_box", {"cells": {("g", "g", "square"): (0.35, 0.2)}}),
        ("transfer", {"cells": {("g", "undefended", "pgd"): (0.3, 0.1)}}),
    ],
)
def test_each_check_of_a_defence_can_fail_alone(name, change):
    cells = dict(change.get("cells", {}))
    if name == "falls_to_zero":
        # No other attack reaches 0 either.
        cells |= {("g", "g", "eot_long"): (0.4, 0.1)}
    if name == "noise":
        # A gradient that does as little as noise.
        same = (0.9, 0.9)
        cells |= {("g", "g", attack): same for attack in ("eot", "eot_long", "fgsm", "square")}
        cells |= {("g", "g", "noise"): same, ("g", "undefended", "pgd"): (0.95, 0.95)}
        assert failed(check(cells=cells)) == {("g", "noise"), ("g", "falls_to_zero")}
        return
    assert failed(check(**{**change, "cells": cells})) == {("g", name)}


def test_fixed_randomness_and_the_bare_network_can_fail():
    table = check(cells={("g_fixed", "g_fixed", "pgd"): (0.3, 0.2)})
    assert failed(table) == {("g", "fixed_randomness"), ("g_fixed", "falls_to_zero")}
    table = check(cells={("undefended", "undefended", "pgd"): (0.3, 0.2)})
    assert failed(table) == {("undefended", "undefended_falls"), ("undefended", "falls_to_zero")}
    assert failed(check(restored=1)) == {("undefended", "adversarial_inputs")}


E4, E64 = 4 / 255, 64 / 255


def swept(cells):
    """Return accuracies of attacks at the epsilons of `cells`, (defense, against, attack) each."""
    rows = [
        {
            **PLACE,
            **dict(zip(("defense", "against", "attack"), names, strict=True)),
            "epsilon": epsilon,
            "images": 100,
            "draws": 10,
            "majority": share,
            "mean": share,
        }
        for names, shares in cells.items()
        for epsilon, share in shares.items()
    ]
    frame = pd.DataFrame(rows)
    least = frame.groupby([*PLACE, "defense", "epsilon"], as_index=False).agg(
        {"majority": "min", "mean": "min", "images": "first", "draws": "first"}
    )
    return pd.concat([frame, least.assign(attack="strongest", against="any")], ignore_index=True)


def of_sweep(cells, name, defense, **options):
    table = robustness_checks.sanity(
        swept(cells),
        symptoms(),
        attacks=ATTACKS,
        **{"defenses": DEFENSES, "experiments": EXPERIMENTS, "large": E64} | options,
    )
    return only(table, defense=defense, check=name)


def test_the_bare_network_is_asked_at_the_documents_epsilon_not_at_the_largest():
    own = ("undefended", "undefended")
    falls = {E4: 0.5, E8: 0.0, E64: 0.0}
    row = of_sweep({(*own, "pgd"): falls}, "undefended_falls", "undefended")
    assert row["passed"] and row["note"] == "pgd on undefended at 8/255"
    # A code that brings it to 0 at 64/255 alone is too weak.
    weak = {E4: 0.6, E8: 0.3, E64: 0.0}
    row = of_sweep({(*own, "pgd"): weak}, "undefended_falls", "undefended")
    assert not row["passed"]
    assert (row["value"], row["note"]) == (0.3, "pgd on undefended at 8/255")
    # Each attack, at the least bound of its own from there on.
    cells = {(*own, "pgd"): falls, (*own, "eot"): {E64: 0.1}}
    row = of_sweep(cells, "undefended_falls", "undefended")
    assert not row["passed"] and row["note"] == "eot on undefended at 64/255"
    row = of_sweep({(*own, "pgd"): {E4: 0.0}}, "undefended_falls", "undefended")
    assert row["passed"] is pd.NA and "at 8/255 or more" in row["note"]


def test_accuracy_must_fall_to_a_gradient_attack_on_the_defence_itself():
    """What transfer or noise bring to 0 says nothing of the attack that is checked."""
    cells = {
        ("g", "g", "eot"): {E4: 0.4, E8: 0.3, E64: 0.2},
        ("g", "g", "noise"): {E64: 0.0},
        ("g", "undefended", "pgd"): {E64: 0.0},
    }
    row = of_sweep(cells, "falls_to_zero", "g")
    assert not row["passed"]
    assert (row["value"], row["note"]) == (0.2, "eot on g at 64/255")
    cells["g", "g", "eot_long"] = {E4: 0.4, E8: 0.0, E64: 0.0}
    row = of_sweep(cells, "falls_to_zero", "g")
    assert row["passed"] and row["note"] == "eot_long on g at 64/255; 0 from 8/255 on"
    # What counts as 0 is told as it is.
    cells["g", "g", "eot_long"] = {E4: 0.4, E8: 0.01, E64: 0.0}
    row = of_sweep(cells, "falls_to_zero", "g")
    assert row["note"] == "eot_long on g at 64/255; at most 0.010 from 8/255 on"
    # A defence may withstand the document's epsilon.
    row = of_sweep({("g", "g", "eot"): {E8: 0.5, E64: 0.0}}, "falls_to_zero", "g")
    assert row["passed"] and row["note"] == "eot on g at 64/255; 0 from 64/255 on"


def test_fixed_randomness_is_asked_at_the_documents_epsilon():
    cells = {
        ("g", "g", "eot"): {E8: 0.0, E64: 0.0},
        ("g_fixed", "g_fixed", "pgd"): {E4: 0.6, E8: 0.4, E64: 0.0},
        ("g_fixed", "g_fixed", "eot"): {E64: 0.0},
        ("g_fixed", "undefended", "pgd"): {E8: 0.0},
    }
    row = of_sweep(cells, "fixed_randomness", "g")
    assert not row["passed"]
    assert (row["value"], row["note"]) == (0.4, "pgd on g_fixed at 8/255")
    cells["g_fixed", "g_fixed", "pgd"] = {E8: 0.01, E64: 0.0}
    assert of_sweep(cells, "fixed_randomness", "g")["passed"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"directions": 3}, "not comparable, since g_fixed has directions 3 for 15"),
        ({"radius": 2}, "not comparable, since g_fixed has radius 2 for 6.0"),
        ({"radius": 2, "directions": 3}, "has radius 2 for 6.0, directions 3 for 15"),
        ({"vote": "logits"}, "has vote logits for softmax"),
        ({"radius": 6, "vote": "softmax", "directions": 15}, None),
    ],
)
def test_randomness_is_fixed_in_the_same_defence_alone(change, reason):
    cells = {
        ("g", "g", "eot"): {E8: 0.0, E64: 0.0},
        ("g_fixed", "g_fixed", "pgd"): {E8: 0.0, E64: 0.0},
        # Stronger than the attack on the defence: a transfer, unless it is the same defence.
        ("g", "g_fixed", "pgd"): {E8: 0.0},
    }
    defenses = DEFENSES | {"g_fixed": {"kind": "post_averaging", "draws": "fixed", **change}}
    row = of_sweep(cells, "fixed_randomness", "g", defenses=defenses)
    own = of_sweep(cells, "attacked_by_gradient", "g", defenses=defenses)
    if reason is None:
        assert row["passed"] and own["value"] == 2
    else:
        assert row["passed"] is pd.NA
        assert row["note"].startswith("not run: ") and reason in row["note"]
        assert own["value"] == 1


def test_the_defaults_of_post_averaging_are_the_librarys():
    known = inspect.signature(PostAveraging.__init__).parameters
    known = {name: each.default for name, each in known.items()}
    known |= {field.name: field.default for field in dataclasses.fields(Squad)}
    said = {name: value for name, value in robustness_checks.SWITCHES.items() if value is not None}
    assert {name: known[name] for name in said} == said
    assert set(robustness_checks.SWITCHES) | {"draws"} == PARAMETERS["post_averaging"]


def test_a_defence_that_only_others_were_attacked_for_is_named():
    table = check(cells={("low_pass", "undefended", "pgd"): (0.9, 0.5)})
    assert failed(table) == {("low_pass", "attacked_by_gradient")}
    own = table[table["defense"] == "low_pass"].set_index("check")
    assert own["passed"].notna().sum() == 1
    assert own["note"].drop("attacked_by_gradient").str.startswith("not run: ").all()


def test_an_attack_on_fixed_randomness_is_no_transfer():
    cells = {("g", "g_fixed", "pgd"): (0.2, 0.0), ("g", "undefended", "pgd"): (0.3, 0.1)}
    assert failed(check(cells=cells)) == set()


def test_the_bare_network_falls_to_attacks_on_itself_not_on_others():
    assert failed(check(cells={("undefended", "another", "pgd"): (0.6, 0.5)})) == set()


def test_small_differences_count_as_none_and_two_images_always_do():
    cells = {("g", "g", "square"): (0.39, 0.2)}
    assert failed(check(cells=cells, images=1000)) == set()
    cells = {("g", "g", "square"): (0.38, 0.2)}
    assert failed(check(cells=cells, images=1000)) == {("g", "black_box")}
    assert failed(check(cells=cells, images=100)) == set()


def test_one_image_counts_as_0():
    cells = {("g", "g", name): (0.4, 1 / 20) for name in ("eot", "eot_long")}
    assert failed(check(cells=cells, images=20)) == set()
    cells = {("g", "g", name): (0.4, 2 / 20) for name in ("eot", "eot_long")}
    assert failed(check(cells=cells, images=20)) == {("g", "falls_to_zero")}


def test_budgets_are_compared_where_nothing_else_differs():
    # The margin loss is another attack, not a larger budget.
    table = check(cells={("g", "g", "eot_margin"): (0.2, 0.0)})
    assert failed(table) == set()


def test_a_budget_is_larger_if_no_part_is_smaller_whatever_the_restarts():
    attacks = {
        "one": {"kind": "eot_pgd", "steps": 20, "samples": 2, "restarts": 5},
        "two": {"kind": "eot_pgd", "steps": 40, "samples": 4, "restarts": 1},
        "odd": {"kind": "eot_pgd", "steps": 10, "samples": 8, "restarts": 1},
        "own": {"kind": "eot_pgd", "steps": 40, "samples": None, "restarts": 1},
    }
    examiner = robustness_checks._Examiner(
        pd.DataFrame(), {}, attacks, DEFENSES, {}, epsilon=E8, large=E8, zero=0.02, slack=0.01
    )
    larger = {(a, b) for a, b in itertools.permutations(attacks, 2) if examiner._spends_more(a, b)}
    assert larger == {("two", "one")}


@pytest.mark.parametrize(
    ("entry", "budget"),
    [
        ({"kind": "eot_pgd", "samples": 8}, {"steps": 40}),
        ({"kind": "pgd"}, {"steps": 80}),
        ({"kind": "square"}, {"queries": 10_000}),
        ({"kind": "autoattack"}, {"steps": 200, "queries": 10_000}),
        ({"kind": "autoattack", "version": "rand"}, {"steps": 200}),
        ({"kind": "pgd", "steps": 7}, {"steps": 14}),
    ],
)
def test_a_budget_left_at_its_default_is_compared_with_twice_of_it(entry, budget):
    """The larger one is better on the images that it was given, by more than the slack."""
    larger = f"own{LARGER}"
    attacks = {"own": entry, larger: entry | budget}
    for gain, passed in ((0, True), (4, False)):
        records = pd.concat(
            [
                judged([1] * 10 + [0] * 10, attack="own"),
                judged([1] * (10 - gain) + [0] * gain, attack=larger),
            ]
        )
        table = robustness_checks.sanity(
            robustness_rates.robust_accuracy(records),
            symptoms(),
            attacks=attacks,
            defenses=DEFENSES,
            by_image=robustness_checks.by_image(records),
        )
        row = only(table, defense="g", check="more_budget")
        assert (row["value"], row["passed"]) == (pytest.approx(gain / 10), passed)
        assert row["note"] == f"{larger} below own at 8/255, 10 images"


def test_a_larger_budget_than_the_default_is_no_smaller_one():
    attacks = {
        "own": {"kind": "pgd"},
        "less": {"kind": "pgd", "steps": 10},
        "same": {"kind": "pgd", "steps": 40},
        "other": {"kind": "eot_pgd", "steps": 100},
    }
    examiner = robustness_checks._Examiner(
        pd.DataFrame(), {}, attacks, DEFENSES, {}, epsilon=E8, large=E8, zero=0.02, slack=0.01
    )
    larger = {(a, b) for a, b in itertools.permutations(attacks, 2) if examiner._spends_more(a, b)}
    assert larger == {("own", "less"), ("same", "less")}


def test_attacks_are_compared_on_the_images_that_both_were_given():
    """The black box is better than the gradient on the half that it was given."""
    frames = [
        clean([1] * 20),
        judged([1] * 10 + [0] * 10, attack="eot"),
        judged([1] * 6 + [0] * 4, attack="square"),
        judged([1] * 20, attack="noise"),
    ]
    records = pd.concat(frames)
    table = robustness_rates.robust_accuracy(records)
    options = {"attacks": ATTACKS, "defenses": DEFENSES}
    without = robustness_checks.sanity(table, symptoms(), **options)
    row = only(without, defense="g", check="black_box")
    assert row["passed"] is pd.NA and "not run" in row["note"]
    row = only(
        robustness_checks.sanity(
            table, symptoms(), by_image=robustness_checks.by_image(records), **options
        ),
        defense="g",
        check="black_box",
    )
    assert (row["value"], row["limit"]) == pytest.approx((0.4, 0.2))
    assert not row["passed"]
    assert row["note"] == "eot on g and square on g at 8/255, 10 images"


def test_the_attack_with_most_images_in_common_is_the_one_compared():
    records = pd.concat(
        [
            judged([0] * 5 + [1] * 15, attack="eot"),
            judged([0] * 5, attack="autoattack"),
            judged([0] * 20, attack="pgd", against="undefended"),
        ]
    )
    table = robustness_checks.sanity(
        robustness_rates.robust_accuracy(records),
        symptoms(),
        attacks=ATTACKS | {"autoattack": {"kind": "autoattack"}},
        defenses=DEFENSES,
        by_image=robustness_checks.by_image(records),
    )
    row = only(table, defense="g", check="transfer")
    assert row["value"] == pytest.approx(0.75) and not row["passed"]


def test_symptoms_of_parts_add_up():
    parts = pd.concat([symptoms(), symptoms(zero_gradients=2, largest_difference=0.5)])
    options = {"attacks": ATTACKS, "defenses": DEFENSES}
    table = robustness_checks.sanity(robust(SOUND), parts, **options)
    row = only(table, defense="g", check="zero_gradients")
    assert (row["value"], row["note"], row["passed"]) == (2, "exactly 0 at 2 of 32 images", False)
    assert only(table, defense="g", check="random_output")["value"] == 0.5


def test_nothing_configured_is_not_run():
    table = robustness_checks.sanity(
        robust({("undefended", "none", "clean"): None}),
        symptoms().iloc[:0],
        attacks={},
        defenses=DEFENSES,
    )
    assert table["passed"].isna().all()
    assert table["note"].str.startswith("not run: ").all()
    assert set(table["defense"]) == {"undefended"}


def test_what_a_failed_check_puts_in_doubt_is_marked():
    table = robust(SOUND)

    def marked(frame, checks, columns):
        rows = robustness_checks.mark(frame, checks)
        rows = rows[rows["checks_failed"].notna()]
        return {
            tuple(row): row["checks_failed"]
            for _, row in rows[columns + ["checks_failed"]].iterrows()
        }

    columns = ["defense", "against", "attack"]

    def of(checks):
        return {name[:-1]: text for name, text in marked(table, checks, columns).items()}

    assert of(check()) == {}
    on_itself = {("g", "g", name) for name in ("fgsm", "eot", "eot_long", "square", "noise")}
    on_itself |= {("g", "any", "strongest")}
    found = of(check(flags={"zero_gradients": 1, "nan_gradients": 1}))
    assert set(found) == on_itself
    assert set(found.values()) == {"zero_gradients, nan_gradients"}
    # Too few draws put in doubt whatever was judged.
    found = of(check(draws=5))
    assert set(found) == on_itself | {("g", "none", "clean"), ("g", "undefended", "pgd")}
    # A bare network that does not fall puts in doubt what the code says of all.
    found = of(check(cells={("undefended", "undefended", "pgd"): (0.3, 0.2)}))
    assert ("g", "undefended", "pgd") in found and ("g_fixed", "g_fixed", "pgd") in found
    assert ("g", "none", "clean") not in found
    found = of(check(cells={("low_pass", "undefended", "pgd"): (0.9, 0.5)}))
    assert found == {}
    # Sets attacked once depend on other checks.
    rates = robustness_rates.control_rates(inputs(1))
    assert marked(rates, check(flags={"zero_gradients": 1}), ["control"]) == {}
    assert list(marked(rates, check(restored=1), ["control"]).values()) == ["adversarial_inputs"]
    elsewhere = rates.assign(model="another")
    assert marked(elsewhere, check(restored=1), ["control"]) == {}


def test_comparisons_are_marked_by_the_checks_of_both_sides():
    parts = [controls("a", name, [1, 1]) for name in ("post_averaging", "g", "flip")]
    parts += [controls("clean", name, [1, 1]) for name in ("post_averaging", "g")]
    table = robustness_rates.comparisons(pd.concat(parts))

    def marked(defense, name):
        failed = {**PLACE, "defense": defense, "check": name, "passed": False}
        rows = robustness_checks.mark(table, pd.DataFrame([failed]).astype({"passed": "boolean"}))
        rows = rows[rows["checks_failed"].notna()]
        assert set(rows["checks_failed"]) <= {name}
        return set(zip(rows["attack"], rows["control"], strict=True))

    everything = {("a", "g"), ("a", "flip"), ("clean", "g")}
    assert marked("g", "random_output") == {("a", "g"), ("clean", "g")}
    assert marked("post_averaging", "random_output") == everything
    assert marked("undefended", "adversarial_inputs") == {("a", "g"), ("a", "flip")}
    # Sets attacked once know nothing of a gradient through the defence.
    assert marked("g", "zero_gradients") == set()


def test_losses_are_marked_by_the_checks_of_the_attacked_defence():
    table = pd.concat([rising(against="g"), rising(against="g_fixed")])

    def marked(checks):
        rows = robustness_checks.mark(table, checks)
        return rows[rows["checks_failed"].notna()].groupby("against")["checks_failed"].first()

    assert marked(check()).empty
    assert marked(check(last=0.5)).to_dict() == {"g": "loss_rises"}
    assert marked(check(flags={"zero_gradients": 1})).to_dict() == {"g": "zero_gradients"}
    # A code that does not bring the bare network to 0 attacks all.
    found = marked(check(cells={("undefended", "undefended", "pgd"): (0.3, 0.2)}))
    assert found.to_dict() == dict.fromkeys(("g", "g_fixed"), "undefended_falls")


def test_a_strongest_that_no_gradient_backs_is_marked():
    cells = {("low_pass", "undefended", "pgd"): (0.9, 0.5)}
    rows = robustness_checks.mark(robust(SOUND | cells), check(cells=cells))
    rows = rows[rows["checks_failed"].notna()]
    assert set(zip(rows["defense"], rows["attack"], strict=True)) == {("low_pass", "strongest")}


# The lines of a figure --------------------------------------------------------------------------


def test_lines_of_accuracy_tell_attackers_apart():
    cells = SOUND | {("low_pass", "undefended", "pgd"): (0.9, 0.5)}
    numbers = {"low": 0.4, "high": 0.6}
    table = robust(cells).assign(**numbers)
    # Of the attacks on the defence this one leaves least.
    table["mean"] = np.where(table["attack"] == "eot", 0.1, 0.5)
    curves = robustness_rates.accuracy_curves(table, ATTACKS, ["g"])
    assert set(zip(curves["line"], curves["against"], curves["attack"], strict=True)) == {
        ("clean", "none", "clean"),
        ("undefended", "any", "strongest"),
        ("transfer", "undefended", "pgd"),
        ("adaptive", "g", "eot"),
        ("black_box", "g", "square"),
        ("noise", "g", "noise"),
        ("strongest", "any", "strongest"),
    }
    assert set(curves["defense"]) == {"g"}
    assert not curves.duplicated(["line", "epsilon"]).any()


def test_a_defence_that_no_model_has_gets_no_panel():
    numbers = {"mean": 0.5, "low": 0.4, "high": 0.6}
    curves = robustness_rates.accuracy_curves(robust(SOUND).assign(**numbers), ATTACKS, ["another"])
    assert curves.empty and list(curves.columns) == list(robustness_rates.CURVES)


def test_a_gradient_that_fails_on_the_way_is_counted_once_per_image():
    names = {"dataset": "d", "model": "m", "defense": "g"}
    rows = [
        {**names, "against": "g", "image_id": "a", "status": "nan_gradient"},
        {**names, "against": "g", "image_id": "a", "status": "nan_gradient"},
        {**names, "against": "g", "image_id": "b", "status": "zero_gradient"},
        {**names, "against": "undefended", "image_id": "c", "status": "nan_gradient"},
    ]
    # Two shards: what they saw of clean images adds up, what attacks met is of all images.
    flags = pd.DataFrame([{**names, **FLAGS, "zero_gradients": count} for count in (2, 1)])
    (found,) = robustness_checks.with_statuses(flags, pd.DataFrame(rows)).to_dict("records")
    assert (found["nan_gradients"], found["zero_gradients"], found["images"]) == (1, 3, 32)


def test_tables_of_many_defences_hold_the_records_of_one_at_a_time(tmp_path, monkeypatch):
    """And say of each what they say of all at once, shards and networks in any order."""
    told, files, records = defaultdict(list), defaultdict(list), []
    for model, defense, shard in itertools.product("nm", ("undefended", "g"), "10"):
        names = {"dataset": "d", "model": model, "defense": defense}
        ids = {f"i{i}": f"{shard}.{i}" for i in range(4)}
        parts = [clean([[1], [1], [1], [1]]), judged(CUBE, against=defense)]
        parts += [judged([[0], [1], [0], [0]], attack="cw", confidence=1.0, epsilon=None)]
        own = pd.concat(parts, ignore_index=True).replace({"image_id": ids}).assign(status="found")
        # 'undefended' is what the attack with a confidence was run against.
        own.loc[own["attack"] == "cw", "against"] = "undefended"
        own.loc[own["attack"] == "pgd", "status"] = "nan_gradient"
        records.append(own.assign(**names))
        path = tmp_path / f"{model}_{defense}_{shard}.parquet"
        rows = own.drop(columns=list(names)).astype({"epsilon": float, "confidence": float})
        store.write(path, pa.Table.from_pandas(rows, preserve_index=False), None)
        files["judgements"].append(str(path))
        told["judgements"].append(names)
        seen = tmp_path / f"symptoms_{path.name}"
        flags = symptoms().drop(columns=list(names)).iloc[:1]
        store.write(seen, pa.Table.from_pandas(flags, preserve_index=False), None)
        files["symptoms"].append(str(seen))
    told |= {"attacks": ATTACKS, "defenses": {"g": {"kind": "post_averaging"}}, "largest": E8}
    told["experiments"] = [{"dataset": "d", "model": m, "epsilon": E8} for m in "mn"]
    held = []
    read = robustness_tables.read
    monkeypatch.setattr(
        robustness_tables, "read", lambda *args: held.append(len(read(*args))) or read(*args)
    )
    found = robustness_tables.frames(files, told)
    everything = pd.concat(records, ignore_index=True)
    assert max(held) == len(everything) / 4
    wanted = {
        "robust_accuracy": robustness_rates.robust_accuracy(everything),
        "confidence": robustness_rates.confidence_rates(everything, BOUNDS),
    }
    for name, frame in wanted.items():
        pd.testing.assert_frame_equal(found[name].drop(columns="checks_failed"), frame)
    broken = found["sanity"].query("check == 'nan_gradients'")
    assert broken["note"].tolist() == ["not finite at 8 of 32 images"] * 4


def test_the_figure_of_losses_leaves_out_what_only_checks_a_budget(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(robustness_figures, "loss_curves", drawn.append)
    monkeypatch.setattr("bandlimit.plots.files.save", lambda figure, **how: None)
    # A script starts with its import.
    monkeypatch.setattr("bandlimit.provenance.job.run", lambda main, snakemake: None)
    script = Path(__file__).parents[2] / "scripts/robustness/figure_losses.py"
    main = runpy.run_path(str(script), init_globals={"snakemake": None})["main"]
    path = tmp_path / "losses.parquet"
    both = pd.concat([losses([1.0, 2.0], attack=name) for name in ("eot", f"eot{LARGER}")])
    for curves, names in ((both, ["eot", "eot"]), (both.iloc[:0], [])):
        table = pa.Table.from_pandas(robustness_rates.loss_curves(curves), preserve_index=False)
        store.write(path, table)
        main(
            SimpleNamespace(
                input=SimpleNamespace(table=path), pictures=dict, certificate=lambda: None
            )
        )
        assert drawn.pop()["attack"].tolist() == names
