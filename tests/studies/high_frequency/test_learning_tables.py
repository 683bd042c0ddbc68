"""Columns of the tables of the study."""

from __future__ import annotations

import pytest

from bandlimit.studies.high_frequency.tables import TABLES


@pytest.mark.parametrize("name", TABLES)
def test_no_value_has_the_name_of_a_bound_of_another(name):
    columns, _, _ = TABLES[name]
    bounds = [bound for column in columns.values() for bound in column.interval or ()]
    assert not set(bounds) & set(columns)
