"""Figures of the study, from small tables and files."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from bandlimit.files import store
from bandlimit.models.kernels import roughness, smoothed
from bandlimit.plots import files
from bandlimit.provenance import job as jobs
from bandlimit.spectral.components import component
from bandlimit.studies.high_frequency import (
    component_rates,
    components_records,
    figures,
    kernel_pictures,
    pictures,
)
from bandlimit.studies.high_frequency.artifacts import ARTIFACTS

SCRIPTS = Path(__file__).parents[3] / "scripts/high_frequency"
RADII = (4.0, 8.0, 12.0, 16.0)
SIDE = 8


def words(figure):
    """Return all text of a figure but its legend."""
    found = [figure.get_suptitle()]
    for axes in figure.axes:
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
    return "\n".join(found)


def entries(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def levels(axes):
    """Return the heights of horizontal lines across axes."""
    lines = [line for line in axes.lines if len(line.get_xdata()) == 2]
    return {line.get_ydata()[0] for line in lines if len(set(line.get_ydata())) == 1}


def line_of(axes, label):
    """Return the places and heights of the one line of a label that has points."""
    (found,) = (
        line for line in axes.lines if line.get_label() == label and len(line.get_xdata()) > 0
    )
    return list(found.get_xdata()), list(found.get_ydata())


# What the catalogue tells


def network(name, **facts):
    own = {"name": name, "architecture": "small_cnn", "batchnorm": False, "shuffled": False}
    own |= {"seeds": 3, "part": None, "radius": None, "epochs": 30, "batch_size": 100}
    own |= {"optimizer": "sgd", "dropout": 0, "mixup": None, "adversarial": False}
    return own | facts


NETWORKS = [
    network("net"),
    network("net_shuffled", shuffled=True, epochs=90),
    network("net_dropout", dropout=0.5),
    network("net_mixup", mixup=0.5),
    network("net_batchnorm", batchnorm=True),
    network("net_robust", adversarial=True),
    network("lenet", architecture="lenet"),
    network("alexnet", architecture="alexnet"),
    network("vgg", architecture="small_vgg"),
    network("resnet", architecture="cifar_resnet20", batchnorm=True),
    *(network(name, optimizer=name) for name in ("adam", "adagrad", "adadelta", "rmsprop")),
    *(
        network(f"{part}_{radius:g}", part=part, radius=radius)
        for part in ("low", "high")
        for radius in RADII
    ),
    *(network(f"bn_{r:g}", part="low", radius=r, batchnorm=True) for r in RADII),
]
BY_NAME = {own["name"]: own for own in NETWORKS}


def told(dataset="fashion_mnist", **groups):
    own = {"dataset": dataset, "model": "net", "document": "CIFAR-10", "stand_in": True}
    own |= {"classes": 10, "radii": list(RADII), "shards": 2, "networks": NETWORKS}
    own |= {"labels": ["net", "net_shuffled"], "robust": "net_robust"}
    own |= {"heuristics": ["net_dropout", "net_mixup", "net_batchnorm", "net_robust"]}
    own |= {"architectures": ["lenet", "alexnet", "vgg", "resnet"]}
    own |= {"optimizers": ["adam", "adagrad", "adadelta", "rmsprop"]}
    return own | groups


# Tables


def with_interval(name, value, reach=0.02):
    return {name: value, f"{name}_low": value - reach, f"{name}_high": value + reach}


def curves(datasets=("fashion_mnist",), names=None, epochs=range(31)):
    """Return curves of networks that learn low frequencies before high ones."""
    rows = []
    for dataset in datasets:
        for place, (name, own) in enumerate(BY_NAME.items()):
            if names is not None and name not in names:
                continue
            part = own["part"] or "full"
            wanted = {("train", part, own["radius"]), ("test", "full", None)}
            wanted |= {("test", side, radius) for side in ("low", "high") for radius in RADII}
            if name in ("net", "net_shuffled"):
                wanted |= {("train", "low", radius) for radius in RADII}
            for images, part, radius in wanted:
                for epoch in reversed([step * own["epochs"] / 30 for step in epochs]):
                    pace = 1 - np.exp(-epoch / (25 if own["shuffled"] else 5 + place % 5))
                    top = {"full": 1, "low": (radius or 0) / 18, "high": 2 / (radius or 1)}[part]
                    top *= 0.98 if images == "train" else 0.8
                    row = {"dataset": dataset, "network": name, "seeds": own["seeds"]}
                    row |= {"epoch": epoch, "images": images, "part": part, "radius": radius}
                    row |= {"count": 500 if images == "train" else 1000}
                    rows.append(row | with_interval("accuracy", 0.1 + 0.9 * top * pace))
    return pd.DataFrame(rows).astype({"radius": float})


def table_1(datasets=("fashion_mnist",)):
    rows = []
    for dataset in datasets:
        own = {"dataset": dataset, "model": "net", "document": "CIFAR-10", "stand_in": True}
        own |= {"seeds": 3, "images": 1000}
        full = {"part": "full", "radius": np.nan, "reported_test": np.nan}
        rows.append({**own, **full, **with_interval("test", 0.86)})
        # Out of order, as the rows of a table may be.
        for place, radius in reversed(list(enumerate(RADII))):
            low = {"part": "low", "radius": radius, "reported_test": 0.6 + 0.04 * place}
            high = {"part": "high", "radius": radius, "reported_test": 0.2 - 0.03 * place}
            rows.append({**own, **low, **with_interval("test", 0.62 + 0.07 * place)})
            rows.append({**own, **high, **with_interval("test", 0.3 - 0.06 * place)})
    return pd.DataFrame(rows)


def pairs(datasets=("fashion_mnist",)):
    rows = [
        {"dataset": dataset, "network": name, "batchnorm": batchnorm, "radius": radius}
        for dataset in datasets
        for plain, own, radius in [
            ("net", "net_batchnorm", np.nan),
            *((f"low_{radius:g}", f"bn_{radius:g}", radius) for radius in RADII),
        ]
        for name, batchnorm in ((plain, False), (own, True))
    ]
    return pd.DataFrame(rows)


def batch_sizes(datasets=("fashion_mnist",), sizes=(1000, 50, 100, 250, 500)):
    rows = [
        {
            **{"dataset": dataset, "model": "net", "scheme": scheme, "batch_size": size},
            **{"seeds": 3, "images": 1000, "radius": radius, "gap": 0.2 - 0.02 * np.log10(size)},
            **with_interval("train", 0.98),
            **with_interval("test", 0.72 + 0.02 * np.log10(size)),
            **with_interval("hfc", 0.1 + 2 / radius / np.log10(size)),
        }
        for dataset in datasets
        for scheme in ("equal_epochs", "equal_updates")
        for size in sizes
        for radius in RADII
    ]
    return pd.DataFrame(rows)


def table_2(datasets=("fashion_mnist",), epsilons=(0.03, 0.06, 0.09)):
    rows = []
    for dataset in datasets:
        for name, training, clean in (("net", "natural", 0.86), ("net_robust", "adversarial", 0.7)):
            for rho in (0.0, 0.1, 0.25, 0.5, 1.0):
                for normalized in (False, True)[: 1 + (rho > 0)]:
                    for attack, loss in figures.ATTACKS:
                        for bound in epsilons if loss else (np.nan,):
                            own = {"dataset": dataset, "network": name, "training": training}
                            own |= {"rho": rho, "normalized": normalized, "attack": attack}
                            own |= {"loss": loss, "epsilon": bound, "seeds": 3, "images": 500}
                            hit = np.nan_to_num(bound) * (12 if training == "natural" else 7)
                            rate = max(clean - 0.2 * rho - hit - 0.05 * normalized, 0.01)
                            raw = not normalized and loss != "margin"
                            own["reported"] = rate * 0.9 if raw else np.nan
                            rows.append(own | with_interval("accuracy", rate))
    return pd.DataFrame(rows)


def svd(models=("net",)):
    rows = [
        {
            **{"dataset": "fashion_mnist", "model": model, "radius": radius},
            **{"document": "CIFAR-10", "stand_in": True, "seeds": 3, "images": 1000},
            **with_interval("fourier", 0.2 - 0.01 * radius, 0.01),
            **with_interval("svd", 0.05 - 0.002 * radius, 0.005),
        }
        for model in models
        for radius in reversed(RADII)
    ]
    return pd.DataFrame(rows)


def distances(models=("net",)):
    generator = np.random.default_rng(0)
    parts = []
    for model in models:
        for radius in RADII:
            l2 = generator.gamma(20, 6 / radius / 20, int(40 * radius))
            own = {"dataset": "fashion_mnist", "model": model, "radius": radius}
            parts.append(pd.DataFrame({"l2": l2, "linf": l2 / 5}).assign(**own))
    return pd.concat(parts, ignore_index=True)


# Files


def hidden(radius, i):
    """Return whether image i is right, its high frequencies too, and its low ones not."""
    return i < {2.0: 2, 3.0: 5}[radius]


def records(ids, right_of=hidden):
    """Return what a network of one seed says of images and their parts."""
    rows = []
    for i in ids:
        own = {"image_id": f"i{i}", "label": i, "l2": 0.0, "linf": 0.0, "energy": 1.0}
        own |= {"prediction": i, "probability": 0.5 + i / 100, "correct": True}
        none = {"kind": "image", "part": None, "radius": None, "convention": None}
        rows.append(own | none)
        for radius in (2.0, 3.0):
            for convention in components_records.CONVENTIONS:
                low = {"kind": "fourier", "part": "low", "radius": radius}
                wrong = right_of(radius, i)
                low |= {"convention": convention, "correct": not wrong, "probability": 0.25}
                low |= {"prediction": 9 if wrong else i, "l2": i / radius, "linf": i / 10}
                rows.append(own | low)
                high = {"kind": "fourier", "part": "high", "radius": radius}
                rows.append(own | high | {"convention": convention, "probability": 0.999})
    return pa.Table.from_pylist(rows, schema=components_records.SCHEMA)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with images, what a network says of them in two shards, and two models."""
    home = tmp_path_factory.mktemp("parts")
    x = np.random.default_rng(0).integers(0, 256, (6, 3, SIDE, SIDE)).astype(np.uint8)
    ids = [f"i{i}" for i in range(len(x))]
    clean = {"image_id": ids, "label": list(range(len(x))), "split": ["test"] * len(x)}
    clean["image"] = store.image_column(x)
    store.write(home / "clean.parquet", pa.table(clean), {})
    for shard, own in enumerate(((0, 2, 4), (1, 3, 5))):
        store.write(home / f"parts_{shard}.parquet", records(own), {})
    paths = [str(home / f"parts_{shard}.parquet") for shard in range(2)]
    return SimpleNamespace(
        clean=str(home / "clean.parquet"),
        # Two seeds of two shards.
        components=paths * 2,
        x=torch.from_numpy(x.astype(np.float32)).div(255).double(),
    )


