"""From records of perturbed images to the tables of the study."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch import nn

from bandlimit.attacks import perturbations
from bandlimit.errors import UserError
from bandlimit.files import store
from bandlimit.models.classifier import Classifier
from bandlimit.spectral import shells
from bandlimit.studies.perturbation_spectra import filtering, measuring, rates

SIDE = 8
IDS = [f"image {i}" for i in range(6)]


def wave(frequency: int, strength: float) -> torch.Tensor:
    """Return perturbations that are waves along one axis, a strength each."""
    columns = torch.arange(SIDE, dtype=torch.float64)
    one = torch.cos(2 * math.pi * frequency * columns / SIDE).expand(SIDE, SIDE)
    return torch.stack([strength * (1 + i) * one for i in range(len(IDS))])[:, None]


def write(folder, model, parts):
    """Write perturbed images and their spectra, by perturbation, as a job does."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((len(IDS), 1, SIDE, SIDE), generator=generator, dtype=torch.float64)
    images, spectra = [], []
    for name, d in parts.items():
        spectra.append(measuring.spectra(name, IDS, x, d))
        table = pa.Table.from_pydict(
            {
                "perturbation": [name] * len(IDS),
                "image_id": IDS,
                "epsilon": [1.0] * len(IDS),
                "label": [0] * len(IDS),
                "status": ["ok"] * len(IDS),
                "prediction_before": [0, 0, 0, 0, 0, 1],
                "prediction_after": [0, 1, 1, 1, 1, 1],
                "linf": [0.1] * len(IDS),
                "l2": [0.1] * len(IDS),
            }
        )
        changed = (x + d).float().numpy()
        images.append(table.append_column("image", store.image_column(changed)))
    paths = [str(folder / f"{model}_{kind}.parquet") for kind in ("images", "spectra")]
    store.write(paths[0], pa.concat_tables(images).cast(perturbations.schema((1, SIDE, SIDE))))
    store.write(paths[1], pa.concat_tables(spectra))
    return paths


def network(name, training="natural", loss="cross_entropy", checkpoints=("end",)):
    return {
        "name": name,
        "batchnorm": True,
        "training": training,
        "loss": loss,
        "architecture": "a",
        "checkpoints": list(checkpoints),
        "recipe": {"epochs": 2, "learning_rate": 0.1},
    }


def shared_out(path, count):
    """Write the rows of a file as those of so many shards, which take the images in turns."""
    table = store.read(path)
    places = np.array([IDS.index(name) for name in table["image_id"].to_pylist()])
    paths = []
    for shard in range(count):
        paths.append(f"{path}.{shard + 1}of{count}.parquet")
        store.write(paths[-1], table.filter(pa.array(places % count == shard)))
    return paths


def tables(tmp_path, shards=1):
    """Return the tables of two networks.

    The first is at its start high and at its end low, the second low.
    """
    low, high = {"p": wave(1, 0.01)}, {"p": wave(4, 0.01)}
    files = [
        write(tmp_path, "start", high),
        write(tmp_path, "end", low),
        write(tmp_path, "robust", {"p": wave(1, 0.01) + wave(4, 0.01)}),
    ]
    told = {
        "experiments": [
            {
                "dataset": "d",
                "model": "n",
                "document": None,
                "stand_in": True,
                "sides": [SIDE, SIDE],
                "radii": [1.0, 2.0],
                "radius": 2.0,
                "cutoffs": [],
                "filtered": [],
                "shards": shards,
                "networks": [
                    network("n", checkpoints=("initial", "end")),
                    network("r", training="adversarial"),
                ],
            }
        ],
        "clipped": {"p": False},
        "attack": "p",
        "followed": [],
    }
    paths = {
        "perturbations": [path for images, _ in files for path in shared_out(images, shards)],
        "spectra": [path for _, spectra in files for path in shared_out(spectra, shards)],
        "trajectories": [],
        "filtered": [],
    }
    return rates.frames(paths, told)


@pytest.fixture
def found(tmp_path):
    return tables(tmp_path)


@pytest.mark.parametrize("shards", [2, 3, 6])
def test_tables_have_the_same_bits_for_any_shards(found, tmp_path, shards):
    for name, frame in tables(tmp_path, shards).items():
        pd.testing.assert_frame_equal(frame, found[name], check_exact=True)


