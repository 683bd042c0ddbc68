"""Corruptions, noise of a band, and networks behind filters as configured."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from bandlimit.config.schema import read_schema
from bandlimit.data.corruptions import CORRUPTIONS
from bandlimit.errors import UserError
from bandlimit.plan import jobs, load
from bandlimit.studies.frequency_principle import settings
from bandlimit.studies.frequency_principle.image import artifacts

HOME = Path(__file__).parents[2]
BASE = yaml.safe_load((HOME / "config.yaml").read_text(encoding="utf-8"))
NAME = "fashion_mnist_small"


def loaded(**change):
    config = copy.deepcopy(BASE)
    config["frequency_principle"]["experiments"][NAME] |= change
    return load.load(config, HOME)


def of(run):
    (e,) = run.studies["frequency_principle"].experiments
    return e


def test_schema_and_library_name_the_same_corruptions():
    schema = read_schema(HOME / "workflow/schemas/frequency_principle.schema.yaml")
    keys = schema["$defs"]["sensitivity"]["properties"]
    assert keys["corruptions"]["items"]["enum"] == list(CORRUPTIONS)


def test_networks_behind_filters_are_compared_with_the_natural_one_trained_alike():
    e = of(loaded())
    pairs = {n.name: e.natural(n).name for n in e.corrupted() if e.natural(n)}
    assert pairs[f"{NAME}_gaussian"] == NAME and pairs[f"{NAME}_low_7"] == NAME
    assert pairs[f"{NAME}_batchnorm_adversarial"] == f"{NAME}_batchnorm"
    assert NAME not in pairs and f"{NAME}_batchnorm" not in pairs
    # Heat maps don't show them.
    assert f"{NAME}_low_7" not in e.models()


def test_a_job_is_told_the_filter_of_each_network():
    run = loaded(filtered=[f"{NAME}_high_7"])
    told = jobs.identity(
        run, "evaluate_corruptions", SimpleNamespace(dataset="fashion_mnist_test", model=NAME)
    )
    own = dict(zip(told["networks"], told["filters"], strict=True))
    assert own[NAME] is None and own[f"{NAME}_high_7_seed_2"]["part"] == "high"
    assert own[f"{NAME}_high_7_seed_2"]["radius"] == 7
    assert told["changes"]["noise_norm"] == 7 and told["changes"]["high_pass"] == 23


def test_claims_are_asked_of_networks_that_have_what_they_need():
    run = loaded()
    has = {
        name: artifacts.facts(run, "fashion_mnist_test", f"{NAME}{name}")["has"]
        for name in ("", "_gaussian", "_low_7", "_high_7")
    }
    assert not {"slope_up", "slope_down", "band_pass", "band_noise"} & set(has[""])
    assert {"slope_up", "band_noise"} <= set(has["_gaussian"])
    assert {"slope_up", "band_pass"} == set(has["_low_7"])
    assert {"slope_down", "band_pass"} == set(has["_high_7"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corruptions": ["rain"]}, "corruptions.* has no choice 'rain'"),
        ({"severity": 6}, "severity.* must be at most 5, got 6"),
        ({"bandwidths": [3, 8]}, "bandwidths must be odd and from 1 to 27, .*, got 8"),
        ({"high_pass": 29}, "high_pass must be odd and from 1 to 27, .*, got 29"),
        ({"filtered": [f"{NAME}_gaussian"]}, "'component' of each image; 'fashion.*' is none"),
        ({"filtered": ["some"]}, "'some', which is not among the models of the run"),
    ],
)
def test_mistakes_are_told_in_one_sentence(change, message):
    with pytest.raises(UserError, match=message):
        loaded(**change)


@pytest.mark.parametrize(("side", "most"), [(27, 25), (26, 25)])
@pytest.mark.parametrize("key", ["bandwidths", "high_pass"])
def test_a_square_leaves_frequencies_beyond_it(side, most, key):
    run = loaded()
    smaller = dataclasses.replace(
        run,
        models={n: dataclasses.replace(m, shape=(1, side, side)) for n, m in run.models.items()},
        datasets={n: dataclasses.replace(d, shape=None) for n, d in run.datasets.items()},
    )
    entry = dict(BASE["frequency_principle"]["experiments"][NAME])
    entry |= {"norms": [], "stride": 1, "severity": 3, "followed": []}

    def made(number):
        wanted = {key: [number] if key == "bandwidths" else number}
        given = {"bandwidths": [3], "high_pass": 3} | wanted
        return settings._experiment(smaller, NAME, entry | given)

    assert made(most).bandwidths
    with pytest.raises(UserError, match=f"{key} must be odd and from 1 to {most}, .* got 27"):
        made(27)


def test_nothing_is_corrupted_where_no_corruption_is_named():
    run = loaded(corruptions=[], high_pass=29, filtered=[])
    assert artifacts.corruption_files(run) == []