def kernel_set(outputs=4, inputs=3, dataset="d", seed=0):
    weights = torch.randn(outputs, inputs, 3, 3, generator=torch.Generator().manual_seed(seed))
    return [
        kernel_pictures.Kernels(
            dataset, training, smooth, own.numpy(), float(roughness(own).mean())
        )
        for training in ("natural", "adversarial")
        for smooth in (False, True)
        for own in [smoothed(weights, 1.0, normalize=True) if smooth else weights]
    ]


def shown(count=3, channels=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, channels, SIDE, SIDE, dtype=torch.float64, generator=generator)
    pixels = {
        part: component(x, part=part, radius=2, scale="none").numpy() for part in ("low", "high")
    }
    pixels["image"] = x.numpy()
    predictions = {"image": [0, 1, 2][:count], "low": [7] * count, "high": [0, 1, 2][:count]}
    confidences = {"image": [0.8, 1.0, 0.9999][:count], "low": [0.3] * count}
    confidences["high"] = [0.5] * count
    return pictures.Hidden(pixels, predictions, confidences, 2.0, 17, 100)


NOTHING = pictures.Hidden({}, {"image": []}, {}, 4.0, 0, 100)


# Names


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("net", "vanilla"),
        ("net_dropout", "dropout 0.5"),
        ("net_mixup", "mix-up α = 0.5"),
        ("net_batchnorm", "BatchNorm"),
        ("net_robust", "adversarial training"),
        ("net_shuffled", "shuffled labels, 90 epochs"),
        ("vgg", "small VGG"),
        ("resnet", "ResNet-20, BatchNorm"),
        ("rmsprop", "RMSprop"),
        ("low_4", "low frequencies, r = 4"),
    ],
)
def test_a_network_is_called_by_what_sets_it_apart(name, label):
    assert figures.network_label(BY_NAME[name], BY_NAME["net"]) == label


