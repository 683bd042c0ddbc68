from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy
from toy import RECIPE, train

from bandlimit.errors import UserError
from bandlimit.models.classifier import load
from bandlimit.training import trajectories
from bandlimit.training.perturbations import Perturbation

pytest_plugins = ["toy"]


ATTACKS = {
    "fgm": {"kind": "fgm_l2", "epsilon": 0.5, "clip": False},
    "l2": {"kind": "pgd_l2", "epsilon": 0.5, "steps": 3, "rel_stepsize": 0.5},
    "linf": {"kind": "pgd_linf", "epsilon": 0.1, "steps": 3, "rel_stepsize": 0.5},
}
RADII = (1.5, 3)


def measurements(**change) -> trajectories.Measurements:
    images, labels = toy.striped(20, seed=1)
    given = {
        "image_ids": [f"other-{row}" for row in range(20)],
        "images": torch.from_numpy(images),
        "labels": torch.from_numpy(labels),
        "perturbations": ATTACKS,
        "radii": RADII,
        "every": 3,
    }
    return trajectories.Measurements(**given | change)


@pytest.fixture(scope="module")
def measured(dataset, tmp_path_factory):
    """Bytes without and with measurements, by one thread and two, the table, and the file."""
    folder = tmp_path_factory.mktemp("measured")
    recipe = RECIPE | {"architecture": "strided_resnet8", "epochs": 2}
    out = folder / "toy.safetensors"
    train(dataset, out, **recipe)
    without = out.read_bytes()
    start = folder / "start.safetensors"
    recipe |= {"checkpoints": {"start": 0}, "out_checkpoints": {"start": start}}
    tables = []
    for threads in (1, 2):
        trained = train(dataset, out, **recipe, threads=threads, measurements=measurements())
        assert out.read_bytes() == without
        tables.append(trained)
    return tables, {0: start, 8: out}


def test_measuring_changes_neither_the_training_nor_with_the_threads(measured):
    one, two = measured[0]
    assert one.history.equals(two.history)
    assert one.trajectory.equals(two.trajectory)
    assert one.trajectory.schema == trajectories.SCHEMA


def test_measures_at_regular_steps_and_at_both_ends(measured):
    table = measured[0][0].trajectory.to_pandas()
    assert len(table) == 4 * len(ATTACKS) * len(RADII)
    assert list(dict.fromkeys(table["step"])) == [0, 3, 6, 8]
    assert (table["epoch"] == table["step"] / 4).all()
    accuracy = table.groupby("step")["train_accuracy"].first()
    assert np.isnan(accuracy[0])
    # 16 images a step; the history's accuracies are of 64 images each.
    history = measured[0][0].history.to_pandas()["accuracy"]
    right = [accuracy[step] * 16 * count for step, count in ((3, 3), (6, 3), (8, 2))]
    assert sum(right) == pytest.approx(64 * history.sum())


@pytest.mark.parametrize("step", [0, 8])
def test_measures_the_network_as_it_is_saved(measured, step):
    """Compared with a plain computation on the model file, at both ends."""
    tables, files = measured
    classifier = load(files[step]).double()
    images, labels = toy.striped(20, seed=1)
    x = (torch.from_numpy(images).double() / 255).requires_grad_()
    y = torch.from_numpy(labels)
    network = classifier.network.network

    def logits(pixels):
        return network((pixels - 0.5) / 0.25)

    entropy = F.cross_entropy(logits(x), y, reduction="none")
    (gradient,) = torch.autograd.grad(entropy.sum(), x)
    perturbations = {"fgm": gradient}
    low = x.detach()
    for _ in range(3):
        low = low.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(logits(low), y, reduction="sum"), low)
        low = low.detach() + 0.25 * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        change = low - x.detach()
        norms = change.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        low = (x.detach() + change * (0.5 / norms).clamp(max=1)).clamp(0, 1)
    perturbations["l2"] = low - x.detach()

    table = tables[0].trajectory.to_pandas()
    table = table[table["step"] == step]
    down = np.fft.fftfreq(8, 1 / 8)
    distance = np.hypot(down[:, None], down[None, :])
    for name, change in perturbations.items():
        power = np.abs(np.fft.fft2(change.numpy())) ** 2
        for radius in RADII:
            inside = distance <= radius
            ratios = power[:, 0, inside].sum(1) / power.sum((1, 2, 3))
            (row,) = table[(table["attack"] == name) & (table["radius"] == radius)].to_dict(
                "records"
            )
            assert row["ratio"] == pytest.approx(ratios.mean(), rel=1e-3)
            assert row["deviation"] == pytest.approx(ratios.std(ddof=1), rel=1e-2)
            assert row["uniform"] == inside.mean()
            assert (row["images"], row["zero"]) == (20, 0)
            assert row["loss"] == pytest.approx(entropy.mean().item(), rel=1e-4)
            right = (logits(x).argmax(1) == y).double().mean().item()
            assert row["accuracy"] == right
    # Signs are flat: by far more of their energy is beyond the smaller disk.
    linf = table[table["attack"] == "linf"].set_index("radius")["ratio"]
    assert 0 < linf[1.5] < linf[3] < 1