def test_lifts_belong_to_the_checkpoints_of_their_files(found):
    lifts = found["lifts"].query("main").set_index(["model", "checkpoint"])
    uniform = shells.uniform_share(shells.shells((SIDE, SIDE)), 2.0)
    assert lifts.loc[("n", "initial"), "ratio"] == pytest.approx(0, abs=1e-9)
    assert lifts.loc[("n", "end"), "ratio"] == pytest.approx(1)
    assert lifts.loc[("n", "end"), "lift"] == pytest.approx(1 / uniform)
    # A wave of the highest frequency has twice the energy of one below it.
    assert lifts.loc[("r", "end"), "ratio"] == pytest.approx(1 / 3)
    assert (lifts["uniform"] == uniform).all() and (lifts["images"] == len(IDS)).all()


def test_lifts_say_what_the_network_and_the_perturbation_do(found):
    row = found["lifts"].query("main and model == 'n' and checkpoint == 'end'").iloc[0]
    assert row["clean_accuracy"] == pytest.approx(5 / 6)
    assert row["attacked_accuracy"] == pytest.approx(1 / 6)
    assert row["below_clean"] == 0 and row["zero"] == 0 and not row["clipped"]
    other = found["lifts"].query("main and checkpoint == 'initial'").iloc[0]
    assert other["below_clean"] == 1
    # Without their mean the images are noise, of which less lies at low frequencies.
    assert row["clean_ratio_without_mean"] < row["clean_ratio"]
    assert row["ratio_without_mean"] == pytest.approx(row["ratio"])
    assert row["below_clean_without_mean"] == 0 and other["below_clean_without_mean"] == 1


def test_each_cell_says_where_it_lies(found):
    cells = found["contradiction"].set_index(["model", "checkpoint"])["magnitude"]
    assert cells.to_dict() == {("n", "initial"): "high", ("n", "end"): "low", ("r", "end"): "low"}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.51, 3, "low"),
        (1.49, 3, "undecided"),
        (0.7, 1.4, "uniform"),
        (0.6, 1.4, "undecided"),
        (0.1, 0.66, "high"),
        (0.1, 0.67, "undecided"),
        (0.5, 2.0, "undecided"),
    ],
)
def test_the_interval_decides(low, high, expected):
    assert rates.verdict(low, high) == expected


def test_comparisons_are_of_the_same_images(found):
    rows = found["comparisons"].set_index("comparison")
    assert rows.loc["training", "difference"] == pytest.approx(1)
    assert rows.loc["training", "with_checkpoint"] == "initial"
    robust = rows.loc["adversarial training"]
    assert (robust["model"], robust["with_model"]) == ("r", "n")
    assert robust["difference"] == pytest.approx(1 / 3 - 1)
    assert robust["low"] < robust["difference"] < robust["high"]
    assert (rows["images"] == len(IDS)).all()


def pairs(*networks):
    return {(kind, a[0], b[0]) for kind, a, b in rates._pairs(networks)}


def test_networks_are_compared_that_differ_in_one_thing():
    natural, robust = network("n"), network("r", training="adversarial")
    mse = network("m", loss="mse")
    mse["recipe"] = {**mse["recipe"], "learning_rate": 0.01}
    assert pairs(natural, robust, mse) == {
        ("adversarial training", "r", "n"),
        ("squared error", "m", "n"),
    }
    for change in ({"epochs": 3}, {"augmentation": {"flip": True}}):
        for own in (robust, mse):
            other = {**own, "recipe": {**own["recipe"], **change}}
            assert pairs(natural, other) == set()
    # The learning rate belongs to a loss, not to an attack.
    faster = {**robust, "recipe": {**robust["recipe"], "learning_rate": 0.2}}
    assert pairs(natural, faster) == set()
    # With the first of several.
    twin = {**natural, "name": "twin"}
    assert pairs(natural, twin, robust) == {("adversarial training", "r", "n")}
    # Of published networks no recipe is known here.
    assert pairs(*({**own, "recipe": {}} for own in (natural, robust))) == set()
    assert pairs(natural, {**robust, "batchnorm": False}) == set()


def test_a_filter_is_compared_with_adversarial_training_whatever_its_recipe():
    natural, robust = network("n"), network("r", training="adversarial")
    other = {**robust, "name": "o", "recipe": {"epochs": 9}}
    assert rates._natural("r", [natural, robust, other]) == ["n"]
    assert rates._natural("o", [natural, robust, other]) == ["n"]
    assert rates._natural("n", [natural, robust, other]) == []