def test_a_network_that_differs_in_nothing_told_has_its_name():
    assert figures.network_label(network("twin"), BY_NAME["net"]) == "twin"
    assert figures.network_label(BY_NAME["net"], BY_NAME["net"], ["optimizer"]) == "SGD"
    assert figures.network_label(BY_NAME["net"], BY_NAME["net_mixup"]) == "no mix-up"
    own = network("other", optimizer="own_way", batch_size=7)
    assert figures.network_label(own, BY_NAME["net"]) == "own_way, batch size 7"


def test_architectures_are_called_by_their_families():
    found = [figures.architecture_label(name) for name in ("strided_resnet8", "vgg16_bn", "mine7")]
    assert found == ["strided ResNet-8", "VGG-16 bn", "mine7"]


# Curves


def test_labels_have_a_panel_each_with_a_line_for_each_radius_and_chance():
    figure = figures.draw_labels(curves(), [told()])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["true labels\n3 seeds, N = 500", "shuffled labels\n3 seeds, N = 500"]
    assert figure.get_suptitle() == "fashion_mnist"
    assert entries(figure) == [
        "whole images",
        *(f"low frequencies, r = {radius}" for radius in (4, 8, 12, 16)),
        "chance",
    ]
    for axes, last in zip(figure.axes, (30, 90), strict=True):
        assert 0.1 in levels(axes) and axes.get_xlabel() == "epoch"
        epochs, values = line_of(axes, "low frequencies, r = 8")
        assert epochs[0] == 0 and epochs[-1] == last and list(epochs) == sorted(epochs)
        assert values[0] == pytest.approx(0.1) and values[-1] > values[0]
        # A band for each line.
        assert len(axes.collections) == 5