def test_images_without_a_gradient_are_left_out_and_counted(dataset, tmp_path):
    images, labels = toy.striped(20, seed=1)
    images[:5] = 0  # where the rectifier of the input passes nothing
    recipe = RECIPE | {"architecture": "two_layer", "mean": [0.0], "std": [1.0]}
    out = tmp_path / "toy.safetensors"
    some = measurements(images=torch.from_numpy(images))
    table = train(dataset, out, **recipe, measurements=some).trajectory.to_pandas()
    assert (table["zero"] == 0.25).all() and (table["images"] == 15).all()
    assert table["ratio"].between(0, 1).all()
    none = measurements(images=torch.zeros(20, 1, 8, 8, dtype=torch.uint8))
    table = train(dataset, out, **recipe, measurements=none).trajectory.to_pandas()
    assert (table["zero"] == 1).all() and (table["images"] == 0).all()
    assert table["ratio"].isna().all() and table["deviation"].isna().all()


def test_no_image_is_right_where_logits_are_not_finite():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4))
    observer = trajectories.Observer(
        network, measurements(), mean=[0.5], std=[0.25], seed=0, model_name="toy"
    )
    state = {name: torch.full_like(v, torch.nan) for name, v in network.state_dict().items()}
    rows = observer.measure(state, step=1, epoch=0.1, train=None)
    assert {row["accuracy"] for row in rows} == {0.0}
    assert {row["images"] for row in rows} == {0}


def test_steps_may_be_dense_at_the_beginning():
    assert trajectories.first_steps(10) == [0, 1, 2, 4, 8]
    assert trajectories.first_steps(8) == [0, 1, 2, 4]
    assert trajectories.first_steps(1) == [0]
    at = measurements(every=10, steps=trajectories.first_steps(10)).at(25)
    assert sorted(at) == [0, 1, 2, 4, 8, 10, 20, 25]
    assert sorted(measurements(every=None).at(25)) == [0, 25]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": ["a"]}, "as many ids and labels as images, at least 1; 1 ids, 20 labels"),
        ({"images": torch.zeros(20, 1, 8, 8)}, "must be uint8, N x C x H x W; they are float32"),
        ({"perturbations": {}}, "at least one perturbation and one radius; 0 and 2 were given"),
        ({"radii": [0]}, "'trajectory.radii' must be numbers above 0; 0 was given"),
        ({"every": 0}, "'trajectory.every' must be a whole number of at least 1; 0 was given"),
        ({"steps": [-1]}, "'trajectory.steps' must be whole numbers of at least 0; -1 was given"),
        ({"perturbations": {"a": {"kind": "fgsm", "epsilon": 1}}}, "of the kind 'fgsm'; allowed"),
        ({"perturbations": {"a": {"kind": "pgd_l2", "epsilon": 0}}}, "'pgd_l2.epsilon' must be"),
        (
            {"perturbations": {"a": {"kind": "fgm_l2", "epsilon": 1, "steps": 2}}},
            "takes one step of length epsilon; 2 of 1.0 epsilon",
        ),
    ],
)
def test_mistakes_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        measurements(**change)


def test_mistakes_that_the_training_shows_are_refused(dataset, tmp_path):
    out = tmp_path / "toy.safetensors"
    with pytest.raises(UserError, match="steps must be at most 4, the steps of the training; 5"):
        train(dataset, out, **RECIPE, measurements=measurements(steps=[5]))
    large = measurements(images=torch.zeros(20, 1, 9, 9, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"must be like those in .*, \(1, 8, 8\); they are \(1, 9"):
        train(dataset, out, **RECIPE, measurements=large)
    assert Perturbation(kind="fgm_l2", epsilon=1).clip
