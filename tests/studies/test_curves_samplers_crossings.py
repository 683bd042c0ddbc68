from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

from bandlimit.attacks import records as attacks_records
from bandlimit.data import stream
from bandlimit.defenses import evaluation
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models.batches import MicroBatches
from bandlimit.models.classifier import Classifier
from bandlimit.statistics import wilson
from bandlimit.studies.bandlimiting import (
    crossing_counts,
    crossing_tables,
    crossings,
    curves,
    figures,
    samplers,
    tables,
    timing,
)

HOME = Path(__file__).parents[2]
SHAPE = (1, 4, 4)


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5), nn.ReLU()
    )
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return Classifier(
        MicroBatches(network.eval(), 2), mean=[0.4], std=[0.5], shape=SHAPE, classes=5
    )


def write_files(folder, *, epsilons=(None,), images=7, shard=None):
    """Write a dataset and the records of an attack that fails on image 3; return the paths."""
    rng = np.random.default_rng(1)
    clean = rng.integers(0, 256, (images, *SHAPE), dtype=np.uint8)
    ids = [f"image_{i}" for i in range(images)]
    dataset, adversarial = folder / "dataset.parquet", folder / "adversarial.parquet"
    store.write(
        dataset,
        pa.table(
            {
                "image_id": ids,
                "label": [0] * images,
                "split": ["test"] * images,
                "image": store.image_column(clean),
            }
        ),
    )
    rows, pictures = [], []
    for i in range(images)[shard or slice(None)]:
        for number, epsilon in enumerate(epsilons):
            start = clean[i].astype(np.float32) / 255
            step = np.random.default_rng([i, number]).normal(0, 0.1, SHAPE)
            moved = np.clip(start + step, 0, 1).astype(np.float32)
            difference = moved.astype(float) - start
            rows.append(
                {
                    "image_id": ids[i],
                    "epsilon": epsilon,
                    "label": 0,
                    "status": "failed" if i == 3 else "ok",
                    "success": i != 3,
                    "prediction_before": 0,
                    "prediction_after": 1,
                    "linf": float(np.abs(difference).max()),
                    "l2": float(np.sqrt((difference**2).sum())),
                    "steps": 1,
                }
            )
            pictures.append(moved)
    schema = attacks_records.schema(SHAPE)
    table = pa.Table.from_pylist(rows, schema=schema.remove(schema.get_field_index("image")))
    table = table.append_column(schema.field("image"), store.image_column(np.stack(pictures)))
    store.write(adversarial, table)
    return dataset, adversarial


def count(classifier, files, *, size=3, shard="1of1", segments=4, seed=0):
    tables = [
        crossing_counts.crossed(
            classifier,
            kind,
            rows,
            clean,
            segments=segments,
            seed=seed,
            dataset_name="d",
            model_name="m",
        )
        for rows, clean in crossing_counts.pairs(files[1], files[0], shard=shard, size=size)
        for kind in crossings.KINDS
    ]
    frame = pa.concat_tables([crossings.SCHEMA.empty_table(), *tables]).to_pandas()
    return frame.sort_values(["image_id", "epsilon", "kind", "layer"], ignore_index=True)


# Crossings ---------------------------------------------------------------------------------------


def test_crossings_of_each_success_and_its_controls(classifier, tmp_path):
    files = write_files(tmp_path)
    frame = count(classifier, files)
    assert len(frame) == 6 * 3 * 2  # images but the failed one, kinds, layers
    assert "image_3" not in set(frame["image_id"])
    assert list(frame.groupby("layer")["units"].first()) == [64, 5]
    assert (frame["path"] >= frame["endpoint"]).all() and frame["endpoint"].sum() > 0
    # Controls have the length of the adversarial perturbation, and its records that length.
    lengths = frame.groupby(["image_id", "kind"])["l2"].first().unstack()
    records = store.read(files[1], ["image_id", "l2"]).to_pandas().set_index("image_id")["l2"]
    assert np.allclose(lengths["adversarial"], records[lengths.index], rtol=1e-12)
    for kind in crossings.CONTROLS:
        assert np.allclose(lengths[kind], lengths["adversarial"], rtol=1e-5)


