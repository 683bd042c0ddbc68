"""From curves to the tables of the study."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.studies.high_frequency import rates

N = 40


def network(name, seeds=3, **changes):
    return {
        "name": name,
        "architecture": "a",
        "batchnorm": False,
        "shuffled": False,
        "seeds": seeds,
        "part": None,
        "radius": None,
        "epochs": 2,
        "batch_size": 10,
        "optimizer": "adam",
        "dropout": 0,
        "mixup": None,
        "adversarial": False,
        **changes,
    }


def curve(path, shares, *, seeds=3, chosen="x", steps=(0, 5, 10)):
    """Write curves in which a set has so large a share right at each step, the first images."""
    rows = []
    for seed in range(1, seeds + 1):
        for place, step in enumerate(steps):
            for (images, part, radius), share in shares.items():
                value = share[place] if isinstance(share, tuple) else share
                correct = np.arange(N) < round(value * N)
                rows.append(
                    {
                        "seed": seed,
                        "step": step,
                        "epoch": step / 5,
                        "images": images,
                        "part": part,
                        "radius": radius,
                        "count": N,
                        "accuracy": float(correct.mean()),
                        "loss": 1.0,
                        "chosen": chosen,
                        "correct": correct.tolist(),
                    }
                )
    store.write(path, pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False))
    return str(path)


def sets(train=0.5, test=0.5, low=0.4, high=0.2, **more):
    found = {("train", "full", None): train, ("test", "full", None): test}
    for radius in (4.0, 7.0):
        found[("test", "low", radius)] = low
        found[("test", "high", radius)] = high
        found[("train", "low", radius)] = more.get("train_low", low)
    return found


GROUPS = (
    *("components", "batchnorm", "heuristics", "architectures", "optimizers"),
    *("equal_epochs", "equal_updates", "labels"),
)


def tables(tmp_path, networks, **groups):
    """Return the tables of networks, each with its curves; the first is the experiment's own."""
    told = {
        "dataset": "d",
        "model": networks[0][0]["name"],
        "document": None,
        "stand_in": True,
        "classes": 10,
        "radii": [4.0, 7.0],
        "networks": [told for told, _ in networks],
        **dict.fromkeys(GROUPS, []),
        **groups,
    }
    files = [curve(tmp_path / f"{told['name']}.parquet", shares) for told, shares in networks]
    histories = [
        history(tmp_path / f"{name}_history.parquet", shares["train", "full", None])
        for name in told["labels"]
        for own, shares in networks
        if own["name"] == name
    ]
    claims = tmp_path / "claims.yaml"
    claims.write_text(
        "reported: {table_1: [{part: low, radius: 4, train: 0.9, test: 0.6}]}\n", encoding="utf-8"
    )
    return rates.frames(files, histories, {"experiments": [told], "trained": 0.9}, claims)


def history(path, shares, seeds=3):
    """Write the accuracy on training images in each epoch, after the start."""
    rows = [
        {"seed": seed, "epoch": epoch, "accuracy": share}
        for seed in range(1, seeds + 1)
        for epoch, share in enumerate(shares)
        if epoch
    ]
    store.write(path, pa.Table.from_pylist(rows))
    return str(path)


def test_curves_have_a_row_for_each_set_and_step(tmp_path):
    found = tables(tmp_path, [(network("n"), sets(test=(0.1, 0.5, 0.75)))])["curves"]
    rows = found[(found["images"] == "test") & (found["part"] == "full")]
    assert rows["accuracy"].tolist() == pytest.approx([0.1, 0.5, 0.75])
    assert rows["epoch"].tolist() == [0, 1, 2]
    assert (rows["accuracy_low"] < rows["accuracy"]).all() and (rows["count"] == N).all()
    assert len(found) == 3 * 8


def test_networks_that_learnt_from_parts_are_asked_for_whole_images(tmp_path):
    low = network("low", part="low", radius=4.0)
    high = network("high", part="high", radius=4.0)
    found = tables(
        tmp_path,
        [(network("n"), sets()), (low, sets(test=0.6, train_low=0.9)), (high, sets(test=0.1))],
        components=["low", "high"],
    )
    rows = found["table_1"].set_index("network")
    assert rows.loc["low", ["train", "test", "test_part"]].tolist() == pytest.approx(
        [0.9, 0.6, 0.4]
    )
    assert rows.loc["low", ["reported_train", "reported_test"]].tolist() == [0.9, 0.6]
    # Its training accuracy on high frequencies was not measured.
    assert math.isnan(rows.loc["high", "train"]) and math.isnan(rows.loc["high", "reported_test"])
    row = found["comparisons"].query("comparison == 'low less high'").iloc[0]
    assert row["difference"] == pytest.approx(0.5) and row["radius"] == 4
    assert row["difference_low"] < 0.5 < row["difference_high"]


def test_a_greater_radius_is_compared_with_the_next_smaller_one(tmp_path):
    parts = [(network(f"l{r}", part="low", radius=float(r)), sets(test=r / 10)) for r in (4, 7)]
    found = tables(tmp_path, [(network("n"), sets()), *parts], components=["l4", "l7"])
    row = found["comparisons"].query("comparison == 'wider'").iloc[0]
    assert (row["network"], row["with_network"], row["radius"]) == ("l7", "l4", 7)
    assert row["difference"] == pytest.approx(0.3)


