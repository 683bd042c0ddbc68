"""Smoothed kernels under attack, and Table 2."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from bandlimit.defenses.smoothing import SmoothedKernels
from bandlimit.files import store
from bandlimit.models import architectures, classifier, weights
from bandlimit.studies.high_frequency import kernel_rates, smoothing, smoothing_rates

SHAPE = (1, 12, 12)
ATTACKS = smoothing.Attacks([0.05, 0.2], steps=3, rel_stepsize=0.4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = architectures.build("lenet", classes=10, channels=1, sides=SHAPE[1:])
    state = {name: 3 * tensor for name, tensor in network.state_dict().items()}
    weights.save(path, state, architecture="lenet", mean=[0], std=[1], shape=SHAPE, classes=10)
    return classifier.load(path), path


def images(count):
    x = torch.rand((count, *SHAPE), generator=torch.Generator().manual_seed(1))
    return [f"image {i}" for i in range(count)], x


def evaluated(model, batches, **changes):
    settings = {"seed": 0, "dataset": "d", "model_name": "m", **changes}
    found = smoothing.evaluate(
        model,
        lambda rho, normalize: SmoothedKernels(model, rho=rho, normalize=normalize),
        batches,
        [1.0],
        ATTACKS,
        **settings,
    )
    return pa.concat_tables(found).to_pandas()


@pytest.fixture(scope="module")
def labelled(model):
    """Images with the labels that the network gives them."""
    ids, x = images(8)
    return ids, model[0](x).argmax(1), x


def test_each_image_meets_each_attack_behind_each_smoothing(model, labelled):
    found = evaluated(model[0], [labelled])
    # Clean, and two bounds of three attacks, for no smoothing, raw and normalised.
    assert len(found) == 8 * 7 * 3
    assert set(map(tuple, found[["rho", "normalized"]].drop_duplicates().to_numpy())) == {
        (0.0, False),
        (1.0, False),
        (1.0, True),
    }
    clean = found[(found["attack"] == "clean") & (found["rho"] == 0)]
    assert clean["correct"].all()
    weak, strong = (
        found[(found["attack"] == "pgd") & (found["epsilon"] == bound)]["correct"].mean()
        for bound in ATTACKS.epsilons
    )
    assert strong < weak <= 1


def test_an_image_that_is_wrong_stays_wrong_though_an_attack_mends_it():
    class Kinked(torch.nn.Module):
        """Against its gradient, the logit of class 0 rises after a short fall."""

        shape, classes = SHAPE, 2

        def forward(self, x):
            moved = x.mean(dim=(1, 2, 3)) - 0.5
            logit = moved + 100 * moved**2
            return torch.stack([logit, torch.full_like(logit, 0.1)], dim=1)

    network, grey = Kinked().eval(), torch.full((1, *SHAPE), 0.5)
    network.register_parameter("place", torch.nn.Parameter(torch.zeros(1), requires_grad=False))
    found = pa.concat_tables(
        smoothing.evaluate(
            network,
            lambda rho, normalize: network,
            [(["grey"], torch.tensor([0]), grey)],
            [1.0],
            ATTACKS,
            seed=0,
            dataset="d",
            model_name="m",
        )
    ).to_pandas()
    assert (found[found["attack"] == "fgsm"]["prediction"] == 0).any()
    assert not found["correct"].any()


def test_an_image_has_the_same_rows_in_every_batch(model, labelled):
    ids, labels, x = labelled
    keys = ["image_id", "rho", "normalized", "attack", "loss", "epsilon"]
    whole = evaluated(model[0], [labelled])
    cut = [(ids[i : i + 3], labels[i : i + 3], x[i : i + 3]) for i in range(0, 8, 3)]
    parts = evaluated(model[0], cut)
    merged = whole.merge(parts, on=keys, suffixes=("", "_other"))
    assert len(merged) == len(whole)
    assert (merged["prediction"] == merged["prediction_other"]).all()
    assert (merged["correct"] == merged["correct_other"]).all()


def test_a_saturated_cross_entropy_has_no_gradient_and_hides_nothing_from_the_margin(
    model, labelled
):
    class Sure(torch.nn.Module):
        """Logits so far apart that the cross-entropy is 0 in float32."""

        def __init__(self):
            super().__init__()
            self.inner = model[0]
            self.shape, self.classes = model[0].shape, model[0].classes

        def forward(self, x):
            return 1e6 * self.inner(x)

    sure = Sure().eval()
    found = pa.concat_tables(
        smoothing.evaluate(
            sure,
            lambda rho, normalize: sure,
            [labelled],
            [1.0],
            ATTACKS,
            seed=0,
            dataset="d",
            model_name="m",
        )
    ).to_pandas()
    assert found["zero"].all()
    strong = found[(found["epsilon"] == 0.2) & (found["attack"] == "pgd")]
    right = strong.groupby("loss")["correct"].mean()
    assert right["margin"] < right["cross_entropy"]


# Table 2


IDS = [f"image {i}" for i in range(20)]


def record(path, shares):
    """Write what share is right, by rho, normalisation, attack, loss and bound."""
    rows = [
        {
            "image_id": image_id,
            "label": 0,
            "rho": rho,
            "normalized": normalized,
            "attack": attack,
            "loss": loss,
            "epsilon": bound,
            "prediction": 0,
            "correct": place < share * len(IDS),
            "zero": rho > 0 and not normalized,
        }
        for (rho, normalized, attack, loss, bound), share in shares.items()
        for place, image_id in enumerate(IDS)
    ]
    store.write(path, pa.Table.from_pylist(rows, schema=smoothing.SCHEMA))
    return str(path)


@pytest.fixture
def table(tmp_path):
    def shares(clean, attacked, raw, normalised):
        return {
            (0.0, False, "clean", None, None): clean,
            (1.0, False, "clean", None, None): clean - 0.1,
            (1.0, True, "clean", None, None): clean - 0.05,
            (0.0, False, "pgd", "cross_entropy", 0.09): attacked,
            (1.0, False, "pgd", "cross_entropy", 0.09): raw,
            (1.0, True, "pgd", "cross_entropy", 0.09): normalised,
        }

    files = [
        record(tmp_path / "n.parquet", shares(0.9, 0.1, 0.3, 0.2)),
        record(tmp_path / "r.parquet", shares(0.8, 0.6, 0.6, 0.6)),
    ]
    claims = tmp_path / "claims.yaml"
    claims.write_text(
        "reported: {table_2: ["
        "{training: natural, rho: 1, attack: pgd, epsilon: 0.09, accuracy: 0.078}, "
        "{training: natural, rho: 0, attack: clean, accuracy: 0.856}]}\n",
        encoding="utf-8",
    )
    told = {
        **{"dataset": "d", "model": "n", "document": None, "stand_in": True, "shards": 1},
        "robust": "r",
        "networks": [{"name": "n", "seeds": 1}, {"name": "r", "seeds": 1}],
    }
    return smoothing_rates.smoothed(files, [told], claims)


def row(table, **wanted):
    found = table
    for key, value in wanted.items():
        found = found[found[key] == value]
    (one,) = found.to_dict("records")
    return one


def test_a_row_stands_beside_no_smoothing_raw_smoothing_and_the_robust_network(table):
    raw = row(table, training="natural", rho=1.0, normalized=False, attack="pgd")
    assert raw["accuracy"] == 0.3 and raw["gain"] == pytest.approx(0.2)
    assert raw["less_robust"] == pytest.approx(-0.3) and math.isnan(raw["less_raw"])
    normalised = row(table, training="natural", rho=1.0, normalized=True, attack="pgd")
    assert normalised["gain"] == pytest.approx(0.1)
    assert normalised["less_raw"] == pytest.approx(-0.1)
    assert (raw["zero"], normalised["zero"]) == (1, 0)
    # Half of the .2 that raw kernels gain is left once they are divided by their scale.
    assert raw["scale_share"] == pytest.approx(0.5) and math.isnan(normalised["scale_share"])
    robust = row(table, training="adversarial", rho=0.0, attack="clean")
    assert robust["accuracy"] == 0.8 and robust["gain"] == 0


def test_what_the_document_reports_stands_beside_raw_kernels_alone(table):
    reported = table.set_index(["training", "rho", "normalized", "attack"])["reported"]
    assert reported["natural", 1.0, False, "pgd"] == 0.078
    assert reported["natural", 0.0, False, "clean"] == 0.856
    assert reported.notna().sum() == 2


def test_networks_are_the_cases_of_the_smoothness_of_kernels(model, tmp_path):
    told = {
        **{"dataset": "d", "model": "n", "document": None, "stand_in": True},
        "robust": "r",
        "networks": [{"name": "n", "seeds": 2}, {"name": "r", "seeds": 2}],
    }
    frame = kernel_rates.smoothness([str(model[1])] * 4, [told])
    natural, robust, less = frame.to_dict("records")
    # Independent weights: about twice the pairs over the weights.
    assert 1 < natural["roughness"] == robust["roughness"] < 4
    assert less["training"] == "adversarial less natural"
    assert (less["roughness"], less["roughness_error"], less["seeds"]) == (0, 0, 2)
    assert natural["kernels"] == np.prod(kernel_rates.kernels([str(model[1])])[0].shape[:2])
