import copy
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from bandlimit import statistics
from bandlimit.attacks import kinds
from bandlimit.claims import grammar, verdicts
from bandlimit.claims import reported as claims_reported
from bandlimit.errors import UserError
from bandlimit.files import store

HOME = Path(__file__).parents[2]
OWN = HOME / "workflow/claims/bandlimiting.yaml"
FILES = sorted((HOME / "workflow/claims").glob("*.yaml"))
SCHEMA = HOME / "workflow/schemas/claims.schema.yaml"

TEXT = """
document: A document
reported:
  table_1:
    - {attack: fgsm, defense_rate: 0.5}
    - {attack: pgd, defense_rate: 0.25}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


# What documents report ---------------------------------------------------------------------------


def test_a_table_is_read_as_it_stands(path):
    expected = pd.DataFrame({"attack": ["fgsm", "pgd"], "defense_rate": [0.5, 0.25]})
    pd.testing.assert_frame_equal(claims_reported.reported(path, "table_1"), expected)
    assert claims_reported.read(path)["document"] == "A document"


def test_an_unknown_table_is_named_with_the_nearest(path):
    with pytest.raises(UserError, match=r"no table 'table_2'; .*did you mean 'table_1'"):
        claims_reported.reported(path, "table_2")


def test_the_document_has_the_tables_that_scripts_ask_for():
    table_1 = claims_reported.reported(OWN, "table_1")
    assert sorted(table_1.groupby("dataset").size().to_dict().items()) == [
        ("CIFAR-10", 4),
        ("ImageNet", 4),
    ]
    assert not table_1.duplicated(["dataset", "attack"]).any()
    assert {"directions", "defense_rate", "adversarial", "time_ratio"} <= set(
        claims_reported.reported(OWN, "table_2").columns
    )
    assert len(claims_reported.reported(OWN, "region_count")) >= 1
    assert len(claims_reported.reported(OWN, "crossings")) >= 1


def test_the_reported_rates_are_rates_and_nearly_hold_together():
    """The identities of section 4.2 within rounding, and 13 images in the rows of DeepFool."""
    table = claims_reported.reported(OWN, "table_1")
    rates = [name for name in table.columns if name.endswith(("defended", "defense_rate"))]
    assert ((table[rates] >= 0) & (table[rates] < 1)).all(axis=None)
    counted = (table["clean_undefended"] - table["attacked_undefended"]) * table["images"]
    gap = (counted - table["adversarial"]).abs()
    deepfool = table["attack"] == "deepfool_l2"
    assert (gap[~deepfool] <= 1).all()
    assert (gap <= 13.5).all()


# A made-up run -----------------------------------------------------------------------------------

REAL = {
    "dataset": "cifar10",
    "model": "resnet56",
    "document": "CIFAR-10",
    "stand_in": False,
    "architecture": "cifar_resnet56",
    "main_radius": 6.0,
    "has": ["pgd"],
}
STAND_IN = REAL | {"dataset": "fashion", "model": "small", "stand_in": True}
OTHER = REAL | {"model": "resnet20", "architecture": "cifar_resnet20"}

TEST = {"label": "rate", "value": "rate", "n": "images", "range": "rate", "within": [0.8, 0.9]}
CLAIM = {
    "id": "study.C01",
    "where": "Table 1",
    "statement": "The rate is high.",
    "scale": "paper",
    "records": "tables/rates",
    "rows": "attack == 'pgd'",
    "tests": [TEST],
}


def rows_of(experiment, **columns):
    """Return records of an experiment: one per entry of the longest column."""
    frame = pd.DataFrame({"attack": "pgd", "images": 100, **columns})
    return frame.assign(dataset=experiment["dataset"], model=experiment["model"])


class Run:
    """A claims file, the tables of a run and its experiments."""

    def __init__(self, folder):
        self.folder = folder
        self.experiments = [REAL]
        self.tables = {}
        self.claims = [copy.deepcopy(CLAIM)]
        self.summary = [{"say": "Look below."}]

    @property
    def claim(self):
        return self.claims[0]

    @property
    def test(self):
        return self.claim["tests"][0]

    def record(self, *frames, name="tables/rates"):
        self.tables[name] = self.folder / f"{name.replace('/', '_')}.parquet"
        frame = pd.concat(frames, ignore_index=True)
        store.write(self.tables[name], pa.Table.from_pandas(frame, preserve_index=False))

    def file(self):
        path = self.folder / "claims.yaml"
        document = {"document": "A document", "summary": self.summary, "claims": self.claims}
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def evaluate(self):
        return verdicts.evaluate(self.file(), self.tables, self.experiments, schema=SCHEMA)

    def row(self):
        return self.evaluate().iloc[0]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


# Verdicts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "images", "verdict"),
    [
        (0.85, 100, verdicts.REPRODUCED),
        (0.80, 100, verdicts.REPRODUCED),
        (0.75, 100, verdicts.NOT_REPRODUCED),  # interval 0.657 to 0.825
        (0.60, 100, verdicts.CONTRADICTED),  # interval 0.502 to 0.691
        (0.75, 10000, verdicts.CONTRADICTED),
        (0.99, 100, verdicts.CONTRADICTED),  # on the other side: from 0.946
        (0.95, 20, verdicts.NOT_REPRODUCED),
    ],
)
def test_the_interval_decides_between_contradicted_and_open(run, rate, images, verdict):
    run.record(rows_of(REAL, rate=[rate], images=images))
    row = run.row()
    assert row["verdict"] == verdict
    assert (row["low"], row["high"]) == pytest.approx(statistics.wilson(rate * images, images))
    assert (row["measured"], row["images"]) == (rate, images)


@pytest.mark.parametrize(
    ("rate", "images", "verdict"),
    [
        (0.85, 100, verdicts.REPRODUCED),
        (0.50, 10000, verdicts.NOT_REPRODUCED),  # surely outside, and surely not at most 0.1
        (0.11, 10000, verdicts.NOT_REPRODUCED),
        (0.05, 100, verdicts.NOT_REPRODUCED),  # interval 0.022 to 0.112
        (0.05, 1000, verdicts.CONTRADICTED),  # interval 0.038 to 0.065
        (0.00, 100, verdicts.CONTRADICTED),
    ],
)
def test_a_test_may_say_what_contradicts(run, rate, images, verdict):
    run.test["contradicts"] = [None, 0.1]
    run.record(rows_of(REAL, rate=[rate], images=images))
    row = run.row()
    assert row["verdict"] == verdict
    said = "outside 0.8 to 0.9 (at most 0.1 contradicts)"
    assert (said in row["reading"]) == (verdict != verdicts.REPRODUCED)


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.05, verdicts.CONTRADICTED), (0.5, verdicts.NOT_REPRODUCED)]
)
def test_what_contradicts_an_exact_value(run, value, verdict):
    del run.test["n"]
    run.test.update({"exact": True, "contradicts": [0, 0.1]})
    run.record(rows_of(REAL, rate=[value]))
    row = run.row()
    assert row["verdict"] == verdict
    assert "(0 to 0.1 contradicts)" in row["reading"]


def test_a_row_of_the_ledger_says_all_of_a_claim(run):
    run.claim["reported"] = 0.86
    run.record(
        rows_of(STAND_IN, rate=[0.1, 0.2]),
        rows_of(REAL, rate=[0.3, 0.85]).assign(attack=["fgsm", "pgd"]),
    )
    run.claim["needs"] = ["pgd"]
    run.experiments.append(STAND_IN | {"has": []})
    row = run.row()
    assert row[["id", "study", "document", "where", "scale"]].tolist() == [
        "study.C01",
        "study",
        "A document",
        "Table 1",
        "paper",
    ]
    assert row["reported"] == 0.86
    assert (row["measured_on"], row["stand_in"]) == ("cifar10/resnet56", False)
    assert row["records"] == str(run.tables["tables/rates"])
    assert row["rows"] == "attack == 'pgd'"
    assert row["decided_by"] == "tables/rates: 3"
    assert row["reading"] == (
        "Rate: 0.85 [0.767, 0.907], within 0.8 to 0.9 (N = 100); reported is 0.86. "
        "Measured on cifar10/resnet56."
    )


@pytest.mark.parametrize(("value", "verdict"), [(3, "reproduced"), (3.1, "contradicted")])
def test_an_exact_value_leaves_nothing_open(run, value, verdict):
    del run.claim["rows"]
    run.test.update(value="value", range="any", exact=True, within=[3, 3])
    del run.test["n"]
    run.record(pd.DataFrame({"value": [float(value)]}))
    row = run.row()
    assert (row["verdict"], row["measured"], row["measured_on"]) == (verdict, value, "computation")
    assert pd.isna(row["stand_in"]) and pd.isna(row["images"])


@pytest.mark.parametrize(
    ("value", "verdict"), [(5, "reproduced"), (8, "not reproduced"), (9, "contradicted")]
)
def test_an_interval_may_stand_in_the_table(run, value, verdict):
    run.test.update(value="count", range="positive", low="least", high="most", within=[None, 6])
    del run.test["n"]
    run.record(rows_of(REAL, count=[value], least=[value - 2.5], most=[value + 2.5]))
    assert run.row()["verdict"] == verdict


def test_an_interval_that_is_not_known_excludes_nothing(run):
    run.test.update(value="count", range="positive", low="least", high="most", within=[None, 6])
    del run.test["n"]
    run.record(rows_of(REAL, count=[100.0], least=[float("nan")], most=[float("nan")]))
    assert run.row()["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ((0.3, 0.6, 0.9, 0.8), "reproduced"),
        ((0.3, 0.6, 0.65, 0.9), "not reproduced"),
        ((0.6, 0.55, 0.9, 0.9), "not reproduced"),
        ((0.9, 0.6, 0.9, 0.9), "contradicted"),
        ((0.3, 0.6, 0.9, 0.2), "contradicted"),
    ],
)
def test_an_order_must_be_clear(run, rates, verdict):
    names = ["fgsm", "deepfool", "pgd", "carlini"]
    run.claim["rows"] = "rate >= 0"
    del run.test["within"]
    run.test["order"] = {"by": "attack", "groups": [["fgsm"], ["deepfool"], ["pgd", "carlini"]]}
    run.record(rows_of(REAL, rate=rates, attack=names))
    row = run.row()
    assert row["verdict"] == verdict
    steps = [rates[1] - rates[0], rates[2] - rates[1], rates[3] - rates[1]]
    assert row["measured"] == pytest.approx(min(steps))


def test_an_order_widens_its_intervals_for_their_number(run):
    run.claim["rows"] = "rate >= 0"
    del run.test["within"]
    run.test["order"] = {"by": "attack", "groups": [["a"], ["b"]]}
    run.record(rows_of(REAL, rate=[0.5, 0.64], attack=["a", "b"]))
    alone = run.row()
    assert alone["verdict"] == "reproduced"
    assert (alone["low"], alone["high"]) == pytest.approx(statistics.difference(64, 100, 50, 100))
    run.test["order"]["groups"] = [["a"], ["b", "c", "d"]]
    run.record(rows_of(REAL, rate=[0.5, 0.64, 0.9, 0.9], attack=list("abcd")))
    assert run.row()["verdict"] == "not reproduced"


@pytest.mark.parametrize(
    ("rates", "direction", "verdict"),
    [
        ((0.9, 0.6, 0.3), "decreasing", "reproduced"),
        ((0.9, 0.3, 0.34), "decreasing", "reproduced"),  # within the slack
        ((0.9, 0.3, 0.4), "decreasing", "not reproduced"),
        ((0.9, 0.88, 0.86), "decreasing", "not reproduced"),
        ((0.9, 0.9, 0.9), "decreasing", "not reproduced"),
        ((0.9, 0.3, 0.7), "decreasing", "contradicted"),
        ((0.3, 0.6, 0.9), "decreasing", "contradicted"),
        ((0.3, 0.6, 0.9), "increasing", "reproduced"),
    ],
)
def test_a_trend_must_be_clear_from_end_to_end(run, rates, direction, verdict):
    del run.test["within"]
    run.test["trend"] = {"over": "radius", "direction": direction, "slack": 0.05}
    # In another order than along the radius.
    order = [2, 0, 1]
    run.record(rows_of(REAL, rate=[rates[i] for i in order], radius=order))
    row = run.row()
    assert row["verdict"] == verdict
    assert row["measured"] == pytest.approx(rates[2] - rates[0])
    assert row["low"] < row["measured"] < row["high"]


def test_slack_is_no_contradiction_however_sure_it_is(run):
    del run.test["within"]
    run.test["trend"] = {"over": "radius", "direction": "decreasing", "slack": 0.05}
    run.record(rows_of(REAL, rate=[0.9, 0.85, 0.89], radius=[1, 2, 3], images=10000))
    assert run.row()["verdict"] == "not reproduced"
    run.test["trend"]["slack"] = 0.01
    assert run.row()["verdict"] == "contradicted"


@pytest.mark.parametrize(
    ("aggregate", "measured", "verdict"),
    [
        ("min", 0.6, "contradicted"),
        ("max", 0.9, "reproduced"),
        ("mean", 0.78, "not reproduced"),
    ],
)
def test_several_rows_are_aggregated(run, aggregate, measured, verdict):
    run.test["aggregate"] = aggregate
    run.record(rows_of(REAL, rate=[0.9, 0.6, 0.84]))
    row = run.row()
    assert (row["measured"], row["verdict"]) == (pytest.approx(measured), verdict)


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ((0.8, 0.84), "reproduced"),
        ((0.8, 0.9), "not reproduced"),
        ((0.6, 0.9), "contradicted"),
    ],
)
def test_a_spread_is_that_of_the_farthest_rows(run, rates, verdict):
    run.test.update(aggregate="spread", within=[0, 0.05])
    run.record(rows_of(REAL, rate=[rates[0], sum(rates) / 2, rates[1]]))
    row = run.row()
    assert (row["measured"], row["verdict"]) == (pytest.approx(rates[1] - rates[0]), verdict)


def test_one_row_has_no_spread_and_no_trend(run):
    """Else a sweep of one value would reproduce that nothing changes."""
    run.test.update(aggregate="spread", within=[0, 0.05])
    run.record(rows_of(REAL, rate=[0.9], radius=[1]))
    assert run.row()["verdict"] == verdicts.NOT_RUN
    for key in ("within", "aggregate"):
        del run.test[key]
    run.test["trend"] = {"over": "radius", "direction": "increasing"}
    assert run.row()["verdict"] == verdicts.NOT_RUN


def test_a_difference_of_two_rates_of_the_same_images(run):
    run.test.update(value="before", minus="after", range="difference", within=[0, 0.02])
    run.record(rows_of(REAL, before=[0.9], after=[0.8]))
    row = run.row()
    assert (row["measured"], row["verdict"]) == (pytest.approx(0.1), "not reproduced")
    assert (row["low"], row["high"]) == pytest.approx(statistics.difference(90, 100, 80, 100))
    run.record(rows_of(REAL, before=[0.9], after=[0.8], images=10000))
    assert run.row()["verdict"] == "contradicted"


def test_a_test_must_hold_for_each_value_of_a_column(run):
    run.claim["rows"] = "rate >= 0"
    run.test["per"] = "attack"
    run.record(rows_of(REAL, rate=[0.85, 0.85], attack=["a", "b"]))
    assert run.row()["verdict"] == "reproduced"
    run.record(rows_of(REAL, rate=[0.85, 0.1], attack=["a", "b"]))
    row = run.row()
    assert (row["verdict"], row["measured"]) == ("contradicted", 0.1)
    assert "rate, b: 0.1" in row["reading"].lower() and "rate, a: 0.85" in row["reading"]


def test_all_tests_must_hold_and_the_first_is_shown(run):
    run.claim["tests"].append(TEST | {"label": "other", "value": "other"})
    run.record(rows_of(REAL, rate=[0.85], other=[0.85]))
    assert run.row()["verdict"] == "reproduced"
    run.record(rows_of(REAL, rate=[0.85], other=[0.78]))
    assert run.row()["verdict"] == "not reproduced"
    run.record(rows_of(REAL, rate=[0.78], other=[0.1]))
    row = run.row()
    assert (row["verdict"], row["measured"]) == ("contradicted", 0.78)


def test_bounds_may_come_from_columns(run):
    run.test["within"] = ["published_accuracy - 0.05", "published_accuracy + 0.05"]
    run.experiments = [REAL | {"published_accuracy": 0.9}]
    run.record(rows_of(REAL, rate=[0.86]))
    assert run.row()["verdict"] == "reproduced"
    run.record(rows_of(REAL, rate=[0.7]))
    assert run.row()["verdict"] == "contradicted"
    run.experiments = [REAL | {"published_accuracy": None}]
    row = run.row()
    assert (row["verdict"], row["measured"]) == (verdicts.NOT_RUN, 0.7)
    run.experiments = [REAL | {"published_accuracy": 0.5}]
    run.test["within"] = ["published_accuracy - 0.5", "published_accuracy + 0.5"]
    with pytest.raises(UserError, match="can't fail"):
        run.evaluate()


# What decides ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.85, 0.1])
def test_a_stand_in_is_shown_and_decides_nothing(run, rate):
    run.experiments = [STAND_IN]
    run.record(rows_of(STAND_IN, rate=[rate]))
    row = run.row()
    assert (row["verdict"], row["measured"]) == (verdicts.NOT_RUN, rate)
    assert row["stand_in"] and row["low"] < rate < row["high"]
    assert "a stand-in for CIFAR-10, which decides nothing" in row["reading"]
    run.claim["scale"] = "embedded"
    assert run.row()["verdict"] == ("reproduced" if rate == 0.85 else "contradicted")


def test_data_of_no_document_do_not_decide_a_claim_of_one(run):
    run.experiments = [REAL | {"document": None}]
    run.record(rows_of(REAL, rate=[0.85]))
    row = run.row()
    assert row["verdict"] == verdicts.NOT_RUN and "not the document's data" in row["reading"]


def test_the_documents_own_data_outweigh_a_stand_in(run):
    run.experiments = [STAND_IN, REAL]
    run.record(rows_of(STAND_IN, rate=[0.1]), rows_of(REAL, rate=[0.85]))
    row = run.row()
    assert (row["verdict"], row["measured_on"]) == ("reproduced", "cifar10/resnet56")


def test_the_worst_of_several_experiments_counts(run):
    run.experiments = [REAL, OTHER]
    run.record(rows_of(REAL, rate=[0.85]), rows_of(OTHER, rate=[0.1]))
    row = run.row()
    assert (row["verdict"], row["measured_on"]) == ("contradicted", "cifar10/resnet20")
    assert "Also asked of cifar10/resnet56 (reproduced)" in row["reading"]
    run.claim["networks"] = ["cifar_resnet56"]
    row = run.row()
    assert (row["verdict"], row["measured_on"]) == ("reproduced", "cifar10/resnet56")
    run.experiments = [OTHER]
    run.record(rows_of(OTHER, rate=[0.1]))
    row = run.row()
    assert (row["verdict"], row["measured"]) == (verdicts.NOT_RUN, 0.1)
    assert "whose network is not among cifar_resnet56" in row["reading"]


def test_too_few_cases_decide_nothing(run):
    run.claim["images"] = 101
    run.record(rows_of(REAL, rate=[0.1]))
    row = run.row()
    assert row["verdict"] == verdicts.NOT_RUN
    assert "with 100 cases, where at least 101 decide" in row["reading"]
    run.claim["images"] = 100
    assert run.row()["verdict"] == "contradicted"


def test_nothing_counted_decides_nothing(run):
    run.record(rows_of(REAL, rate=[None], images=0).astype({"rate": float}))
    row = run.row()
    assert row["verdict"] == verdicts.NOT_RUN and "nothing was counted" in row["reading"]


def test_what_the_run_does_not_make_is_not_run(run):
    assert run.row()["verdict"] == verdicts.NOT_RUN
    assert run.row()["reading"] == "This run does not make tables/rates."
    run.record(rows_of(REAL, rate=[0.85]))
    run.claim["needs"] = ["pgd", "crossings"]
    assert run.row()["reading"] == "No experiment of this run has pgd, crossings."
    run.claim["needs"] = ["pgd"]
    run.claim["data"] = ["ImageNet"]
    row = run.row()
    assert row["verdict"] == verdicts.NOT_RUN and "ImageNet" in row["reading"]
    run.claim["data"] = ["CIFAR-10"]
    assert run.row()["verdict"] == "reproduced"


def test_failed_checks_mark_a_claim(run):
    run.record(rows_of(REAL, rate=[0.85], checks_failed=["noise, budget"]))
    row = run.row()
    assert (row["verdict"], row["checks_failed"]) == ("reproduced", "noise, budget")
    assert "put these numbers in doubt: noise, budget" in row["reading"]
    run.record(rows_of(REAL, rate=[0.85], checks_failed=[None]))
    assert run.row()["checks_failed"] == ""


def test_values_are_shown_beside_a_claim(run):
    run.claim["beside"] = [
        {"label": "ceiling", "value": "ceiling"},
        {"label": "fgsm", "value": "rate", "n": "images", "rows": "attack == 'fgsm'"},
        {"label": "elsewhere", "value": "x", "records": "tables/absent"},
    ]
    run.record(
        rows_of(REAL, rate=[0.85, 0.25], ceiling=[0.95, 0.5], attack=["pgd", "fgsm"]),
    )
    row = run.row()
    assert row["verdict"] == "reproduced" and row["decided_by"] == "tables/rates: 0"
    assert "Beside it, ceiling: 0.95; fgsm: 0.25 [0.175, 0.343]." in row["reading"]


def test_queries_know_the_experiment_and_epsilon_as_a_fraction(run):
    run.claim["rows"] = "radius == main_radius and epsilon_255 == 8"
    run.record(
        rows_of(REAL, rate=[0.1, 0.85, 0.1], radius=[3, 6, 6], epsilon=[8 / 255] * 2 + [0.1])
    )
    assert run.row()["decided_by"] == "tables/rates: 1"


# Errors ------------------------------------------------------------------------------------------


def test_missing_records_are_refused(run):
    run.tables["tables/rates"] = run.folder / "absent.parquet"
    with pytest.raises(UserError, match=r"absent\.parquet' does not exist"):
        run.evaluate()


def test_missing_rows_are_refused_unless_they_are_optional(run):
    run.record(rows_of(REAL, rate=[0.85], attack=["fgsm"]))
    with pytest.raises(UserError, match=r"select nothing of .* for cifar10/resnet56"):
        run.evaluate()
    run.claim["optional"] = "nobody asked for it"
    row = run.row()
    assert row["verdict"] == verdicts.NOT_RUN and "nobody asked for it" in row["reading"]


def test_a_missing_member_of_an_order_is_refused(run):
    del run.test["within"]
    run.test["order"] = {"by": "attack", "groups": [["pgd"], ["fgsm"]]}
    run.record(rows_of(REAL, rate=[0.85]))
    with pytest.raises(UserError, match="no attack 'fgsm'"):
        run.evaluate()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": "rte"}, r"names 'rte', which is no column .*did you mean 'rate'"),
        ({"value": "rate +"}, "can't be evaluated"),
        ({"value": "0.5"}, "names no column"),
        ({"n": "imges"}, r"names 'imges', which is no column"),
        ({"rows": "atack == 'pgd'"}, r"names 'atack', which is no column .*mean 'attack'"),
        ({"per": "atack"}, r"no column 'atack'; .*mean 'attack'"),
        ({"value": "rate * 2", "range": "positive"}, "must be a rate"),
        ({"minus": "rate * 2", "range": "difference"}, "must be a rate"),
    ],
)
def test_what_the_table_lacks_is_named(run, change, message):
    run.test.update(change)
    run.record(rows_of(REAL, rate=[0.85]))
    with pytest.raises(UserError, match=message):
        run.evaluate()


def test_several_rows_need_an_aggregate(run):
    run.record(rows_of(REAL, rate=[0.85, 0.86]))
    with pytest.raises(UserError, match="select 2 rows where one is needed"):
        run.evaluate()


def test_a_value_outside_its_range_is_refused(run):
    run.test.update(value="value", range="positive", exact=True)
    del run.test["n"]
    run.record(rows_of(REAL, value=[-1.0]))
    with pytest.raises(UserError, match="which no value of the kind 'positive' can be"):
        run.evaluate()


def test_rows_of_no_experiment_are_refused(run):
    run.record(rows_of(REAL, rate=[0.85]), rows_of(OTHER, rate=[0.85]))
    with pytest.raises(UserError, match="rows of cifar10/resnet20, which is no experiment"):
        run.evaluate()


GONE = object()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"within": [0, 1]}, r"can't fail: .* 0 to 1"),
        ({"within": [None, 1]}, "can't fail"),
        ({"within": [None, None]}, "can't fail"),
        ({"within": [-1, None]}, "can't fail"),
        ({"within": [-1, 1], "range": "difference"}, "can't fail"),
        ({"within": [0, None], "range": "positive"}, "can't fail"),
        ({"within": [0, 1], "aggregate": "spread"}, "can't fail"),
        ({"within": [0, 2], "range": "difference", "aggregate": "spread"}, "can't fail"),
        ({"within": [1.1, 2]}, "can't hold"),
        ({"within": [0.9, 0.8]}, "can't hold"),
        ({"within": GONE}, "needs one of 'within', 'order' and 'trend', got none"),
        ({"order": {"by": "attack", "groups": [["a"], ["b"]]}}, "got within and order"),
        ({"n": GONE}, "how sure its value is .* got none"),
        ({"exact": True}, "got n and exact"),
        ({"n": GONE, "low": "low"}, "how sure its value is"),
        ({"n": GONE, "exact": True, "minus": "rate"}, "needs the number of cases"),
        ({"n": GONE, "low": "low", "high": "high", "aggregate": "min"}, "compares several rows"),
        ({"within": ["rate", 1], "aggregate": "min"}, "needs 'aggregate: only'"),
        (
            {"within": GONE, "trend": {"over": "r", "direction": "increasing", "slack": 1}},
            "can't fail: its slack of 1",
        ),
        (
            {
                "within": GONE,
                "aggregate": "min",
                "trend": {"over": "r", "direction": "increasing"},
            },
            "takes no 'aggregate'",
        ),
        (
            {"within": GONE, "order": {"by": "attack", "groups": [["a"], ["a"]]}},
            "has a value in its groups twice",
        ),
        ({"contradicts": [0, 0.8]}, "must be a range apart from 'within', 0.8 to 0.9"),
        ({"contradicts": [0.1, 0]}, "must be a range apart"),
        ({"contradicts": [-2, -1]}, "can't contradict: no value of the kind 'rate'"),
        ({"contradicts": [0, 0.1], "within": ["rate", 1]}, "needs 'within' with numbers"),
        (
            {
                "contradicts": [0, 0.1],
                "within": GONE,
                "trend": {"over": "r", "direction": "increasing"},
            },
            "needs 'within' with numbers",
        ),
        ({"witin": [0, 0.5]}, r"Unknown key 'witin' .*mean 'within'"),
        ({"range": "rates"}, r"no choice 'rates'; .*mean 'rate'"),
    ],
)
def test_a_test_that_says_nothing_is_refused(run, change, message):
    run.test.update(change)
    for key in [key for key, value in change.items() if value is GONE]:
        del run.test[key]
    with pytest.raises(UserError, match=message):
        grammar.load(run.file(), SCHEMA)


def test_a_claims_file_is_one_study_with_unique_claims(run):
    run.claims.append(CLAIM)
    with pytest.raises(UserError, match="'study.C01' stands twice"):
        grammar.load(run.file(), SCHEMA)
    run.claims[1] = CLAIM | {"id": "other.C01"}
    with pytest.raises(UserError, match="not of the study"):
        grammar.load(run.file(), SCHEMA)
    run.claims = [{key: value for key, value in CLAIM.items() if key != "records"}]
    with pytest.raises(UserError, match="has no 'records'"):
        grammar.load(run.file(), SCHEMA)


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        ([{"when": {"C02": "reproduced"}, "say": "a"}, {"say": "b"}], "names the claim 'C02'"),
        ([{"say": "{C02.measured}"}, {"say": "b"}], "names the claim 'C02'"),
        ([{"when": {"C01": "reproduced"}, "say": "a"}], "must hold whatever was found"),
        ([{"say": "{C01.measured}"}], "must hold whatever was found"),
        ([{"when": {"C01": "true"}, "say": "a"}, {"say": "b"}], "no choice 'true'"),
    ],
)
def test_a_summary_knows_its_claims_and_always_has_a_sentence(run, summary, message):
    run.summary = summary
    with pytest.raises(UserError, match=message):
        grammar.load(run.file(), SCHEMA)


# The claims of this project ----------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_claims_can_be_tested(path):
    document = grammar.load(path, SCHEMA)
    known = {*kinds.ATTACKS, "crossings", "samplers", "robustness"}
    for claim in document["claims"]:
        assert claim["id"].split(".")[0] == path.stem
        assert set(claim["needs"]) <= known
        assert set(claim.get("data", [])) <= {"CIFAR-10", "ImageNet"}


def test_all_claims_of_the_document_are_there():
    ids = [claim["id"] for claim in claims_reported.read(OWN)["claims"]]
    assert ids == [f"bandlimiting.C{number:02d}" for number in range(1, 19)]


def document_run(folder):
    """Return the tables of a run that found what the document reports, and its experiments."""
    places = {
        "CIFAR-10": {"dataset": "cifar10_test", "model": "cifar10_resnet110"},
        "ImageNet": {"dataset": "imagenet_5000", "model": "imagenet_resnet152"},
    }
    main = {"CIFAR-10": 6.0, "ImageNet": 30.0}
    experiments = [
        {
            **place,
            "document": name,
            "stand_in": False,
            "architecture": {"CIFAR-10": "cifar_resnet110"}.get(name, "resnet152"),
            "main_radius": main[name],
            "main_directions": 15,
            "main_epsilon": 8 / 255,
            "published_accuracy": {"CIFAR-10": 0.9368}.get(name),
            "has": [*kinds.ATTACKS, "crossings", "samplers", "robustness"],
        }
        for name, place in places.items()
    ]
    table_1 = claims_reported.reported(OWN, "table_1")
    for key in ("dataset", "model"):
        table_1[f"own_{key}"] = [places[name][key] for name in table_1["dataset"]]
    table_1 = table_1.drop(columns="dataset").rename(columns=lambda name: name.removeprefix("own_"))
    table_1 = table_1.assign(epsilon=8 / 255, directions=15, ceiling=0.976)
    pgd = table_1.drop_duplicates("model").assign(attack="pgd", defense_rate=0.0)
    table_2 = claims_reported.reported(OWN, "table_2").assign(**places["ImageNet"])

    sweep = []
    for name, place in places.items():
        for attack in kinds.MINIMAL[:4]:
            for epsilon in (8, 16, 32):
                for step, share in enumerate((0.5, 0.75, 1, 2)):
                    falls = 0.002 * (epsilon - 8) if attack == "fgsm_minimal" else 0
                    sweep.append(
                        place
                        | {
                            "attack": attack,
                            "epsilon": epsilon / 255,
                            "radius": main[name] * share,
                            "directions": 15,
                            "images": 10000,
                            "adversarial": 9000,
                            "defense_rate": 0.93 - 0.01 * step - falls,
                            "clean_defended": 0.93 - 0.02 * step,
                        }
                    )
    time = claims_reported.reported(OWN, "table_2")[["directions", "time_ratio"]]
    time = time.assign(**places["ImageNet"], counted=6 * time["directions"] + 1, r_squared=0.999)
    crossed = {"share": 0.00584, "share_low": 0.005, "share_high": 0.007, "mean_l2": 0.35}
    crossing = pd.DataFrame([places["ImageNet"] | crossed]).assign(
        crossed_per_layer=5278.0, attack="pgd_minimal"
    )
    cifar = places["CIFAR-10"]
    tables = {
        "table_1": pd.concat([table_1, pgd]),
        "table_2": table_2,
        "defense_rates": pd.DataFrame(sweep),
        "table_2_time": time,
        "table_crossings": pd.concat(
            crossing.assign(kind=kind) for kind in ("adversarial", "gaussian")
        ),
        "region_counts": pd.DataFrame(
            {
                "hyperplanes": 1000,
                "dimension": 200,
                "central": [False, True],
                "log10_regions": [215.945, 215.546],
            }
        ),
        "lemma_2_6": pd.DataFrame({"relative_error": [0.001, 0.004]}),
        "equation_6": pd.DataFrame(
            {
                "dimension": [1, 1, 2],
                "t": [0.0, 1.0, 0.0],
                "log10_ratio_measured": [0.0, 0.001, 0.0],
                "log10_factor": [0.399, 0.399, 0.798],
                "measured": 1.0,
                "closed_form": 1.0,
            }
        ),
        "table_samplers": pd.DataFrame(
            [cifar | {"attack": "pgd_minimal", "sampler": "approximate", "better": 3, "worse": 9}]
        ),
    }
    robust = {
        "robust_accuracy": pd.DataFrame(
            [
                place
                | {"defense": defense, "attack": attack, "epsilon": epsilon / 255, "images": 1000}
                | {"mean": 0.88 if defense == "post_averaging" and epsilon == 8 else 0.0}
                for place in places.values()
                for defense in ("undefended", "post_averaging")
                for attack in ("eot_pgd", "strongest")
                for epsilon in (2, 8)
            ]
        ),
        "comparisons": pd.DataFrame(
            [cifar | {"attack": "pgd_minimal", "control": "flip", "difference": -0.03}]
        ).assign(only_control=9, only_reference=3),
        "scaling": pd.DataFrame(
            {"factor": [1.0, 2.0, 4.0], "restored": [0.9, 0.4, 0.1], "images": 500}
        ).assign(**cifar, attack="pgd_minimal", defense="post_averaging"),
    }
    for group, name, place in (
        (tables, "table_2", cifar),
        (tables, "table_2_time", cifar),
        (tables, "table_samplers", places["ImageNet"]),
        (robust, "comparisons", places["ImageNet"]),
        (robust, "scaling", places["ImageNet"]),
    ):
        group[name] = pd.concat([group[name], group[name].assign(**place)])
    paths = {}
    for study, group in (("bandlimiting", tables), ("robustness", robust)):
        for name, frame in group.items():
            paths[f"tables/{study}/{name}"] = folder / f"{study}_{name}.parquet"
            table = pa.Table.from_pandas(frame, preserve_index=False)
            store.write(paths[f"tables/{study}/{name}"], table)
    return paths, experiments


def test_what_the_document_reports_reproduces_its_claims(tmp_path):
    """Each claim finds its rows, and would hold if we had measured the document's numbers."""
    tables, experiments = document_run(tmp_path)
    frame = verdicts.evaluate(OWN, tables, experiments, schema=SCHEMA).set_index("id")
    assert frame["verdict"].to_dict() == dict.fromkeys(frame.index, "reproduced")
    # The number that stands beside a claim is the one that its first test measures.
    reported = frame["reported"].dropna()
    exact = reported.index.difference(["bandlimiting.C14", "bandlimiting.C18"])
    assert frame["measured"][exact].tolist() == pytest.approx(reported[exact].tolist(), abs=1e-4)
    assert (frame["decided_by"] != "").all()


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (0.8022, verdicts.REPRODUCED),
        (0.5, verdicts.NOT_REPRODUCED),
        (0.15, verdicts.NOT_REPRODUCED),
        (0.05, verdicts.CONTRADICTED),
        (0.0, verdicts.CONTRADICTED),
    ],
)
def test_robustness_is_contradicted_by_an_attack_that_leaves_less_than_a_tenth(
    tmp_path, mean, verdict
):
    tables, experiments = document_run(tmp_path)
    path = tables["tables/robustness/robust_accuracy"]
    frame = store.read(path).to_pandas()
    frame.loc[(frame["attack"] == "eot_pgd") & (frame["epsilon"] == 8 / 255), "mean"] = mean
    store.write(path, pa.Table.from_pandas(frame, preserve_index=False))
    rows = verdicts.evaluate(OWN, tables, experiments, schema=SCHEMA).set_index("id")
    row = rows.loc["bandlimiting.C18"]
    assert (row["verdict"], row["measured"]) == (verdict, mean)


def test_our_own_claims_find_their_rows(tmp_path):
    tables, experiments = document_run(tmp_path)
    path = HOME / "workflow/claims/robustness.yaml"
    frame = verdicts.evaluate(path, tables, experiments, schema=SCHEMA).set_index("id")
    assert frame["verdict"].to_dict() == dict.fromkeys(frame.index, "reproduced")


def test_a_table_that_no_run_makes_is_refused():
    with pytest.raises(
        UserError, match=r"C01 reads 'tables/bandlimiting/table_1', a table that no run"
    ):
        verdicts.evaluate(OWN, {}, [], schema=SCHEMA, makeable=["tables/robustness/robust_accurac"])


def test_a_key_of_a_claim_that_is_written_twice_is_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text("document: x\nclaims:\n  - id: a.C01\n    where: here\n    where: there\n")
    with pytest.raises(
        UserError, match=r"claims\.yaml' the key 'where' is written in line 4 and in line 5; each"
    ):
        claims_reported.read(path)
