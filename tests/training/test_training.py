from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from toy import RECIPE, train, write_dataset

from bandlimit import keys
from bandlimit.errors import UserError
from bandlimit.files import contents, store
from bandlimit.models import architectures
from bandlimit.models.classifier import load
from bandlimit.training import loop
from bandlimit.training.loop import augment, learning_rate_at
from bandlimit.training.perturbations import Pixels, frozen, log_odds
from bandlimit.training.recipes import Adversarial, Recipe

pytest_plugins = ["toy"]


@pytest.fixture(scope="module")
def reference(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, pa.Table]:
    out = tmp_path_factory.mktemp("reference") / "toy.safetensors"
    history = train(dataset, out, **RECIPE).history
    return out.read_bytes(), history


@pytest.mark.parametrize(("callers_threads", "threads"), [(1, 2), (2, 1), (3, 4)])
def test_equal_bytes_whatever_the_caller_has_set(
    dataset, reference, tmp_path, caller_state, callers_threads, threads
):
    torch.set_num_threads(callers_threads)
    torch.manual_seed(callers_threads)
    expected_draw = torch.rand(3)
    torch.manual_seed(callers_threads)
    out = tmp_path / "toy.safetensors"
    history = train(dataset, out, **RECIPE, threads=threads).history
    assert out.read_bytes() == reference[0]
    assert history.equals(reference[1])
    assert torch.get_num_threads() == callers_threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected_draw)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"model_name": "other"},
        {"augmentation": {"flip": True}},
        {"augmentation": {"shift": 1}},
        {"weight_decay": 0.1},
        {"momentum": 0.0},
        {"optimizer": "adam"},
        {"optimizer": "adagrad"},
        {"optimizer": "adadelta"},
        {"optimizer": "rmsprop"},
        {"dropout": 0.5},
        {"mixup": {}},
        {"component": {"part": "low", "radius": 2}},
        {"schedule": "constant"},
        {"loss": "mse"},
        {"adversarial": {"epsilon": 0.1, "steps": 1}},
    ],
    ids=lambda change: "-".join(change),
)
def test_the_recipe_reaches_the_weights(dataset, reference, tmp_path, change):
    out = tmp_path / "toy.safetensors"
    train(dataset, out, **RECIPE | change)
    assert out.read_bytes() != reference[0]


def test_settings_are_restored_after_an_error(dataset, tmp_path, caller_state):
    torch.set_num_threads(1)
    with pytest.raises(UserError, match="no architecture"):
        train(dataset, tmp_path / "toy.safetensors", **RECIPE | {"architecture": "cifar_resnet2"})
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()


def test_learns_and_saves_what_it_learned(dataset, tmp_path, caplog):
    out = tmp_path / "toy.safetensors"
    recipe = RECIPE | {"epochs": 8, "augmentation": {"flip": True}}
    with caplog.at_level(logging.INFO, logger="bandlimit.training.loop"):
        history = train(dataset, out, **recipe, certificate={"rule": "train"}).history.to_pandas()
    assert list(history.columns) == ["seed", "epoch", "learning_rate", "loss", "accuracy"]
    assert (history["seed"] == 1).all()
    assert history["epoch"].tolist() == list(range(1, 9))
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] / 2
    assert history["accuracy"].iloc[-1] > 0.9
    own = [record for record in caplog.records if record.name == "bandlimit.training.loop"]
    assert [record.getMessage().split(":")[0] for record in own] == [
        f"model toy, epoch {epoch} of 8" for epoch in range(1, 9)
    ]

    classifier = load(out)
    assert classifier.shape == (1, 8, 8)
    assert classifier.classes == 4
    assert classifier.mean.item() == 0.5
    assert classifier.std.item() == 0.25
    table = store.read(dataset)
    logits = classifier(torch.from_numpy(store.images_of(table) / np.float32(255)))
    right = logits.argmax(1).numpy() == table["label"].to_numpy()
    assert right.mean() > 0.9
    assert contents.certificate(out)["rule"] == "train"