def test_labels_are_learnt_in_so_many_epochs(tmp_path):
    true, shuffled = network("t"), network("s", shuffled=True)
    found = tables(
        tmp_path,
        [
            (network("n"), sets()),
            (true, sets(train=(0.1, 0.95, 1.0), train_low=(0.1, 0.4, 0.8))),
            (shuffled, sets(train=(0.1, 0.2, 0.5), train_low=(0.1, 0.1, 0.3))),
        ],
        labels=["t", "s"],
    )
    rows = found["labels"].set_index("labels")
    assert rows["epochs_until"].to_dict() == {"true": 1, "shuffled": 2}
    assert rows["reached"].to_dict() == {"true": 1, "shuffled": 0}
    told = rows.loc["true", ["first_low", "last_low", "chance"]].tolist()
    assert told == pytest.approx([0.4, 0.8, 0.1])
    compared = found["comparisons"].set_index("comparison")
    slower = compared.loc["shuffled less true"]
    assert slower["difference"] == slower["relative"] == 1
    # Equal seeds leave the error of epochs, which are whole: two, uniform, over three networks.
    assert slower["difference_error"] == pytest.approx(np.sqrt(2 / 12 / 3))
    assert compared.loc["true less shuffled", "difference"] == pytest.approx(0.5)


def test_what_was_never_trained_has_no_time(tmp_path):
    never = sets(train=(0.1, 0.2, 0.3))
    found = tables(
        tmp_path,
        [(network("n"), sets()), (network("t"), never), (network("s", shuffled=True), never)],
        labels=["t", "s"],
    )
    row = found["comparisons"].query("comparison == 'shuffled less true'").iloc[0]
    assert math.isnan(row["difference"]) and math.isnan(row["relative_low"])


def test_heuristics_are_compared_with_the_network_of_the_experiment(tmp_path):
    norm, mixed = network("b", batchnorm=True), network("m", mixup=0.5)
    found = tables(
        tmp_path,
        [(network("n"), sets()), (norm, sets(high=0.4)), (mixed, sets(test=0.6))],
        heuristics=["b", "m"],
    )["comparisons"]
    row = found.query("apart == 'BatchNorm' and measure == 'test high' and radius == 4").iloc[0]
    assert row["difference"] == pytest.approx(0.2)
    row = found.query("apart == 'mix-up 0.5' and measure == 'test full'").iloc[0]
    assert row["difference"] == pytest.approx(0.1) and row["mixup"] == 0.5


def test_the_gap_of_batch_sizes_takes_errors_of_both_sets(tmp_path):
    great = network("great", batch_size=100)
    found = tables(
        tmp_path,
        [(network("n"), sets(train=0.9, test=0.5)), (great, sets(train=0.6, test=0.5, high=0.1))],
        equal_epochs=["n", "great"],
    )
    rows = found["comparisons"].set_index("measure")
    assert set(rows["comparison"]) == {"batch size, equal epochs"}
    assert rows.loc["gap", "difference"] == pytest.approx(-0.3)
    assert rows.loc["gap", "first"] == pytest.approx(0.1)
    # All networks agree, so that only images vary, of both sets.
    errors = rows.loc[["test full", "train full"], "difference_error"]
    assert rows.loc["gap", "difference_error"] == pytest.approx(np.hypot(*errors))
    high = found["comparisons"].query("measure == 'test high'").set_index("radius")
    assert high["least_radius"].to_dict() == {4.0: True, 7.0: False}
    assert high["second_radius"].to_dict() == {4.0: False, 7.0: True}
    sizes = found["batch_sizes"].query("radius == 4").set_index("batch_size")
    assert sizes["gap"].round(6).to_dict() == {10: 0.4, 100: 0.1}
    assert (sizes["gap_low"] < sizes["gap"]).all()
    assert sizes["updates"].tolist() == [10, 10]


def test_batchnorm_gains_by_radius_beside_the_least(tmp_path):
    def low(name, radius, batchnorm, along):
        told = network(name, part="low", radius=radius, batchnorm=batchnorm)
        return told, sets(train_low=along)

    found = tables(
        tmp_path,
        [
            (network("n"), sets(train=(0.1, 0.4, 0.6))),
            low("p4", 4.0, False, (0.1, 0.4, 0.4)),
            low("b4", 4.0, True, (0.1, 0.5, 0.6)),
            low("p7", 7.0, False, (0.1, 0.2, 0.2)),
            low("b7", 7.0, True, (0.1, 0.6, 0.6)),
            (network("b", batchnorm=True), sets(train=(0.1, 0.8, 0.9))),
        ],
        components=["p4", "p7"],
        batchnorm=["b", "b4", "b7"],
    )
    rows = found["comparisons"]
    gains = rows.query("comparison == 'BatchNorm' and measure == 'along'").set_index("network")
    # Halves of the start and of the end count, as between measurements on a straight line.
    assert gains["difference"].round(6).to_dict() == {"b": 0.275, "b4": 0.1, "b7": 0.3}
    more = rows.query("comparison == 'BatchNorm elsewhere'").set_index("network")["difference"]
    assert more.round(6).to_dict() == {"b": 0.175, "b7": 0.2}
    assert found["batchnorm"].groupby("batchnorm").size().to_dict() == {False: 3, True: 3}


def test_curves_of_other_images_are_not_compared(tmp_path):
    told = {"networks": [network("a"), network("b")], "model": "a", "radii": [4.0], "labels": []}
    files = [
        curve(tmp_path / "a.parquet", sets(), chosen="x"),
        curve(tmp_path / "b.parquet", sets(), chosen="y"),
    ]
    with pytest.raises(UserError, match="curves of 'b' are of other test images than .*'a'"):
        rates.Curves(told, files)


def test_what_sets_networks_apart_is_said():
    plain = network("n")
    assert rates.apart(network("m", dropout=0.5), plain) == "dropout 0.5"
    assert rates.apart(network("m", architecture="lenet"), plain) == "lenet"
    assert rates.apart(network("m", part="low", radius=4.0, batchnorm=True), plain) == (
        "BatchNorm, low 4"
    )
    assert rates.apart(plain, plain) == ""
