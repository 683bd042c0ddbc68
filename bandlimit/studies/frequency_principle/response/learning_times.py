"""When each frequency is learnt: all works on one scale.

The works measure steps, epochs or times of flows, and frequencies of unlike targets. On one scale
are the ratios: a frequency over the lowest of its target, and when it is learnt over when that one
is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from bandlimit.files.tables import Column, Table
from bandlimit.studies.frequency_principle.settings import MILDEST

REST = 0.1
"""Share of a wave's error that is left when it counts as learnt by a flow."""

COLUMNS = ("case", "frequency", "threshold", "unit", "steps", "step", "learnt", "seeds")
RELATIVE = ("relative_frequency", "relative_time", "at_least")


def learning_times(tables: Mapping[str, pd.DataFrame], works: Mapping[str, str]) -> pd.DataFrame:
    """Return when each frequency of each work is learnt, a row for each case and frequency.

    Args:
        tables: of times by name. Columns: case; frequency, above 0; threshold, the relative error
            or amplitude by which a frequency counts as learnt; steps, all that there were, if it
            has an end; step, the mean of the first at which it is, over the networks that came
            there; unit of it, steps if not given; learnt, how many did; seeds, of how many.
        works: what each table is of, by its name.

    Returns:
        Columns: work; these; relative_frequency, over the lowest of the case; relative_time, the
        step over that of the lowest frequency, null where not more than half of the networks learnt
        it; at_least, that of all steps where they did not. Cases whose lowest frequency is not
        learnt are left out.
    """
    found = []
    for name, table in tables.items():
        for _, rows in table.groupby("case", sort=False):
            rows = rows.sort_values("frequency").reset_index(drop=True)
            step = rows["step"].to_numpy(float)
            if "unit" not in rows:
                # Nothing is measured before the first step.
                rows, step = rows.assign(unit="steps"), step.clip(min=1)
            # Of half of them the median is no step, where it is a median that stands for them.
            learnt = rows["learnt"].to_numpy(float) * 2 > rows["seeds"].to_numpy(float)
            if not learnt[0]:
                continue
            end = rows["steps"].to_numpy(float) if "steps" in rows else np.full(len(rows), np.nan)
            found.append(
                rows.assign(
                    work=works[name],
                    steps=end,
                    learnt=rows["learnt"].astype("int64"),
                    relative_frequency=rows["frequency"] / rows["frequency"][0],
                    relative_time=np.where(learnt, step / step[0], np.nan),
                    at_least=np.where(learnt, np.nan, end / step[0]),
                )
            )
    names = ["work", *COLUMNS, *RELATIVE]
    return pd.concat(found, ignore_index=True)[names] if found else pd.DataFrame(columns=names)


def chosen(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return tables of times of the tables that are read, by their names.

    Of labels of images the times of one threshold are taken, of the counter-example the times that
    its eigenvalues say.
    """
    found = dict(tables)
    if "projection" in found:
        labels = found["projection"]
        found["projection"] = labels[labels["threshold"] == MILDEST]
    if "counterexample" in found:
        found["counterexample"] = relaxations(found["counterexample"])
    return found


def relaxations(eigenvalues: pd.DataFrame) -> pd.DataFrame:
    """Return when each wave is learnt by the flow of the counter-example, as `learning_times` asks.

    Args:
        eigenvalues: width, frequency and by_formula, the rate at which the wave's error falls.

    Waves that take more than a million times as long as the first are left out.
    """
    rates = eigenvalues[eigenvalues["frequency"] > 0]
    first = rates.groupby("width")["by_formula"].transform("first")
    rates = rates[rates["by_formula"] > 1e-6 * first]
    return pd.DataFrame(
        {
            "case": [f"h = {width:g}" for width in rates["width"]],
            "frequency": rates["frequency"].astype(float),
            "threshold": REST,
            "unit": "time",
            "step": math.log(1 / REST) / rates["by_formula"],
            "learnt": 1,
            "seeds": 1,
        }
    )


def table(frame: pd.DataFrame) -> Table:
    """Return `learning_times` as its readers see it."""
    columns = {
        "work": Column("Work"),
        "case": Column("Case"),
        "frequency": Column("Frequency", 2),
        "step": Column("Learnt at", 2),
        "unit": Column("Unit"),
        "learnt": Column("Networks that learnt it"),
        "seeds": Column("Networks"),
        "relative_frequency": Column("Over the lowest", 2),
        "relative_time": Column("Time over its", 2),
        "at_least": Column("At least", 2),
    }
    return Table(
        frame,
        columns,
        "When each response frequency is learnt",
        "A frequency over the lowest of its target, and the time at which it is learnt over the "
        "time of that one: above 1, the low frequency was first. Where not more than half of the "
        "networks learnt it, the time is at least that of all steps.",
    )