def test_a_trajectory_is_of_the_images_that_it_was_measured_on(tmp_path):
    path = str(tmp_path / "trajectory.parquet")
    row = {"step": 0, "loss": 2.0, "ratio": 0.5, "deviation": 0.1, "images": 4}
    store.write(path, pa.Table.from_pylist([row]))
    told = {
        "experiments": [{"dataset": "d", "networks": [network("n")]}],
        "followed": [{"name": "n", "dataset": "elsewhere"}],
    }
    (found,) = rates.trajectories([path], told).to_dict("records")
    assert (found["dataset"], found["model"], found["error"]) == ("elsewhere", "n", 0.05)


def test_profiles_are_of_the_waves(found):
    rows = found["profiles"].query("model == 'n' and checkpoint == 'end'").set_index("distance")
    assert rows["profile"].idxmax() == 1
    assert rows.loc[3, "profile"] == pytest.approx(0, abs=1e-9)


def test_images_without_a_perturbation_are_left_out_and_counted(tmp_path):
    of, e = shells.shells((SIDE, SIDE)), {"radii": [2.0], "radius": 2.0}

    def lift(d):
        images, spectra = write(tmp_path, "m", {"p": d})
        group = store.read(images).to_pandas()
        (row,) = rates._lifts({}, e, False, group, store.read(spectra), of)
        return row

    some = wave(1, 0.01)
    some[2] = 0
    row = lift(some)
    assert row["ratio"] == pytest.approx(1) and row["images"] == len(IDS) - 1
    assert row["zero"] == pytest.approx(1 / len(IDS)) and row["low"] <= row["ratio"] <= row["high"]
    none = lift(0 * some)
    assert none["images"] == 0 and none["zero"] == 1
    assert all(math.isnan(none[key]) for key in ("ratio", "deviation", "error", "low", "lift_high"))