def test_crossings_agree_with_a_direct_count(classifier, tmp_path):
    files = write_files(tmp_path)
    frame = count(classifier, files)
    clean = stream.load(files[0])[2]
    moved = torch.from_numpy(store.images_of(store.read(files[1])).copy())
    conv = classifier.network.network[0]
    sides = [conv((x - classifier.mean) / classifier.std).flatten(1) > 0 for x in (clean, moved)]
    wanted = (sides[0] != sides[1]).sum(dim=1)[[0, 1, 2, 4, 5, 6]].tolist()
    first = frame[(frame["kind"] == "adversarial") & (frame["layer"] == 0)]
    assert first["endpoint"].tolist() == wanted


@pytest.mark.parametrize("size", [1, 2, 100])
def test_crossings_do_not_depend_on_the_batch(classifier, tmp_path, size):
    files = write_files(tmp_path, epsilons=(0.1, 0.2))
    pd.testing.assert_frame_equal(count(classifier, files), count(classifier, files, size=size))


def test_crossings_do_not_depend_on_the_shard(classifier, tmp_path):
    whole = count(classifier, write_files(tmp_path))
    files = write_files(tmp_path, shard=slice(1, None, 2))
    part = count(classifier, files, shard="2of2")
    assert set(part["image_id"]) == {"image_1", "image_5"}
    same = whole[whole["image_id"].isin(part["image_id"])]
    pd.testing.assert_frame_equal(part, same.reset_index(drop=True))


def test_random_controls_follow_the_seed(classifier, tmp_path):
    files = write_files(tmp_path)
    one, other = count(classifier, files), count(classifier, files, seed=1)
    controls = one["kind"] != "adversarial"
    assert one[~controls].equals(other[~controls])
    assert not one[controls].equals(other[controls])


def test_crossings_of_a_foreign_dataset_are_refused(classifier, tmp_path):
    dataset, _ = write_files(tmp_path, images=4)
    (tmp_path / "other").mkdir()
    _, adversarial = write_files(tmp_path / "other", images=7)
    with pytest.raises(UserError, match="image_4"):
        count(classifier, (dataset, adversarial))


def record(image, kind, layer, endpoint, *, epsilon=None, linf=0.01, path=None, kinks=10):
    return {
        "image_id": image,
        "epsilon": epsilon,
        "kind": kind,
        "layer": layer,
        "units": kinks,
        "kinks": kinks,
        "endpoint": endpoint,
        "path": endpoint if path is None else path,
        "linf": linf,
        "l2": 0.5,
    }


def test_crossings_within_epsilon():
    rows = [record("a", "gaussian", 0, 1), record("b", "gaussian", 0, 1, linf=0.05)]
    table = pa.Table.from_pylist(rows, schema=crossings.SCHEMA)
    assert crossings.within(table, 8 / 255)["image_id"].tolist() == ["a"]
    fixed = [record(i, "signs", 0, 1, epsilon=e) for i in "ab" for e in (0.1, 0.2)]
    table = pa.Table.from_pylist(fixed, schema=crossings.SCHEMA)
    chosen = crossings.within(table, 0.2)
    assert chosen["epsilon"].tolist() == [0.2, 0.2]
    with pytest.raises(UserError, match="no records for epsilon"):
        crossings.within(table, 0.3)
    assert crossings.within(crossings.SCHEMA.empty_table(), 0.1).empty