def test_labels_of_two_datasets_name_each():
    figure = figures.draw_labels(curves(("a", "b")), [told("a"), told("b")])
    titles = [axes.get_title().partition("\n")[0] for axes in figure.axes]
    assert titles == [
        "a, true labels",
        "a, shuffled labels",
        "b, true labels",
        "b, shuffled labels",
    ]


def test_networks_have_a_panel_each_that_of_the_experiment_first():
    figure = figures.draw_networks(curves(), [told()], "heuristics")
    titles = [axes.get_title().partition("\n")[0] for axes in figure.axes]
    assert titles == [
        "vanilla",
        "dropout 0.5",
        "mix-up α = 0.5",
        "BatchNorm",
        "adversarial training",
    ]
    assert entries(figure) == [
        *("training images", "test images"),
        *("test, low frequencies, r = 4", "test, low frequencies, r = 12"),
        *("test, high frequencies, r = 4", "test, high frequencies, r = 12"),
    ]
    frame = curves()
    own = frame[(frame["network"] == "net_mixup") & (frame["part"] == "high")]
    own = own[own["radius"] == 4].sort_values("epoch")
    epochs, values = line_of(figure.axes[2], "test, high frequencies, r = 4")
    assert values == pytest.approx(list(own["accuracy"])) and list(epochs) == list(own["epoch"])


@pytest.mark.parametrize(
    ("group", "fact", "names"),
    [
        (
            *("architectures", "architecture"),
            ["small CNN", "LeNet", "AlexNet", "small VGG", "ResNet-20, BatchNorm"],
        ),
        ("optimizers", "optimizer", ["SGD", "Adam", "AdaGrad", "AdaDelta", "RMSprop"]),
    ],
)
def test_groups_of_networks_are_named_by_one_fact(group, fact, names):
    figure = figures.draw_networks(curves(epochs=(0, 30)), [told()], group, always=[fact])
    assert [axes.get_title().partition("\n")[0] for axes in figure.axes] == names


def test_an_experiment_without_a_group_and_a_network_without_curves_have_no_panel():
    frame = curves(("a", "b"), ["net", "net_mixup"])
    experiments = [told("a"), told("b", heuristics=[])]
    figure = figures.draw_networks(frame, experiments, "heuristics")
    assert figure.get_suptitle() == "a" and len(figure.axes) == 2


