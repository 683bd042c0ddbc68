import itertools

import numpy as np
import pandas as pd
import pytest

from bandlimit.statistics import paired_error, wilson
from bandlimit.studies.bandlimiting import rates as bandlimiting_rates

IDS = ["a", "b", "c", "d", "e"]


SETTINGS = [(6.0, 15)]


def undefended(correct):
    """The true class is 0 throughout; a mistake is class 1."""
    return pd.DataFrame(
        {
            "image_id": IDS,
            "label": 0,
            "prediction": [int(not right) for right in correct],
            "correct": correct,
        }
    )


def attacked(members, correct=(True,) * 5):
    before = [int(not right) for right in correct]
    return pd.DataFrame(
        {
            "image_id": IDS,
            "attacked": [i in members for i in IDS],
            "prediction_before": before,
            "prediction_after": [
                1 if i in members else b for i, b in zip(IDS, before, strict=True)
            ],
        }
    )


def rates_of(correct, members, clean, adversarial, settings=SETTINGS):
    return bandlimiting_rates.defense_rates(
        undefended(correct), attacked(members, correct), clean, adversarial, settings
    )


def defended(correct, radius=6.0, directions=15, draw=0, ids=None):
    ids = list(IDS) if ids is None else ids
    return pd.DataFrame(
        {
            "image_id": ids,
            "radius": radius,
            "directions": directions,
            "draw": draw,
            "correct": correct,
        }
    )


# Rates ------------------------------------------------------------------------------------------


def test_rates_of_five_images_by_hand():
    # The model knows a to d; the attack finds a, b, c. The defence misclassifies the clean b and e,
    # and restores a of those attacked.
    rates = rates_of(
        [True, True, True, True, False],
        "abc",
        defended([True, False, True, True, False]),
        defended([True, False, False], ids=["a", "b", "c"]),
    )
    assert len(rates) == 1
    row = rates.iloc[0]
    assert (row["radius"], row["directions"], row["draws"]) == (6.0, 15, 1)
    assert (row["images"], row["adversarial"]) == (5, 3)
    assert row["clean_undefended"] == pytest.approx(4 / 5)
    assert row["attacked_undefended"] == pytest.approx(1 / 5)
    assert row["clean_defended"] == pytest.approx(3 / 5)
    # a is restored, b and c are not, d is right as on the clean set, e wrong.
    assert row["attacked_defended"] == pytest.approx(2 / 5)
    assert row["defense_rate"] == pytest.approx(1 / 3)
    assert (row["low"], row["high"]) == pytest.approx(wilson(1, 3))
    assert row["ceiling"] == pytest.approx(2 / 3)
    assert row["conditional"] == pytest.approx(1 / 2)
    # Only on the clean b do model and defence differ; on e both are wrong.
    assert row["clean_differ"] == pytest.approx(1 / 5)
    # Accuracies are of five images, the ceiling of the three attacked.
    counted = {
        "clean_undefended": (4, 5),
        "attacked_undefended": (1, 5),
        "clean_defended": (3, 5),
        "attacked_defended": (2, 5),
        "ceiling": (2, 3),
    }
    for name, (right, cases) in counted.items():
        bounds = (row[f"{name}_low"], row[f"{name}_high"])
        assert bounds == pytest.approx(wilson(right, cases)), name
    assert pd.isna(row["deviation"])


def test_order_and_superfluous_rows_change_nothing():
    right = [True, True, True, True, False]
    arguments = (
        undefended(right),
        attacked("abc", right),
        defended([True, False, True, True, False]),
        defended([True, False, False, True, True]),
    )
    straight = bandlimiting_rates.defense_rates(*arguments, SETTINGS)
    random = np.random.default_rng(0)
    for _ in range(5):
        mixed = [frame.sample(frac=1, random_state=random) for frame in arguments]
        pd.testing.assert_frame_equal(bandlimiting_rates.defense_rates(*mixed, SETTINGS), straight)


def test_without_adversarial_images_there_is_no_rate():
    rates = rates_of(
        [True, True, False, False, False],
        "",
        defended([True, True, True, False, False]),
        defended([True] * 5),
    )
    row = rates.iloc[0]
    assert row["adversarial"] == 0
    assert row["attacked_undefended"] == row["clean_undefended"] == pytest.approx(2 / 5)
    assert row["attacked_defended"] == row["clean_defended"] == pytest.approx(3 / 5)
    empty = ["defense_rate", "low", "high", "conditional"]
    empty += ["ceiling", "ceiling_low", "ceiling_high"]
    assert rates[empty].isna().all(axis=None)
    assert set(rates[empty].dtypes) == {np.dtype(float)}
    bounds = (row["attacked_defended_low"], row["attacked_defended_high"])
    assert bounds == pytest.approx(wilson(3, 5))


