"""Hyperplanes crossed by adversarial and random perturbations: what records say of them.

Each adversarial image is compared with its clean image, and so are random perturbations of equal
L2 norm, without which a number of crossings says nothing ("Bandlimiting", section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bandlimit import statistics
from bandlimit.attacks import selection

CONTROLS = ("gaussian", "signs")
KINDS = ("adversarial", *CONTROLS)
"""Perturbations: of the attack, and random ones of its L2 norm (`regions.random_control`)."""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("epsilon", pa.float64()),
        ("kind", pa.string()),
        ("layer", pa.int64()),
        ("units", pa.int64()),
        ("kinks", pa.int64()),
        ("endpoint", pa.int64()),
        ("path", pa.int64()),
        ("linf", pa.float64()),
        ("l2", pa.float64()),
    ]
)
"""A row per image (and epsilon of a fixed attack), kind and ReLU layer.

kinks is the number of hyperplanes (two for a ReLU6 unit); endpoint and path count those crossed, as
`regions.count_crossings` does; linf is that of the adversarial image for all kinds, so that it
selects images; l2 is that of the perturbation itself. Both are in pixels of [0, 1].
"""

GROUP = ["dataset", "model", "attack"]


def within(records: pa.Table, epsilon: float) -> pd.DataFrame:
    """Return the records of one attack whose adversarial image lies within epsilon (l_inf).

    Raises:
        UserError: epsilon is out of range, or a fixed attack was not run with it.
    """
    if not len(records):
        return records.to_pandas()
    found = pa.array([True] * len(records))
    chosen = selection.select(records.append_column("success", found), epsilon)
    return chosen.filter(pc.field("attacked")).select(SCHEMA.names).to_pandas()


def summary(records: pd.DataFrame, names: Sequence[Sequence[str]]) -> pd.DataFrame:
    """Return what each attack and its controls cross: means over layers, then over images.

    Args:
        records: crossing records with the columns dataset, model and attack.
        names: [dataset, model, attack] of each row group of the result, in order.

    Columns: dataset, model, attack, kind, images, mean_l2, layers, hyperplanes_per_layer,
    crossed_per_layer, path_per_layer, share (crossed_per_layer / hyperplanes_per_layer), each of
    the last three with its 95% interval over images ({name}_low, {name}_high), ratio_to_gaussian
    (of crossed_per_layer). Without an image all but images is null.
    """
    rows = []
    for name in dict.fromkeys(map(tuple, names)):
        of_attack = records[(records[GROUP] == list(name)).all(axis=1)]
        for kind in KINDS:
            rows.append(
                dict(zip(GROUP, name, strict=True))
                | {"kind": kind}
                | _mean_image(of_attack[of_attack["kind"] == kind])
            )
    frame = pd.DataFrame(rows)
    # Where no row is known, a column would have no type.
    numbers = frame.columns.drop([*GROUP, "kind", "images"])
    frame = frame.astype(dict.fromkeys(numbers, "float64"))
    control = frame.loc[frame["kind"] == "gaussian", [*GROUP, "crossed_per_layer"]]
    beside = frame[GROUP].merge(control, on=GROUP, how="left", validate="many_to_one")
    frame["ratio_to_gaussian"] = frame["crossed_per_layer"] / beside["crossed_per_layer"]
    return frame


def _mean_image(records: pd.DataFrame) -> dict[str, Any]:
    images = records.groupby("image_id").agg(
        {"l2": "first", "layer": "size", "kinks": "mean", "endpoint": "mean", "path": "mean"}
    )
    row: dict[str, Any] = {
        "images": len(images),
        "mean_l2": images["l2"].mean(),
        "layers": images["layer"].mean(),
        "hyperplanes_per_layer": images["kinks"].mean(),
    }
    share = images["endpoint"] / images["kinks"]
    measured = {"crossed_per_layer": images["endpoint"], "path_per_layer": images["path"]}
    for name, values in {**measured, "share": share}.items():
        low, high = interval(values.to_numpy(float))
        row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
    return row


def by_layer(records: pd.DataFrame) -> pd.DataFrame:
    """Return the share of hyperplanes crossed in each layer, with 95% intervals over images.

    Columns: dataset, model, attack, layer, kind, share, low, high. Arguments as of `summary`.
    """
    rows = []
    for name, of_layer in records.groupby([*GROUP, "layer", "kind"], sort=True):
        share = (of_layer["endpoint"] / of_layer["kinks"]).to_numpy(float)
        low, high = interval(share)
        rows.append((*name, float(share.mean()), low, high))
    columns = [*GROUP, "layer", "kind", "share", "low", "high"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.astype({"share": float, "low": float, "high": float})


def interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """Return the 95% interval of the mean by Student's t, (None, None) for less than two values."""
    if len(values) < 2:
        return None, None
    _, _, low, high = statistics.student(values)
    return low, high