def test_batchnorm_has_a_panel_for_each_radius_and_one_for_whole_images():
    figure = figures.draw_batchnorm(curves(), pairs())
    titles = [axes.get_title().partition("\n")[0] for axes in figure.axes]
    assert titles == ["r = 4", "r = 8", "r = 12", "r = 16", "whole images"]
    assert entries(figure) == [
        *("training, same part", "test, whole images", "test, same part"),
        *("BatchNorm", "no BatchNorm"),
    ]
    dashes = [line.get_linestyle() for line in figure.axes[0].lines]
    assert dashes.count("-") == dashes.count("--") == 3
    # Whole images are drawn once.
    assert len(figure.axes[-1].lines) == 4
    frame = curves()
    own = frame[(frame["network"] == "bn_8") & (frame["images"] == "train")].sort_values("epoch")
    (line,) = (
        line
        for line in figure.axes[1].lines
        if (line.get_label(), line.get_linestyle()) == ("training, same part", "-")
    )
    assert list(line.get_ydata()) == pytest.approx(list(own["accuracy"]))


def test_a_training_measured_once_is_a_point():
    frame = curves(names=["net", "net_shuffled"], epochs=(30,))
    for axes in figures.draw_labels(frame, [told()]).axes:
        markers = [line.get_marker() for line in axes.lines if len(line.get_xdata()) == 1]
        assert len(markers) == 5 and "" not in markers


# What parts of the spectrum teach


def test_components_stand_beside_chance_whole_images_and_the_document():
    figure = figures.draw_components(table_1(), [told()])
    (axes,) = figure.axes
    assert figure.get_figwidth() == pytest.approx(3.4)
    assert "stands in for CIFAR-10" in words(figure) and "periods per side" in words(figure)
    assert levels(axes) >= {0.86, 0.1}
    assert entries(figure) == [
        *("trained on low", "trained on high", "trained on all", "chance"),
        *("document, low", "document, high"),
    ]
    radii, values = line_of(axes, "trained on low")
    assert radii == [4, 8, 12, 16] and values == pytest.approx([0.62, 0.69, 0.76, 0.83])
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert list(rings[0].get_ydata()) == pytest.approx([0.6, 0.64, 0.68, 0.72])


def test_components_that_the_document_does_not_report_have_no_open_markers():
    frame = table_1().assign(reported_test=np.nan)
    assert not [name for name in entries(figures.draw_components(frame, [told()])) if "doc" in name]


# Batch sizes


def test_batch_sizes_have_equal_epochs_beside_equal_updates():
    figure = figures.draw_batch_sizes(batch_sizes())
    grid = np.reshape(figure.axes, (3, 2))
    assert [axes.get_title().partition("\n")[0] for axes in grid[0]] == [
        "fashion_mnist, equal epochs",
        "fashion_mnist, equal updates",
    ]
    assert all(axes.get_xscale() == "log" for axes in figure.axes)
    sizes, test = line_of(grid[0, 0], "test images")
    assert sizes == [50, 100, 250, 500, 1000] and test[1] == pytest.approx(0.76)
    assert line_of(grid[1, 1], "gap")[1][-1] == pytest.approx(0.14)
    assert 0 in levels(grid[1, 0])
    assert [label.get_text() for label in grid[2, 0].get_xticklabels()] == [
        *("50", "100", "250", "500", "1000")
    ]
    _, high = line_of(grid[2, 1], "high frequencies, r = 16")
    assert high[-1] == pytest.approx(0.1 + 1 / 24)


def test_one_scheme_alone_has_a_column_of_its_own():
    frame = batch_sizes()
    figure = figures.draw_batch_sizes(frame[frame["scheme"] == "equal_updates"])
    assert len(figure.axes) == 3 and figure.get_figwidth() == pytest.approx(3.4)


# Smoothed kernels


def test_smoothing_has_a_row_for_each_network_and_a_panel_for_each_attack():
    figure = figures.draw_smoothing(table_2())
    grid = np.reshape(figure.axes, (2, 4))
    assert [axes.get_title() for axes in grid[0]] == list(figures.ATTACKS.values())
    assert ["natural" in axes.get_ylabel() for axes in grid[:, 0]] == [True, False]
    assert entries(figure) == [
        *("clean", "ε = 0.03", "ε = 0.06", "ε = 0.09"),
        *("smoothed", "smoothed, over 1 + 8ρ", "document, smoothed"),
    ]
    lines = [line for line in grid[0, 0].lines if line.get_label() == "clean"]
    raw, divided = (list(line.get_ydata()) for line in lines if len(line.get_xdata()))
    assert raw == pytest.approx([0.86, 0.84, 0.81, 0.76, 0.66])
    # Both begin at the network as it was trained.
    assert divided == pytest.approx([0.86, 0.79, 0.76, 0.71, 0.61])

    def rings(axes):
        return sum(
            len(line.get_xdata()) for line in axes.lines if line.get_markerfacecolor() == "none"
        )

    # The document does not attack the margin.
    assert [rings(axes) for axes in grid[0]] == [5, 15, 15, 0]