def test_no_clean_image_kept_leaves_the_conditional_rate_open():
    rates = rates_of([True] * 5, "ab", defended([False] * 5), defended([True] * 5))
    row = rates.iloc[0]
    assert (row["defense_rate"], row["ceiling"]) == (1.0, 0.0)
    assert pd.isna(row["conditional"])


def test_draws_are_averaged():
    clean = pd.concat([defended([True] * 5, draw=0), defended([True] * 4 + [False], draw=1)])
    adversarial = pd.concat(
        [
            defended([True, True, False, False], draw=0, ids=list("abcd")),
            defended([True, True, True, False], draw=1, ids=list("abcd")),
        ]
    )
    row = rates_of([True] * 5, "abcd", clean, adversarial).iloc[0]
    assert row["draws"] == 2
    assert row["defense_rate"] == pytest.approx((0.5 + 0.75) / 2)
    assert row["deviation"] == pytest.approx(np.std([0.5, 0.75], ddof=1))
    assert row["clean_defended"] == pytest.approx((1 + 0.8) / 2)
    assert row["clean_differ"] == pytest.approx((0 + 0.2) / 2)
    # Five images: those restored and, of the draw's clean ones, e.
    assert row["attacked_defended"] == pytest.approx((3 / 5 + 3 / 5) / 2)
    # The interval counts images, not images times draws.
    assert (row["low"], row["high"]) == pytest.approx(wilson(2.5, 4))
    bounds = (row["clean_defended_low"], row["clean_defended_high"])
    assert bounds == pytest.approx(wilson(4.5, 5))
    bounds = (row["attacked_defended_low"], row["attacked_defended_high"])
    assert bounds == pytest.approx(wilson(3, 5))
    bounds = (row["ceiling_low"], row["ceiling_high"])
    assert bounds == pytest.approx(wilson(4, 4))


def test_each_setting_has_its_row_and_its_own_clean_images():
    settings = [(2.0, 6), (2.0, 15), (6.0, 15)]
    clean = pd.concat(
        defended([i >= n for i in range(5)], radius=r, directions=k)
        for n, (r, k) in enumerate(settings)
    )
    adversarial = pd.concat(
        defended([i < n for i in range(5)], radius=r, directions=k)
        for n, (r, k) in enumerate(settings)
    )
    rates = rates_of([True] * 5, "abcde", clean, adversarial.iloc[::-1], settings)
    assert list(map(tuple, rates[["radius", "directions"]].to_numpy())) == settings
    assert rates["defense_rate"].tolist() == pytest.approx([0, 1 / 5, 2 / 5])
    assert rates["clean_defended"].tolist() == pytest.approx([1, 4 / 5, 3 / 5])


def test_the_identities_hold_for_all_outcomes_of_two_images():
    def flags(bits):
        return [*map(bool, bits), False, False, False]

    cases = itertools.product((0, 1), repeat=2)
    for right, found, clean, restored in itertools.product(list(cases), repeat=4):
        members = [i for i, r, f in zip("ab", right, found, strict=True) if r and f]
        rates = rates_of(
            flags(right),
            members,
            defended(flags(clean)),
            defended(flags(restored)),
        )
        row = rates.iloc[0]
        assert row["attacked_defended"] * 5 == pytest.approx(
            sum((r if i in members else c) for i, c, r in zip("ab", clean, restored, strict=True))
        )


@pytest.mark.parametrize(
    ("right", "clean", "differ"),
    [
        ([True, True, False, False, False], [True, True, False, False, False], 0),
        # As many gained as lost: accuracies are equal, answers are not.
        ([True, True, False, False, False], [True, False, True, False, False], 2 / 5),
        ([True] * 5, [False] * 5, 1),
    ],
)
def test_how_often_model_and_defence_differ_counts_both_ways(right, clean, differ):
    row = rates_of(right, "", defended(clean), defended([], ids=[])).iloc[0]
    assert row["clean_differ"] == pytest.approx(differ)


# Changes against the main setting ----------------------------------------------------------------

MAIN = (8 / 255, 6.0, 15)


def attacked_set(epsilon, restored, settings=SETTINGS):
    """Return a set of which each setting restores what is told, by image."""
    frames = [
        defended(
            list(of_setting.values()), radius=radius, directions=directions, ids=list(of_setting)
        )
        for (radius, directions), of_setting in zip(settings, restored, strict=True)
    ]
    members = list(restored[0])
    return bandlimiting_rates.Attacked(epsilon, members, pd.concat(frames))