def test_one_step_is_nesterovs_on_the_mean_gradient_of_two_halves(dataset, tmp_path):
    out = tmp_path / "toy.safetensors"
    lr, momentum, decay = 0.3, 0.5, 0.01
    recipe = RECIPE | {"learning_rate": lr, "momentum": momentum, "weight_decay": decay}
    train(dataset, out, **recipe | {"batch_size": 64, "augmentation": {}})

    table = store.read(dataset)
    order = torch.randperm(64, generator=keys.generator(1, "training", "toy", 0))
    inputs = (torch.from_numpy(store.images_of(table) / np.float32(255)) - 0.5)[order] / 0.25
    labels = torch.from_numpy(table["label"].to_numpy().copy())[order]
    with torch.random.fork_rng():
        torch.manual_seed(keys.derive(1, "initial_weights", "toy"))
        network = architectures.build("cifar_resnet20", classes=4, channels=1).train()
    halves = [network, copy.deepcopy(network)]
    for half, x, y in zip(halves, inputs.split(32), labels.split(32), strict=True):
        (torch.nn.functional.cross_entropy(half(x), y) / 2).backward()
    saved = safetensors.torch.load_file(out)
    rate = 0.1 * lr  # of the first step
    for name, weight in network.named_parameters():
        gradient = weight.grad + halves[1].get_parameter(name).grad + decay * weight.detach()
        expected = weight.detach() - rate * (1 + momentum) * gradient
        torch.testing.assert_close(saved[name], expected, rtol=1e-4, atol=1e-5)
    for name in ("bn1.running_mean", "layer3.2.bn2.running_var"):
        expected = (network.get_buffer(name) + halves[1].get_buffer(name)) / 2
        torch.testing.assert_close(saved[name], expected)
        assert not torch.allclose(saved[name], network.get_buffer(name), rtol=1e-4)


def test_history_counts_only_full_batches(dataset, tmp_path):
    # 64 images, 3 batches of 20: 60 images are seen, and accuracies are multiples of 1/60.
    out = tmp_path / "toy.safetensors"
    history = train(dataset, out, **RECIPE | {"batch_size": 20}).history
    (accuracy,) = history["accuracy"].to_pylist()
    assert accuracy * 60 == pytest.approx(round(accuracy * 60))
    assert history["learning_rate"].to_pylist() == [pytest.approx(learning_rate_at(2, 3, 0.05))]