def test_smoothing_without_division_or_document_does_not_name_them():
    frame = table_2().assign(reported=np.nan)
    figure = figures.draw_smoothing(frame[~frame["normalized"]])
    assert entries(figure) == ["clean", "ε = 0.03", "ε = 0.06", "ε = 0.09", "smoothed"]


# Parts of images


def test_singular_values_stand_beside_frequencies():
    figure = figures.draw_svd(svd())
    radii, values = line_of(figure.axes[0], "singular values")
    assert radii == [4, 8, 12, 16] and values == pytest.approx([0.042, 0.034, 0.026, 0.018])
    assert entries(figure) == ["frequencies", "singular values"]
    assert len(figures.draw_svd(svd(("a", "b"))).axes) == 2


def test_distances_are_cumulative_shares_of_images():
    frame = distances()
    figure = figures.draw_distances(frame)
    text = words(figure)
    assert "fashion_mnist, net" in text and "N = 160 (r = 4), 320 (8), 480 (12), 640 (16)" in text
    assert "L2 distance" in text and "L∞ distance" in text and "[0, 1] pixels" in text
    assert entries(figure) == ["r = 4", "r = 8", "r = 12", "r = 16"]
    own = frame[frame["radius"] == 4]
    away, share = line_of(figure.axes[0], "r = 4")
    assert max(away) == own["l2"].max() and share[-1] == 1
    half = share[np.searchsorted(away, own["l2"].median(), side="right") - 1]
    assert half == pytest.approx(0.5)


def test_distances_are_those_of_images_that_are_wrong_at_low_frequencies(folder):
    e = told(model="net", networks=[network("net", seeds=2)])
    frame = component_rates.fooled(folder.components, [e])
    assert frame.groupby("radius").size().to_dict() == {2.0: 4, 3.0: 10}
    own = frame[frame["radius"] == 3]
    assert sorted(own["l2"].unique()) == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3])
    assert sorted(own["linf"].unique()) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_without_such_images_there_are_no_distances(tmp_path):
    store.write(tmp_path / "p.parquet", records(range(3), lambda radius, i: False), {})
    e = told(model="net", shards=1, networks=[network("net", seeds=1)])
    frame = component_rates.fooled([str(tmp_path / "p.parquet")], [e])
    assert "no data" in words(figures.draw_distances(frame))


# Images


def test_the_surest_images_of_the_least_radius_with_enough_are_shown(folder):
    found = pictures.read_hidden(folder.clean, folder.components[:2], [3.0, 2.0], 2)
    assert (found.radius, found.found, found.asked) == (2.0, 2, 6)
    assert found.predictions == {"image": [1, 0], "low": [9, 9], "high": [1, 0]}
    assert found.confidences["image"] == pytest.approx([0.51, 0.5])
    image, low, high = (found.pixels[row] for row in pictures.ROWS)
    assert image == pytest.approx(folder.x[[1, 0]].numpy())
    assert low + high == pytest.approx(image)
    expected = component(folder.x[[1]], part="low", radius=2, scale="none")[0].numpy()
    assert low[0] == pytest.approx(expected)


def test_where_no_radius_has_enough_images_it_is_the_one_with_most(folder):
    found = pictures.read_hidden(folder.clean, folder.components[:2], [2.0, 3.0], 8)
    assert (found.radius, found.found) == (3.0, 5)
    assert found.predictions["image"] == [4, 3, 2, 1, 0]


def test_images_have_their_parts_below_with_class_and_confidence():
    figure = pictures.draw_hidden(shown(), "d, net")
    grid = np.reshape(figure.axes, (3, 3))
    titles = [[axes.get_title() for axes in row] for row in grid]
    assert titles[0] == ["0: 80%", "1: 100%", "2: > 99%"]
    assert titles[1] == ["7: 30%"] * 3
    text = words(figure)
    assert "d, net" in text and "17 of 100 images" in text and "r = 2 periods per side" in text
    assert [axes.get_ylabel() for axes in grid[:, 0]] == [
        *("image", "low\nfrequencies", "high\nfrequencies")
    ]