def changes_of(sets, clean, settings=SETTINGS, main=MAIN):
    frame = bandlimiting_rates.changes(sets, clean, settings, main)
    for name in frame.columns:
        if "change" in name:
            assert frame[name].dtype == np.dtype(float), name
    return frame.set_index(["epsilon", "radius", "directions"])


def test_at_the_main_setting_nothing_changes():
    one = attacked_set(8 / 255, [{"a": True, "b": False, "c": True}])
    row = changes_of([one], defended([True, False, True, True, False])).loc[MAIN]
    assert row["defense_rate_change"] == 0 and row["clean_change"] == 0
    # For certain, as far as so few images can say.
    assert row["defense_rate_change_error"] == pytest.approx(2**0.5 / 5)
    assert row["clean_change_error"] == pytest.approx(2**0.5 / 7)


def test_a_change_of_paired_images_by_hand():
    settings = [(6.0, 15), (12.0, 15)]
    one = attacked_set(
        8 / 255,
        [
            {"a": True, "b": True, "c": True, "d": False},
            {"a": True, "b": False, "c": False, "d": True},
        ],
        settings,
    )
    clean = pd.concat(
        [
            defended([True, True, True, True, False], radius=6.0),
            defended([True, True, False, True, False], radius=12.0),
        ]
    )
    changes = changes_of([one], clean, settings)
    assert len(changes) == 2
    row = changes.loc[(8 / 255, 12.0, 15)]
    # b and c are lost and d is gained: 2 of 4 in place of 3.
    assert row["defense_rate_change"] == pytest.approx(2 / 4 - 3 / 4)
    assert row["defense_rate_change_error"] == pytest.approx(paired_error([0, -1, -1, 1]))
    assert row["clean_change"] == pytest.approx(3 / 5 - 4 / 5)
    assert row["clean_change_error"] == pytest.approx(paired_error([0, 0, -1, 0, 0]))


def test_draws_count_by_their_share_in_a_change():
    settings = [(6.0, 15), (6.0, 60)]
    drawn = pd.concat(
        [
            defended([True, False], directions=15, draw=0, ids=["a", "b"]),
            defended([True, True], directions=15, draw=1, ids=["a", "b"]),
            defended([False, False], directions=60, draw=0, ids=["a", "b"]),
            defended([True, False], directions=60, draw=1, ids=["a", "b"]),
        ]
    )
    one = bandlimiting_rates.Attacked(8 / 255, ["a", "b"], drawn)
    clean = pd.concat(defended([True] * 5, directions=k) for k in (15, 60))
    row = changes_of([one], clean, settings).loc[(8 / 255, 6.0, 60)]
    assert row["defense_rate_change"] == pytest.approx((0.5 + 0) / 2 - (1 + 0.5) / 2)
    # Two images, whatever the number of draws; each loses half.
    assert row["defense_rate_change_error"] == pytest.approx(paired_error([-0.5, -0.5]))
    assert row["clean_change"] == 0


def test_images_of_one_set_alone_add_to_the_change_of_nested_sets():
    small = attacked_set(8 / 255, [{"a": True, "b": False}])
    large = attacked_set(32 / 255, [{"a": True, "b": False, "c": False, "d": False}])
    changes = changes_of([small, large], defended([True] * 5))
    row = changes.loc[(32 / 255, 6.0, 15)]
    assert row["defense_rate_change"] == pytest.approx(1 / 4 - 1 / 2)
    # What each image adds: 4/4 (x - 1/4) of the large set, less 4/2 (x - 1/2) of the small one.
    parts = [0.75 - 1.0, -0.25 + 1.0, -0.25, -0.25]
    # An image of the small set stands for two of the large one.
    assert row["defense_rate_change_error"] == pytest.approx(paired_error(parts, 2.0))
    assert row["defense_rate_change_cases"] == 2
    # The clean images are the same at each epsilon.
    assert changes["clean_change"].tolist() == [0, 0]


def test_a_set_of_few_images_says_little_however_large_the_other_is():
    few = attacked_set(8 / 255, [dict.fromkeys("abcde", True)])
    many = attacked_set(32 / 255, [{name: True for name in [*"abcde", *map(str, range(195))]}])
    row = changes_of([few, many], defended([True] * 5)).loc[(32 / 255, 6.0, 15)]
    assert (row["defense_rate_change"], row["defense_rate_change_cases"]) == (0, 5)
    # Five of five may be a rate of 0.57, by Wilson's interval.
    assert 1.96 * row["defense_rate_change_error"] > 0.4