def test_divergence_is_named_and_leaves_no_file(dataset, tmp_path):
    out = tmp_path / "toy.safetensors"
    with pytest.raises(UserError, match=r"'toy' diverged.* in epoch \d of 3.*1e\+30 was given"):
        train(dataset, out, **RECIPE | {"epochs": 3, "learning_rate": 1e30})
    assert not out.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "'epochs' must be a whole number of at least 1; 0 was given"),
        ({"epochs": 1.5}, "'epochs' must be a whole number"),
        ({"epochs": True}, "'epochs' must be a whole number"),
        ({"batch_size": 3}, "'batch_size' must be a whole number of at least 4"),
        ({"batch_size": 65}, "at most the number of training images, 64 in .*; 65 was given"),
        ({"learning_rate": 0}, "'learning_rate' must be a number above 0; 0 was given"),
        ({"learning_rate": float("nan")}, "'learning_rate' must be a number above 0; nan"),
        ({"learning_rate": float("inf")}, "'learning_rate' must be a number above 0; inf"),
        ({"learning_rate": "0.1"}, "'learning_rate' must be a number above 0; '0.1'"),
        ({"momentum": 1}, "'momentum' must be a number of at least 0 and below 1; 1 was"),
        ({"weight_decay": -1e-4}, "'weight_decay' must be a number of at least 0; -0.0001"),
        ({"threads": 0}, "'threads' must be a whole number of at least 1"),
        ({"augmentation": {"flips": True}}, "no augmentation 'flips'.*did you mean 'flip'"),
        ({"augmentation": {"flip": 1}}, "'flip' must be true or false; 1 was given"),
        ({"augmentation": {"shift": -1}}, "'shift' must be a whole number of pixels"),
        ({"augmentation": {"noise": 1.5}}, "'augmentation.noise' must be a number from 0 to 1; 1"),
        (
            {"augmentation": {"noise": 0.1}, "component": {"part": "low", "radius": 2}},
            "either the augmentation 'noise' or 'component'",
        ),
        ({"component": {"part": "low", "radius": 2, "bandwidth": 3}}, "2 and 3 were given"),
        ({"component": {"part": "low", "bandwidth": 4}}, "'component.bandwidth' must be an odd"),
        ({"augmentation": {"shift": 8}}, "'shift' must be less than the image's side, 8 pixels"),
        (
            {"architecture": "cifar_resnet21"},
            "'cifar_resnet21', which is no architecture; .*did you mean",
        ),
        ({"classes": 3}, r"labels of .* must lie in 0 to 2 \(classes: 3\); .* from 0 to 3"),
        ({"mean": [0.5, 0.5, 0.5]}, "mean must have one number per channel, 1 in"),
        ({"std": [0.0]}, "std of each channel must be above 0"),
        (
            {"optimizer": "adamw"},
            "no optimizer 'adamw'; allowed: 'adadelta', 'adagrad', 'adam', 'rmsprop', 'sgd' .did",
        ),
        ({"schedule": "cosine"}, "no schedule 'cosine'; allowed: 'constant', 'triangle'"),
        ({"loss": "hinge"}, "no loss 'hinge'; allowed: 'cross_entropy', 'mse'"),
        ({"adversarial": {"epsilon": 0}}, "'adversarial.epsilon' must be a number above 0"),
        ({"adversarial": {"epsilon": 2}}, "'adversarial.epsilon' must be .* at most 1; 2 was"),
        ({"adversarial": {"epsilon": 0.1, "steps": 0}}, "'adversarial.steps' must be a whole"),
        ({"adversarial": {"steps": 3}}, "parameter of 'adversarial' 'epsilon' is missing"),
        ({"adversarial": {"eps": 3}}, "no parameter of 'adversarial' 'eps'; .*'epsilon'"),
        ({"checkpoints": {"late": 2}}, "'checkpoints.late' must be .* from 0 to 1; 2 was given"),
        ({"checkpoints": {"one": 1}}, "checkpoint 'one' of the recipe has no file"),
        ({"out_checkpoints": {"one": "f"}}, "The recipe has no checkpoint 'one'"),
        ({"mixed_precision": 1}, "'mixed_precision' must be true or false; 1 was given"),
        ({"mixed_precision": True}, "'mixed_precision' needs a card, and the model 'toy'"),
        ({"device": "gpu"}, "no device 'gpu'"),
        ({"dropout": 1}, "'dropout' must be a number of at least 0 and below 1; 1 was given"),
        ({"mixup": {"alpha": 0}}, "'mixup.alpha' must be a number above 0; 0 was given"),
        ({"mixup": {"per": "epoch"}}, "no mixup.per 'epoch'; allowed: 'batch', 'image'"),
        ({"component": {"part": "low"}}, "either a 'radius', of a disk, or a 'bandwidth'"),
        ({"component": {"part": "lo", "radius": 2}}, "no component.part 'lo'; .*mean 'low'"),
        ({"component": {"part": "low", "radius": -1}}, "'component.radius' must be .*; -1 was"),
        ({"component": {"part": "low", "radius": 2, "scale": "no"}}, "no component.scale 'no'"),
        ({"component": {"part": "low", "radius": 2, "strict": 1}}, "'component.strict' must be tr"),
        ({"mixup": {}, "adversarial": {"epsilon": 0.1}}, "either 'adversarial' or 'mixup', since"),
        (
            {"component": {"part": "low", "radius": 2}, "adversarial": {"epsilon": 0.1}},
            "either 'adversarial' or 'component', since the attack is on images with pixels in",
        ),
        ({"seeds": 0}, "'seeds' must be a whole number of at least 1; 0 was given"),
        ({"seeds": 3}, r"has 3 networks \('seeds'\), so that 2 files are needed .*; 0 were given"),
        ({"out_seeds": ["f"]}, "has 1 networks .*, so that 0 files .*; 1 were given"),
        ({"checkpoints": {"seed_2": 1}}, "checkpoint 'seed_2' of the recipe has a name for"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_mistakes_are_refused(dataset, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        train(dataset, tmp_path / "toy.safetensors", **RECIPE | change)


def test_datasets_that_cannot_be_trained_on_are_refused(tmp_path):
    out = tmp_path / "toy.safetensors"
    images = np.zeros((16, 1, 8, 8), np.uint8)
    some = write_dataset(tmp_path / "some.parquet", images, np.zeros(16))
    none = tmp_path / "none.parquet"
    store.write(none, store.read(some).slice(0, 0))
    with pytest.raises(UserError, match="has no rows"):
        train(none, out, **RECIPE)
    floats = write_dataset(tmp_path / "f.parquet", images.astype(np.float32), np.zeros(16))
    with pytest.raises(UserError, match="must be uint8, N x C x H x W; they are float32"):
        train(floats, out, **RECIPE)


def test_learning_rate_rises_for_a_quarter_and_falls_to_zero():
    rates = [learning_rate_at(step, 100, 0.2) for step in range(101)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[25] == max(rates) == pytest.approx(0.2)
    assert rates[100] == 0
    assert np.allclose(np.diff(rates, 2)[:24], 0)
    assert np.allclose(np.diff(rates, 2)[25:], 0)
    # No step of a run, however short, stands still.
    assert all(learning_rate_at(step, n, 0.2) > 0 for n in range(1, 9) for step in range(n))


def test_augment_moves_each_image_by_its_own_draw():
    images = torch.arange(1, 25, dtype=torch.uint8).reshape(2, 2, 2, 3)
    still = torch.tensor([[1, 1], [1, 1]])
    no = torch.tensor([False, False])
    assert torch.equal(augment(images, no, still, 1), images)
    moved = augment(images, torch.tensor([False, True]), torch.tensor([[2, 1], [1, 0]]), 1)
    assert moved[0].tolist() == [[[4, 5, 6], [0, 0, 0]], [[10, 11, 12], [0, 0, 0]]]
    # Moved right by one (0 13 14), then mirrored.
    assert moved[1].tolist() == [[[14, 13, 0], [17, 16, 0]], [[20, 19, 0], [23, 22, 0]]]
    assert torch.equal(augment(images, no, torch.zeros(2, 2, dtype=torch.int64), 0), images)


def by_hand(dataset: Path, **arguments) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Train in plain PyTorch, without augmentation, and return the network and its second half."""
    table = store.read(dataset)
    images = torch.from_numpy(store.images_of(table) / np.float32(255))
    labels = torch.from_numpy(table["label"].to_numpy().copy())
    with torch.random.fork_rng():
        torch.manual_seed(keys.derive(1, "initial_weights", "toy"))
        network = architectures.build(
            arguments["architecture"], classes=4, channels=1, sides=(8, 8)
        ).train()
    halves = [network, copy.deepcopy(network)]
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    rate, size = arguments["learning_rate"], arguments["batch_size"]
    if arguments["optimizer"] == "adam":
        optimizer = torch.optim.Adam(trained, betas=(0.8, 0.999), weight_decay=5e-4)
    elif arguments["optimizer"] in ADAPTIVE:
        optimizer = Adaptive(trained, arguments["optimizer"], stays=0.8, decay=5e-4)
    else:
        optimizer = torch.optim.SGD(trained, momentum=0.8, nesterov=True, weight_decay=5e-4)
    steps = arguments["epochs"] * 64 // size
    for step in range(steps):
        epoch, start = divmod(step * size, 64)
        order = torch.randperm(64, generator=keys.generator(1, "training", "toy", epoch))
        network.zero_grad()
        for half, rows in zip(halves, order[start : start + size].tensor_split(2), strict=True):
            x, y = images[rows], labels[rows]
            if arguments["adversarial"]:
                x = pgd_by_hand(half, x, y, epoch, rows.tolist(), **arguments["adversarial"])
            logits = half((x - 0.5) / 0.25)
            if arguments["loss"] == "mse":
                loss = (logits - torch.eye(4)[y]).square().sum(1).sum() / size
            else:
                loss = -logits.log_softmax(1)[range(len(y)), y].sum() / size
            wanted = [weight for weight in half.parameters() if weight.requires_grad]
            for weight, gradient in zip(trained, torch.autograd.grad(loss, wanted), strict=True):
                weight.grad = gradient if weight.grad is None else weight.grad + gradient
        for group in optimizer.param_groups:
            constant = arguments["schedule"] == "constant"
            group["lr"] = rate if constant else learning_rate_at(step, steps, rate)
        optimizer.step()
        for other, weight in zip(halves[1].parameters(), network.parameters(), strict=True):
            other.data.copy_(weight.data)
    return halves[0], halves[1]


ADAPTIVE = ("adagrad", "adadelta", "rmsprop")


class Adaptive:
    """AdaGrad, AdaDelta and RMSprop as their authors write them."""

    def __init__(self, trained, kind, *, stays, decay):
        self.trained, self.kind, self.stays, self.decay = trained, kind, stays, decay
        self.param_groups = [{}]
        self.squares = [torch.zeros_like(weight) for weight in trained]
        self.moves = [torch.zeros_like(weight) for weight in trained]

    @torch.no_grad()
    def step(self):
        rate, stays = self.param_groups[0]["lr"], self.stays
        for weight, square, move in zip(self.trained, self.squares, self.moves, strict=True):
            gradient = weight.grad + self.decay * weight
            if self.kind == "adagrad":
                square += gradient**2
                step = gradient / (square.sqrt() + 1e-10)
            else:
                square.copy_(stays * square + (1 - stays) * gradient**2)
                step = gradient / (square.sqrt() + 1e-8)
            if self.kind == "adadelta":
                step = gradient * ((move + 1e-6) / (square + 1e-6)).sqrt()
                move.copy_(stays * move + (1 - stays) * step**2)
            weight -= rate * step


def pgd_by_hand(network, clean, labels, epoch, rows, *, epsilon, steps, rel_stepsize):
    units = [
        torch.rand((1, 8, 8), generator=keys.generator(1, "adversarial_start", "toy", epoch, row))
        for row in rows
    ]
    network.eval()
    x = (clean + epsilon * (torch.stack(units) * 2 - 1)).clamp(0, 1)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(network((x - 0.5) / 0.25), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        x = x.detach() + rel_stepsize * epsilon * gradient.sign()
        x = (clean + (x - clean).clamp(-epsilon, epsilon)).clamp(0, 1)
    network.train()
    return x.detach()


PLAIN = {
    "architecture": "strided_resnet8",
    "optimizer": "sgd",
    "schedule": "triangle",
    "loss": "cross_entropy",
    "adversarial": None,
    "epochs": 2,
    "batch_size": 32,
    "learning_rate": 0.01,
}

PGD = {"epsilon": 0.2, "steps": 3, "rel_stepsize": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"optimizer": "adam", "learning_rate": 1e-3},
        {"optimizer": "adagrad"},
        {"optimizer": "adadelta", "learning_rate": 1.0},
        {"optimizer": "rmsprop", "learning_rate": 1e-3},
        {"schedule": "constant"},
        {"loss": "mse"},
        {"adversarial": PGD},
        {"architecture": "two_layer"},
        {
            "architecture": "strided_resnet8_no_batchnorm",
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "adversarial": PGD,
            "loss": "mse",
        },
    ],
    ids=lambda change: "-".join(map(str, change.values())) if change else "plain",
)
def test_trains_as_a_loop_written_by_hand(dataset, tmp_path, change, caller_state):
    torch.set_num_threads(1)
    out = tmp_path / "toy.safetensors"
    arguments = PLAIN | change
    train(dataset, out, **RECIPE | arguments | {"augmentation": {}, "momentum": 0.8})
    saved = safetensors.torch.load_file(out)
    network, other = by_hand(dataset, **arguments)
    for name, weight in network.named_parameters():
        torch.testing.assert_close(saved[name], weight.detach(), rtol=1e-3, atol=2e-5)
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            expected = (buffer + other.get_buffer(name)) / 2
            torch.testing.assert_close(saved[name], expected, rtol=1e-3, atol=1e-4)


def test_the_outer_layer_of_two_stays_as_it_was_drawn(dataset, tmp_path):
    out = tmp_path / "toy.safetensors"
    train(dataset, out, **RECIPE | {"architecture": "two_layer"})
    saved = safetensors.torch.load_file(out)
    with torch.random.fork_rng():
        torch.manual_seed(keys.derive(1, "initial_weights", "toy"))
        fresh = architectures.build("two_layer", classes=4, channels=1, sides=(8, 8))
    assert torch.equal(saved["outer.weight"], fresh.outer.weight)
    assert not torch.equal(saved["hidden.weight"], fresh.hidden.weight)


@pytest.mark.parametrize("name", ["strided_resnet8_no_batchnorm", "cifar_resnet110_no_batchnorm"])
def test_adam_trains_resnets_without_batchnorm(dataset, tmp_path, name):
    change = {"optimizer": "adam", "learning_rate": 1e-3, "augmentation": {}, "weight_decay": 0.0}
    epochs = 12 if "8" in name else 6
    history = train(
        dataset,
        tmp_path / "toy.safetensors",
        **RECIPE | change | {"architecture": name, "epochs": epochs},
    ).history.to_pandas()
    # Four classes at chance: 1.39.
    assert history["loss"].iloc[0] < 3
    assert history["loss"].iloc[-1] < 0.7


@pytest.mark.parametrize("mode", ["adversarial", "mse"])
def test_the_number_of_threads_never_shows(dataset, tmp_path, mode):
    change = {"optimizer": "adam", "architecture": "strided_resnet8"}
    change |= {"adversarial": PGD} if mode == "adversarial" else {"loss": "mse"}
    found = []
    for threads in (1, 2):
        out = tmp_path / f"{threads}.safetensors"
        train(dataset, out, **RECIPE | change, threads=threads)
        found.append(out.read_bytes())
    assert found[0] == found[1]


def test_a_checkpoint_is_a_run_that_ends_there(dataset, tmp_path):
    recipe = RECIPE | {"architecture": "strided_resnet8", "schedule": "constant"}
    whole, short = tmp_path / "whole.safetensors", tmp_path / "short.safetensors"
    kept = {name: tmp_path / f"{name}.safetensors" for name in ("start", "early", "one", "end")}
    train(
        dataset,
        whole,
        **recipe | {"epochs": 2},
        checkpoints={"start": 0, "early": 0.3, "one": 1, "end": 2},
        out_checkpoints=kept,
    )
    train(dataset, short, **recipe)
    assert kept["one"].read_bytes() == short.read_bytes()
    assert kept["end"].read_bytes() == whole.read_bytes() != short.read_bytes()
    with torch.random.fork_rng():
        torch.manual_seed(keys.derive(1, "initial_weights", "toy"))
        fresh = architectures.build("strided_resnet8", classes=4, channels=1).state_dict()
    start = safetensors.torch.load_file(kept["start"])
    assert all(torch.equal(start[name], fresh[name]) for name in start)
    # 0.3 epochs of four steps are one step.
    early = safetensors.torch.load_file(kept["early"])
    assert not torch.equal(early["conv1.weight"], start["conv1.weight"])


def test_an_attack_leaves_the_network_as_it_was(dataset):
    network = architectures.build("strided_resnet8", classes=4, channels=1).train()
    model = Pixels(network, [0.5], [0.25]).train()
    with torch.no_grad():
        network(torch.rand(8, 1, 8, 8))  # statistics that are not the first ones
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixels, labels = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    unit = torch.rand(6, 1, 8, 8) * 2 - 1
    found = loop._perturbed(model, pixels, labels, unit, Adversarial(epsilon=0.1, steps=2))
    assert 0.01 < (found - pixels).abs().max() <= 0.1 + 1e-6
    assert not found.requires_grad
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert all(module.training for module in model.modules())
    with pytest.raises(ZeroDivisionError), frozen(model):
        assert not any(weight.requires_grad for weight in model.parameters())
        assert not network.bn1.training
        _ = 1 / 0
    assert all(weight.requires_grad for weight in model.parameters())
    assert network.bn1.training


def test_log_odds_have_the_direction_of_the_cross_entropy_and_do_not_vanish():
    logits = torch.tensor([[1.0, 2.0, 0.5], [80.0, 0.0, -3.0]], requires_grad=True)
    labels = torch.tensor([1, 0])
    (odds,) = torch.autograd.grad(log_odds(logits, labels).sum(), logits)
    (entropy,) = torch.autograd.grad(F.cross_entropy(logits, labels, reduction="sum"), logits)
    wrong = 1 - logits.softmax(1)[0, 1]
    torch.testing.assert_close(odds[0] * wrong, entropy[0])
    assert entropy[1].norm() < 1e-30
    assert odds[1].norm() > 1


def test_a_recipe_is_a_mapping_and_back():
    mapping = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.1,
        "adversarial": {"epsilon": 0.1},
        "checkpoints": {"one": 1, "late": 2.6},
        "dropout": 0.5,
        "seeds": 2,
    }
    recipe = Recipe.of(mapping)
    assert recipe.adversarial == Adversarial(epsilon=0.1, steps=10, rel_stepsize=0.25)
    assert recipe.checkpoint_steps(10) == {"one": 10, "late": 26}
    assert Recipe.of(recipe.as_mapping()) == recipe
    with pytest.raises(UserError, match="hyper-parameter 'epochs' is missing"):
        Recipe.of({"batch_size": 8, "learning_rate": 0.1})
    with pytest.raises(UserError, match="no hyper-parameter 'epoch'.*did you mean 'epochs'"):
        Recipe.of(mapping | {"epoch": 8})
