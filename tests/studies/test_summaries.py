"""What the page of a defence says: cost, attackers, checks, controls, and the verdict."""

import pandas as pd
import pytest

from bandlimit.studies.robustness.summaries import FAILS, HOLDS, OPEN, summary

PLACE = {"dataset": "data", "model": "net"}
EXPERIMENTS = [{**PLACE, "epsilon": 8 / 255}]


def rate(defense, against, attack, epsilon, mean, images=400):
    half = 0.03
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    names = {"defense": defense, "against": against, "attack": attack, "epsilon": epsilon}
    return {**PLACE, **names, "mean": mean, "low": low, "high": high, "images": images}


def check(defense, name, passed, question="Is it?"):
    return {
        **PLACE,
        **{"defense": defense, "check": name, "question": question, "passed": passed, "note": ""},
    }


def tables(left, *, checks=(), **more):
    bound = 8 / 255
    robust = [
        rate("undefended", "none", "clean", 0.0, 0.9),
        rate("mine", "none", "clean", 0.0, 0.8),
        rate("undefended", "any", "strongest", bound, 0.0),
        rate("mine", "any", "strongest", bound, left),
        rate("mine", "mine", "exact_pgd", bound, left),
        rate("mine", "undefended", "pgd", bound, 0.7),
    ]
    sanity = pd.DataFrame([*checks, check("mine", "loss_rises", True)])
    sanity["passed"] = sanity["passed"].astype("boolean")
    return {"robust_accuracy": pd.DataFrame(robust), "sanity": sanity, **more}


def only(found):
    (one,) = found
    return one


@pytest.mark.parametrize(
    ("left", "failed", "verdict"),
    [
        (0.0, False, FAILS),
        (0.0, True, FAILS),
        (0.5, False, HOLDS),
        (0.5, True, OPEN),
        (0.07, False, OPEN),
    ],
)
def test_attackers_who_know_it_decide_and_failed_checks_only_against_it(left, failed, verdict):
    checks = [check("mine", "zero_gradients", False)] * failed
    one = only(summary("mine", tables(left, checks=checks), EXPERIMENTS))
    assert one["verdict"] == verdict
    assert f"leave {left:.0%} of 400 images correct, against 0% without it" in one["reading"]
    assert len(one["failed"]) == failed and one["passed"] == 1


def test_few_images_show_nothing_either_way():
    found = tables(0.04)
    robust = found["robust_accuracy"]
    robust.loc[robust["attack"] == "strongest", "high"] = 0.3
    assert only(summary("mine", found, EXPERIMENTS))["verdict"] == OPEN


def test_the_cost_is_a_difference_with_its_interval():
    one = only(summary("mine", tables(0.5), EXPERIMENTS))
    cost = one["cost"]
    assert cost["difference"] == pytest.approx(0.1) and cost["low"] < 0.1 < cost["high"]


def test_attacks_that_do_not_know_it_suggest_more():
    one = only(summary("mine", tables(0.0), EXPERIMENTS))
    assert [(row["attack"], row["mean"]) for row in one["suggested"]] == [("pgd", 0.7)]
    controls = pd.DataFrame(
        [
            {
                **PLACE,
                **{"control": name, "attack": "pgd_minimal", "restored": 0.9, "low": 0.8},
                **{"high": 0.95, "adversarial": 100},
            }
            for name in ("mine", "flip")
        ]
    )
    one = only(summary("mine", tables(0.0, controls=controls), EXPERIMENTS))
    assert [(row["attack"], row["restored"]) for row in one["suggested"]] == [("pgd_minimal", True)]


def test_controls_do_as_well_unless_the_defence_is_shown_to_be_better():
    def compared(control, difference, different):
        return {
            **PLACE,
            **{"reference": "mine", "control": control, "attack": "pgd", "images": 50},
            **{"difference": difference, "different": different, "p_holm": 0.01},
        }

    rows = [
        compared("better", -0.3, True),
        compared("alike", 0.02, False),
        compared("worse", 0.3, True),
        compared("undefended", 0.0, False),
    ]
    found = tables(0.0, comparisons=pd.DataFrame(rows))
    one = only(summary("mine", found, EXPERIMENTS))
    assert [(row["control"], row["better"]) for row in one["controls"]] == [
        ("better", True),
        ("alike", False),
    ]


def test_an_experiment_that_does_not_examine_it_has_no_entry():
    assert summary("other", tables(0.0), EXPERIMENTS) == []