def test_summary_of_crossings():
    counts = {"adversarial": [(6, 2), (10, 6)], "gaussian": [(2, 2), (4, 0)]}
    rows = [
        record(f"i{image}", kind, layer, endpoint, path=endpoint + 1, kinks=[30, 10][layer])
        for kind, images in counts.items()
        for image, layers in enumerate(images)
        for layer, endpoint in enumerate(layers)
    ]
    frame = pd.DataFrame(rows).assign(dataset="d", model="m", attack="a")
    table = crossings.summary(frame, [["d", "m", "a"], ["d", "m", "a"], ["d", "m", "none"]])
    assert len(table) == 6
    table = table.set_index(["attack", "kind"])
    row = table.loc["a", "adversarial"]
    # Images cross (6 + 2) / 2 and (10 + 6) / 2 of 20 hyperplanes per layer.
    assert (row["images"], row["layers"], row["hyperplanes_per_layer"]) == (2, 2, 20)
    assert row["crossed_per_layer"] == 6 and row["path_per_layer"] == 7
    assert row["share"] == pytest.approx(0.3)
    half = 12.7062047 * 2  # t of one degree of freedom, times the standard error
    assert row["crossed_per_layer_low"] == pytest.approx(6 - half)
    assert row["share_high"] == pytest.approx(0.3 + half / 20)
    assert row["ratio_to_gaussian"] == 3
    assert table.loc["a", "gaussian"]["ratio_to_gaussian"] == 1
    assert (table.loc["none"]["images"] == 0).all()
    assert table.loc["none", "signs"].drop("images").drop(["dataset", "model"]).isna().all()
    layers = crossings.by_layer(frame)
    assert layers["share"].tolist() == pytest.approx([8 / 30, 3 / 30, 0.4, 0.1])
    assert layers["layer"].tolist() == [0, 0, 1, 1]


def test_crossings_of_nothing():
    frame = crossings.SCHEMA.empty_table().to_pandas().assign(dataset="", model="", attack="")
    assert (crossings.summary(frame, [["d", "m", "a"]])["images"] == 0).all()
    layers = crossings.by_layer(frame)
    assert layers.empty and "share" in layers


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (None, None)), ([3.0], (None, None)), ([2.0, 2.0], (2, 2))],
)
def test_interval_of_few_values(values, expected):
    assert crossings.interval(np.array(values)) == expected


# Epsilon ------------------------------------------------------------------------------------------

CLAIMS = HOME / "workflow/claims/bandlimiting.yaml"


def named(*epsilons):
    return [
        {"dataset": "d", "model": f"m{i}", "attack": "pgd_minimal", "epsilon": epsilon}
        for i, epsilon in enumerate(epsilons)
    ]


@pytest.mark.parametrize("epsilons", [(0.02, 0.02), (0.02, 0.06)])
def test_tables_show_epsilon_where_experiments_differ_in_it(tmp_path, epsilons):
    """The image at 0.05 counts for the experiment of 0.06 alone."""
    differ = len({*epsilons}) > 1
    experiments = [
        {**name, "radius": 6.0, "directions": 15, "document": None} for name in named(*epsilons)
    ]
    first = tables.table_1(rates_of(experiments), CLAIMS, experiments)
    assert ("epsilon" in first.columns) == differ
    assert ("each experiment" in first.title) == differ
    assert first.frame["epsilon"].tolist() == list(epsilons)

    crossed = [record(name, kind, 0, 1, linf=linf) for name, linf in NORMS for kind in KINDS]
    store.write(tmp_path / "crossed.parquet", pa.Table.from_pylist(crossed, crossings.SCHEMA))
    names = named(*epsilons)
    found = crossing_tables.counted([tmp_path / "crossed.parquet"] * 2, names)
    second = crossing_tables.table(found, names, CLAIMS, 4)
    assert ("epsilon" in second.columns) == ("epsilon" in second.frame) == differ
    images = dict(second.frame.groupby("model")["images"].first())
    assert images == {"m0": 1, "m1": 2 if differ else 1}
    if differ:
        assert dict(second.frame.groupby("model")["epsilon"].first()) == {"m0": 0.02, "m1": 0.06}

    sets = pa.table(
        {
            "image_id": [name for name, _ in NORMS],
            "epsilon": pa.nulls(2, pa.float64()),
            "success": [True, True],
            "linf": [linf for _, linf in NORMS],
        }
    )
    judged = pa.Table.from_pandas(defended(random=[1, 0]), preserve_index=False)
    store.write(tmp_path / "set.parquet", sets)
    store.write(tmp_path / "judged.parquet", judged)
    names = [{**name, "samplers": ["random"], "directions": 4} for name in names]
    third = samplers.table(names, [tmp_path / "set.parquet"] * 2, [tmp_path / "judged.parquet"] * 2)
    assert ("epsilon" in third.columns) == ("epsilon" in third.frame) == differ
    assert third.frame["adversarial"].tolist() == ([1, 2] if differ else [1, 1])
    assert ("each experiment" in third.title) == differ


