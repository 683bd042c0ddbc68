from pathlib import Path

import pandas as pd
import pytest

from bandlimit import claims
from bandlimit.errors import UserError

OWN = Path(__file__).parents[2] / "workflow/claims/bandlimiting.yaml"

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


def test_a_table_is_read_as_it_stands(path):
    expected = pd.DataFrame({"attack": ["fgsm", "pgd"], "defense_rate": [0.5, 0.25]})
    pd.testing.assert_frame_equal(claims.reported(path, "table_1"), expected)
    assert claims.read(path)["document"] == "A document"


def test_an_unknown_table_is_named_with_the_nearest(path):
    with pytest.raises(UserError, match=r"no table 'table_2'; .*did you mean 'table_1'"):
        claims.reported(path, "table_2")


def test_the_document_has_the_tables_that_scripts_ask_for():
    table_1 = claims.reported(OWN, "table_1")
    assert sorted(table_1.groupby("dataset").size().to_dict().items()) == [
        ("CIFAR-10", 4),
        ("ImageNet", 4),
    ]
    assert not table_1.duplicated(["dataset", "attack"]).any()
    assert {"directions", "defense_rate", "adversarial", "time_ratio"} <= set(
        claims.reported(OWN, "table_2").columns
    )
    assert len(claims.reported(OWN, "region_count")) >= 1
    assert len(claims.reported(OWN, "crossings")) >= 1


def test_the_reported_rates_are_rates_and_nearly_hold_together():
    """The identities of section 4.2 within rounding, and 13 images in the rows of DeepFool."""
    table = claims.reported(OWN, "table_1")
    rates = [name for name in table.columns if name.endswith(("defended", "defense_rate"))]
    assert ((table[rates] >= 0) & (table[rates] < 1)).all(axis=None)
    counted = (table["clean_undefended"] - table["attacked_undefended"]) * table["images"]
    gap = (counted - table["adversarial"]).abs()
    deepfool = table["attack"] == "deepfool_l2"
    assert (gap[~deepfool] <= 1).all()
    assert (gap <= 13.5).all()