def test_0_of_high_frequencies_is_grey_and_the_farthest_value_an_end():
    found = shown(1)
    figure = pictures.draw_hidden(found, "d, net")
    image = np.asarray(figure.axes[2].images[0].get_array())
    reach = np.abs(found.pixels["high"][0]).max()
    assert image == pytest.approx(0.5 + np.moveaxis(found.pixels["high"][0], 0, -1) / (2 * reach))
    low = np.asarray(figure.axes[1].images[0].get_array())
    assert low == pytest.approx(np.clip(np.moveaxis(found.pixels["low"][0], 0, -1), 0, 1))


# Kernels


def test_kernels_lie_side_by_side_with_gaps():
    weights = np.arange(2 * 3 * 9, dtype=float).reshape(2, 3, 3, 3)
    found = kernel_pictures.mosaic(weights)
    assert found.shape == (11, 7)
    assert (found[4:7, 4:7] == weights[1, 1]).all()
    assert np.isnan(found[3]).all() and np.isnan(found[:, 3]).all()
    # A second line of outputs lies below the first, farther apart.
    found = kernel_pictures.mosaic(np.ones((kernel_pictures.ACROSS + 1, 1, 3, 3)))
    assert found.shape == (8, 63) and np.isnan(found[3:5]).all()
    assert np.isfinite(found[5:, :3]).all() and np.isnan(found[5:, 3:]).all()


def test_kernels_share_a_scale_around_0_and_tell_their_roughness():
    found = kernel_set()
    figure = kernel_pictures.draw_kernels(found)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 4
    reach = np.abs(found[0].weights).max()
    assert {axes.images[0].get_clim() for axes in panels} == {(-reach, reach)}
    assert panels[3].get_title() == (
        f"d, adversarial training,\nsmoothed, ρ = 1: roughness {found[3].roughness:.2f}"
    )
    assert found[1].roughness < found[0].roughness
    two = kernel_pictures.draw_kernels([*kernel_set(), *kernel_set(20, 1, "e", 1)])
    limits = {axes.images[0].get_clim() for axes in two.axes if axes.get_title()}
    assert len(limits) == 2


def test_kernels_are_read_for_the_first_seed_of_each_network(monkeypatch):
    asked = []

    def kernels(paths):
        asked.extend(paths)
        return [torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(len(asked)))]

    monkeypatch.setattr(kernel_pictures, "kernels", kernels)
    networks = [network("net", seeds=2), network("net_robust", seeds=3)]
    found = kernel_pictures.read_kernels(["a1", "a2", "b1", "b2", "b3"], [told(networks=networks)])
    assert asked == ["a1", "b1"]
    assert [(one.training, one.smoothed) for one in found] == [
        *(("natural", False), ("natural", True)),
        *(("adversarial", False), ("adversarial", True)),
    ]
    weights = torch.from_numpy(found[0].weights)
    expected = smoothed(weights, 1.0, normalize=True).numpy()
    assert found[1].weights == pytest.approx(expected, abs=1e-6)
    assert found[1].roughness == pytest.approx(float(roughness(torch.tensor(expected)).mean()))


# All of them