NORMS = [("i0", 0.01), ("i1", 0.05)]
KINDS = ("adversarial", "gaussian", "signs")


def rates_of(experiments):
    numbers = dict.fromkeys(tables.TABLE_1, 0.5)
    return pd.DataFrame([{**numbers, **e} for e in experiments]).drop(
        columns=[name for name in tables.TABLE_1 if name.startswith("reported_")]
    )


# Samplers ----------------------------------------------------------------------------------------

BOTH = (["exact", "random"], 4)


def defended(**correct):
    rows = [
        {"image_id": f"i{i}", "sampler": name, "directions": 4, "correct": bool(value)}
        for name, values in correct.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def attacked(flags):
    return pd.DataFrame({"image_id": [f"i{i}" for i in range(len(flags))], "attacked": flags})


def test_samplers_are_compared_on_equal_images():
    # Of the eight images of A the other sampler alone restores one, the random one alone five.
    random = [1, 1, 1, 1, 1, 1, 0, 0, 0]
    other = [1, 0, 0, 0, 0, 0, 1, 0, 1]
    table = samplers.rates(
        attacked([True] * 8 + [False]),
        defended(approximate=other, random=random),
        ["approximate", "random"],
        4,
    )
    assert table["sampler"].tolist() == ["random", "approximate"]
    assert table["adversarial"].tolist() == [8, 8]
    assert table["defense_rate"].tolist() == [6 / 8, 2 / 8]
    assert (table.loc[1, "low"], table.loc[1, "high"]) == wilson(2, 8)
    assert (table.loc[1, "better"], table.loc[1, "worse"]) == (1, 5)
    # Exact: twice the chance of at most one head in six throws.
    assert table.loc[1, "p_value"] == pytest.approx(2 * 7 / 64)
    assert table.loc[0, ["better", "worse", "p_value"]].isna().all()


def test_samplers_that_agree_do_not_differ():
    table = samplers.rates(attacked([True, True]), defended(random=[1, 0], exact=[1, 0]), *BOTH)
    assert table.loc[1, "p_value"] == 1


def test_samplers_of_which_no_record_is_there_have_rows_without_rates(tmp_path):
    sets = {"image_id": ["i0"], "epsilon": pa.nulls(1, pa.float64()), "success": [False]}
    store.write(tmp_path / "set.parquet", pa.table({**sets, "linf": [0.0]}))
    empty = evaluation.SCHEMA.append(pa.field("sampler", pa.string())).empty_table()
    store.write(tmp_path / "judged.parquet", empty)
    names = [{**named(0.02, 0.02)[0], "samplers": ["exact", "random"], "directions": 4}]
    table = samplers.table(names, [tmp_path / "set.parquet"], [tmp_path / "judged.parquet"])
    assert table.frame["sampler"].tolist() == ["random", "exact"]
    assert table.frame["adversarial"].tolist() == [0, 0]
    assert table.frame["directions"].tolist() == [4, 4]
    assert table.frame[["defense_rate", "low", "high", "better", "p_value"]].isna().all(axis=None)


def test_crossings_of_no_image_have_rows_without_numbers_and_draw_an_empty_figure(tmp_path):
    store.write(tmp_path / "crossed.parquet", crossings.SCHEMA.empty_table())
    names = named(0.02, 0.02)[:1]
    found = crossing_tables.counted([tmp_path / "crossed.parquet"], names)
    frame = crossing_tables.table(found, names, CLAIMS, 4).frame
    assert frame["kind"].tolist() == list(crossings.KINDS)
    assert frame["images"].tolist() == [0, 0, 0]
    numbers = ["mean_l2", "crossed_per_layer", "share", "share_low", "share_high"]
    assert frame[numbers].isna().all(axis=None)
    assert set(frame[numbers].dtypes.astype(str)) == {"float64"}
    layers = crossings.by_layer(found)
    store.write(tmp_path / "layers.parquet", pa.Table.from_pandas(layers, preserve_index=False))
    read = store.read(tmp_path / "layers.parquet").to_pandas()
    figures.crossings(read)


def test_samplers_on_nothing_attacked():
    table = samplers.rates(attacked([False, False]), defended(random=[1, 0], exact=[1, 0]), *BOTH)
    assert table["adversarial"].tolist() == [0, 0]
    assert table["defense_rate"].isna().all() and table["low"].isna().all()


def test_samplers_need_all_records():
    with pytest.raises(ValueError, match="missing"):
        samplers.rates(attacked([True, True, True]), defended(random=[1, 0]), ["random"], 4)


# Figures 2 and 3 ---------------------------------------------------------------------------------


def rates():
    rows = [
        {
            "dataset": dataset,
            "model": "m",
            "attack": attack,
            "epsilon": epsilon,
            "radius": radius,
            "directions": directions,
            "images": 50,
            "adversarial": 20,
            "clean_defended": 0.9 if radius == 6 else 0.8,
            "defense_rate": 0.5,
            "low": 0.4,
            "high": 0.6,
        }
        for dataset in ("d", "other")
        for attack in ("fgsm_minimal", "pgd_minimal", "deepfool_linf", "pgd")
        for epsilon in (2 / 255, 8 / 255)
        for radius in (3.0, 6.0)
        for directions in (6, 15)
    ]
    return pd.DataFrame(rows)


EXPERIMENT = {"dataset": "d", "model": "m", "radius": 6.0, "directions": 15, "epsilon": 8 / 255}


def test_curves_by_radius():
    frame = curves.by_radius(rates(), [EXPERIMENT])
    assert set(frame["dataset"]) == {"d"} and set(frame["directions"]) == {15}
    assert set(frame["attack"]) == {"fgsm_minimal", "pgd_minimal", "clean"}
    assert set(frame["epsilon"]) == {8 / 255}
    assert not frame.duplicated(["attack", "radius"]).any() and len(frame) == 6
    clean = frame[frame["attack"] == "clean"].set_index("radius")
    assert clean["defense_rate"].to_dict() == {3: 0.8, 6: 0.9}
    assert (clean.loc[6, "low"], clean.loc[6, "high"]) == wilson(45, 50)
    assert set(clean["adversarial"]) == {50}


def test_curves_by_epsilon():
    frame = curves.by_epsilon(rates(), [EXPERIMENT], [2 / 255, 4 / 255])
    minimal = frame[frame["attack"] != "pgd"]
    assert set(minimal["attack"]) == {"fgsm_minimal", "pgd_minimal", "deepfool_linf"}
    assert set(minimal["epsilon"]) == {2 / 255} and set(frame["radius"]) == {6}
    # An attack at fixed epsilon is drawn where it ran.
    assert set(frame[frame["attack"] == "pgd"]["epsilon"]) == {2 / 255, 8 / 255}
    assert len(frame) == 5


# Time --------------------------------------------------------------------------------------------


def test_time_counts_what_passes_the_network(classifier):
    images = torch.rand(3, *SHAPE)
    frame = timing.time_ratios(
        classifier, images, radius=1.0, directions=[1, 2, 4], seed=0, seconds=0.1
    )
    assert frame["forwards"].tolist() == [7, 13, 25]
    assert frame["counted"].tolist() == [7, 13, 25]
    assert (frame["low"] <= frame["time_ratio"]).all()
    assert (frame["time_ratio"] <= frame["high"]).all()
    assert frame["r_squared"].between(0, 1).all()


def test_time_has_no_line_through_two_points(classifier):
    frame = timing.time_ratios(
        classifier, torch.rand(1, *SHAPE), radius=1.0, directions=[1, 2], seed=0, seconds=0.05
    )
    assert frame["r_squared"].isna().all()


# Captions ----------------------------------------------------------------------------------------