def test_an_unchanged_set_changes_less_surely_the_more_is_added_to_it():
    """Shared images say that rates are close; sets of others do not."""
    same = {"a": True, "b": False}
    others = {"c": True, "d": False}
    small = attacked_set(8 / 255, [same])
    errors = [
        changes_of([small, attacked_set(32 / 255, [large])], defended([True] * 5)).loc[
            (32 / 255, 6.0, 15), "defense_rate_change_error"
        ]
        / (len(same | large) + 2) ** -1
        for large in (same, same | others, others)
    ]
    assert errors == sorted(errors) and len(set(errors)) == 3


def test_without_adversarial_images_no_rate_changes():
    nothing = bandlimiting_rates.Attacked(8 / 255, [], defended([], ids=[]))
    one = attacked_set(32 / 255, [{"a": True}])
    changes = changes_of([nothing, one], defended([True] * 5))
    assert changes[["defense_rate_change", "defense_rate_change_error"]].isna().all(axis=None)
    assert changes["clean_change"].tolist() == [0, 0]
    # An empty set beside a reference that has images has none of its own either.
    changes = changes_of([nothing, one], defended([True] * 5), main=(32 / 255, 6.0, 15))
    assert changes["defense_rate_change"].isna().tolist() == [True, False]


@pytest.mark.parametrize(
    ("main", "restored", "clean"),
    [
        ((16 / 255, 6.0, 15), True, False),
        ((8 / 255, 7.0, 15), True, True),
        ((8 / 255, 6.0, 16), True, True),
    ],
)
def test_without_the_main_setting_there_is_nothing_to_compare_with(main, restored, clean):
    one = attacked_set(8 / 255, [{"a": True, "b": False}])
    row = changes_of([one], defended([True] * 5), main=main).iloc[0]
    for name, empty in (("defense_rate_change", restored), ("clean_change", clean)):
        assert pd.isna(row[name]) == empty and pd.isna(row[f"{name}_error"]) == empty


# What does not hold together --------------------------------------------------------------------


def test_other_images_are_refused():
    with pytest.raises(ValueError, match="not of the same images"):
        bandlimiting_rates.defense_rates(
            undefended([True] * 5).iloc[:4],
            attacked("a"),
            defended([True] * 5),
            defended([True] * 5),
            SETTINGS,
        )


def test_a_repeated_image_is_refused():
    twice = pd.concat([undefended([True] * 5), undefended([True] * 5)])
    with pytest.raises(ValueError, match="not of the same images"):
        bandlimiting_rates.defense_rates(
            twice, attacked("a"), defended([True] * 5), defended([True] * 5), SETTINGS
        )


def test_an_attack_on_a_mislabelled_image_is_refused():
    with pytest.raises(ValueError, match="misclassifies counts as attacked"):
        rates_of(
            [False] + [True] * 4,
            "ab",
            defended([True] * 5),
            defended([True] * 5),
        )


@pytest.mark.parametrize(
    ("clean", "adversarial"),
    [
        (defended([True] * 4, ids=list("abcd")), defended([True] * 5)),
        (defended([True] * 5), defended([True], ids=["a"])),
        (defended([True] * 5, draw=1), defended([True] * 5)),
        (defended([True] * 5, radius=2.0), defended([True] * 5)),
    ],
    ids=["clean image", "adversarial image", "draw", "setting"],
)
def test_missing_records_of_the_defence_are_refused(clean, adversarial):
    with pytest.raises(ValueError, match="records of the defence are missing"):
        rates_of([True] * 5, "ab", clean, adversarial)


def test_an_adversarial_image_that_the_model_knows_is_refused():
    records = attacked("ab").assign(prediction_after=[1, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="is not clean accuracy minus the share of #Adv"):
        bandlimiting_rates.defense_rates(
            undefended([True] * 5), records, defended([True] * 5), defended([True] * 5), SETTINGS
        )


def test_records_that_disagree_about_the_model_are_refused():
    records = attacked("ab").assign(prediction_before=[0, 0, 0, 0, 2])
    with pytest.raises(ValueError, match="disagree on what the model predicts"):
        bandlimiting_rates.defense_rates(
            undefended([True] * 5), records, defended([True] * 5), defended([True] * 5), SETTINGS
        )


def test_an_attack_that_finds_nothing_still_has_its_row():
    nothing = defended([], ids=[])
    row = rates_of([True] * 5, "", defended([True] * 5), nothing).iloc[0]
    assert row["adversarial"] == 0 and row["draws"] == 1
    assert pd.isna(row["defense_rate"])