TABLES = {
    "labels": (curves, lambda frame: figures.draw_labels(frame, [told()])),
    "networks": (curves, lambda frame: figures.draw_networks(frame, [told()], "heuristics")),
    "batchnorm": (curves, lambda frame: figures.draw_batchnorm(frame, pairs())),
    "components": (table_1, lambda frame: figures.draw_components(frame, [told()])),
    "batch_sizes": (batch_sizes, figures.draw_batch_sizes),
    "smoothing": (table_2, figures.draw_smoothing),
    "svd": (svd, figures.draw_svd),
    "distances": (distances, figures.draw_distances),
}
COLUMNS = {
    **{name: "accuracy_low" for name in ("labels", "networks", "batchnorm", "smoothing")},
    **{"components": "reported_test", "batch_sizes": "hfc", "svd": "svd", "distances": "linf"},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_column_is_named_and_a_table_without_rows_says_so(name):
    make, draw = TABLES[name]
    frame = make()
    with pytest.raises(ValueError, match=COLUMNS[name]):
        draw(frame.drop(columns=COLUMNS[name]))
    assert "no data" in words(draw(frame.iloc[:0]))


def test_pictures_of_nothing_say_so():
    text = words(pictures.draw_hidden(NOTHING, "d, net"))
    assert "no data" in text and "0 of 100 images" in text and "d, net" in text
    assert "no data" in words(kernel_pictures.draw_kernels([]))
    assert "no data" in words(figures.draw_batchnorm(curves(), pd.DataFrame()))


BOTH = ("fashion_mnist", "cifar10")


@pytest.mark.parametrize(
    "draw",
    [
        *(lambda make=make, draw=draw: draw(make()) for make, draw in TABLES.values()),
        lambda: figures.draw_networks(
            curves(BOTH), [told(name) for name in BOTH], "architectures", ["architecture"]
        ),
        lambda: figures.draw_components(table_1(BOTH), [told(name) for name in BOTH]),
        lambda: figures.draw_batch_sizes(batch_sizes(BOTH)),
        lambda: figures.draw_smoothing(table_2(BOTH)),
        lambda: figures.draw_distances(distances(("net", "other"))),
        lambda: pictures.draw_hidden(shown(3, 1), "d, net"),
        lambda: kernel_pictures.draw_kernels([*kernel_set(), *kernel_set(40, 1, "e")]),
    ],
)
def test_nothing_leaves_the_figure_or_covers_a_legend_or_a_title(draw):
    figure = draw()
    for artist in [*figure.axes, *figure.legends]:
        box = artist.get_tightbbox()
        assert box.x0 >= figure.bbox.x0 - 1 and box.x1 <= figure.bbox.x1 + 1
        assert box.y0 >= figure.bbox.y0 - 1 and box.y1 <= figure.bbox.y1 + 1
    for legend in figure.legends:
        for axes in figure.axes:
            assert axes.get_tightbbox().y0 >= legend.get_tightbbox().y1
    titles = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    for i, title in enumerate(titles):
        assert not any(title.overlaps(other) for other in titles[:i])


# Scripts


# Detections have tests of their own.
DRAWN = sorted(set(SCRIPTS.glob("figure_*.py")) - {SCRIPTS / "figure_detection.py"})


@pytest.mark.parametrize("path", DRAWN, ids=lambda path: path.stem)
def test_scripts_draw_what_they_read(path, folder, tmp_path, monkeypatch):
    tables = {"figure_components": table_1, "figure_4": batch_sizes}
    tables |= {"figure_smoothing": table_2, "figure_svd": svd}
    frame = tables.get(path.stem, lambda: curves(epochs=(0, 10, 30)))()
    store.write(tmp_path / "t.parquet", pa.Table.from_pandas(frame), {})
    store.write(tmp_path / "b.parquet", pa.Table.from_pandas(pairs()), {})
    weights = [torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0))]
    monkeypatch.setattr(kernel_pictures, "kernels", lambda paths: weights)
    networks = [{**own, "seeds": 2 if own["name"] == "net" else 3} for own in NETWORKS]
    job = SimpleNamespace(
        input=SimpleNamespace(
            table=str(tmp_path / "t.parquet"),
            curves=str(tmp_path / "t.parquet"),
            batchnorm=str(tmp_path / "b.parquet"),
            dataset=folder.clean,
            components=folder.components[: 2 if path.stem == "figure_2" else 4],
            models=["a1", "a2", "b1", "b2", "b3"],
        ),
        params=SimpleNamespace(
            experiments=[told(networks=networks)],
            dataset="fashion_mnist",
            model="net",
            radii=[2.0, 3.0],
            images=8,
        ),
        pictures=dict,
        certificate=dict,
    )
    drawn = []
    monkeypatch.setattr(jobs, "run", lambda main, snakemake: main(job))
    monkeypatch.setattr(files, "save", lambda figure, certificate: drawn.append(figure))
    runpy.run_path(str(path), init_globals={"snakemake": None})
    assert len(drawn) == 1 and "no data" not in words(drawn[0])


def test_each_figure_of_the_catalogue_has_a_script_and_each_artifact_a_caption():
    captions = SCRIPTS.parents[1] / "workflow/report/high_frequency"
    made = {one.name for artifact in ARTIFACTS for one in artifact.made()}
    assert {path.stem for path in captions.glob("*.rst")} == made
    assert {artifact.name for artifact in ARTIFACTS} == {path.stem for path in SCRIPTS.glob("*.py")}