def write_dataset(folder, count, channels=1):
    """Write images of 8 bits; return the file, and the images."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, channels, SIDE, SIDE)).astype(np.uint8)
    ids = [f"image {i}" for i in range(count)]
    columns = {"image_id": ids, "label": [0] * count, "split": ["test"] * count}
    table = pa.table({**columns, "image": store.image_column(pixels)})
    store.write(folder / "dataset.parquet", table)
    return folder / "dataset.parquet", torch.from_numpy(pixels).float() / 255


def write_shards(folder, x, ways, shards, size):
    """Write perturbed images as jobs do: so many images in all ways, and then the next."""
    paths = []
    for shard in range(shards):
        rows = torch.arange(shard, len(x), shards)
        tables = [
            pa.table(
                {
                    "perturbation": [name] * len(part),
                    "image_id": [f"image {i}" for i in part.tolist()],
                    "image": store.image_column((x[part] + d[part]).numpy()),
                }
            )
            for part in rows.split(size)
            for name, d in ways.items()
        ]
        paths.append(folder / f"{shard + 1}of{shards}.parquet")
        store.write(paths[-1], pa.concat_tables(tables))
    return paths


def test_mean_maps_are_those_of_the_images(tmp_path):
    dataset, x = write_dataset(tmp_path, len(IDS))
    ways = {"p": wave(1, 0.01).float(), "q": wave(4, 0.01).float()}
    paths = write_shards(tmp_path, x, ways, 1, len(IDS))
    table = measuring.maps_table(measuring.averaged(dataset, paths)).to_pandas()
    table = table.set_index("perturbation")
    assert list(table.index) == ["p", "q"] and (table["images"] == len(IDS)).all()
    change = wave(1, 0.01).numpy()
    expected = np.fft.fftshift(np.abs(np.fft.fft2(change)), axes=(2, 3)).mean((0, 1))
    assert np.allclose(table.loc["p", "magnitudes"], expected.ravel(), atol=1e-4)


@pytest.mark.parametrize("ways", ["p", "pqr"])
def test_mean_maps_have_the_same_bytes_for_any_shards(tmp_path, monkeypatch, ways):
    monkeypatch.setattr(measuring, "BATCH", 8)
    # What would hold a dataset as a whole.
    monkeypatch.setattr(store, "read", None)
    dataset, x = write_dataset(tmp_path, 50, channels=3)
    generator = torch.Generator().manual_seed(1)
    made = {name: torch.randn(x.shape, generator=generator) / 50 for name in ways}
    made["p"][7] = 0

    def written(shards):
        paths = write_shards(tmp_path, x, made, shards, 5)
        store.write(
            tmp_path / "maps.parquet", measuring.maps_table(measuring.averaged(dataset, paths))
        )
        return (tmp_path / "maps.parquet").read_bytes()

    one = written(1)
    assert written(2) == one and written(3) == one


@pytest.mark.parametrize("other", ["image 7", "image 0"])
def test_a_perturbed_image_must_be_one_of_its_dataset(tmp_path, monkeypatch, other):
    monkeypatch.setattr(measuring, "BATCH", 2)
    dataset, x = write_dataset(tmp_path, 6)
    (path,) = write_shards(tmp_path, x, {"p": torch.zeros_like(x)}, 1, 6)
    ids = ["image 0", "image 1", "image 2", "image 3", "image 4", other]
    store.write(path, store.read(path).set_column(1, "image_id", pa.array(ids)))
    with pytest.raises(UserError, match=f"a record of image '{other}', which its dataset does not"):
        measuring.averaged(dataset, [path])


# The filter --------------------------------------------------------------------------------------


class Brightness(nn.Module):
    """Says 1 where the left half is the brighter one, by a margin of the mean."""

    def forward(self, x):
        half = SIDE // 2
        left, right = x[:, 0, :, :half].mean((1, 2)), x[:, 0, :, half:].mean((1, 2))
        return torch.stack([right, left], dim=1) * 10


def test_the_filter_is_asked_clean_unaware_and_aware():
    model = Classifier(Brightness(), mean=[0.0], std=[1.0], shape=(1, SIDE, SIDE), classes=2)
    model.eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((len(IDS), 1, SIDE, SIDE), generator=generator)
    labels = model(x).argmax(dim=1)
    # Left and right change places.
    attacked = list(zip(IDS, x.flip(3), strict=True))
    settings = {"epsilon": 0.5, "steps": 5, "rel_stepsize": 0.3, "seed": 0, "loss": "cross_entropy"}
    settings |= {"dataset": "d", "model_name": "m", "cutoffs": [0.0, 20.0]}
    found = pa.concat_tables(
        filtering.evaluate(model, [(IDS, labels, x)], attacked, **settings)
    ).to_pandas()
    shares = found.groupby(["inputs", found["cutoff"].fillna(-1)])["correct"].mean()
    assert shares["clean", -1] == shares["clean", 20] == 1
    assert shares["unaware", -1] == shares["unaware", 20] == 0
    assert shares["aware", 20] == 0
    # The mean alone says nothing of left and right.
    said = found.query("inputs == 'clean' and cutoff == 0")["prediction"]
    assert said.nunique() == 1
    with pytest.raises(ValueError, match="are others"):
        list(filtering.evaluate(model, [(IDS, labels, x)], attacked[1:], **settings))


def test_the_table_of_the_filter_names_its_best_cutoff(tmp_path):
    rows = []
    right = {1.0: (2, 2), 2.0: (4, 3), 3.0: (6, 1)}
    for cutoff, (clean, unaware) in {None: (6, 0), **right}.items():
        for inputs, count in (("clean", clean), ("unaware", unaware), ("aware", 0)):
            if cutoff is None and inputs == "aware":
                continue
            rows += [
                {
                    "image_id": image_id,
                    "label": 0,
                    "inputs": inputs,
                    "cutoff": cutoff,
                    "prediction": int(i >= count),
                    "correct": i < count,
                }
                for i, image_id in enumerate(IDS)
            ]
    path = str(tmp_path / "filtered.parquet")
    store.write(path, pa.Table.from_pylist(rows, schema=filtering.SCHEMA))
    experiment = {"dataset": "d", "filtered": ["n"], "cutoffs": [1.0, 2.0, 3.0], "shards": 1}
    told = {"experiments": [{**experiment, "document": None, "stand_in": True}]}
    answers = pd.Series([True, True, True, True, True, False], index=IDS)
    frame = rates.low_pass([path], told, {("d", "n"): {"clean": answers, "attacked": answers}})
    assert frame.set_index("cutoff")["best"].to_dict() == {1.0: False, 2.0: True, 3.0: False}
    best = frame[frame["best"]].iloc[0]
    assert (best["clean"], best["unaware"], best["aware"]) == pytest.approx((4 / 6, 0.5, 0))
    assert best["unfiltered_clean"] == 1 and best["unfiltered_attacked"] == 0
    assert best["unaware_last"] == pytest.approx(1 / 6)
    assert best["unaware_last_differ"] == pytest.approx(2 / 6)
    assert best["clean_differ"] == pytest.approx(2 / 6)
    assert best["adversarial_attacked"] == pytest.approx(5 / 6)
    assert best["adversarial_attacked_differ"] == pytest.approx(2 / 6)
    without = rates.low_pass([path], told, {})
    assert without["adversarial_clean"].isna().all()
