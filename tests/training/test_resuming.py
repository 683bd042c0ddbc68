from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import pytest
import torch
import toy
from toy import RECIPE, train

from bandlimit import stopping
from bandlimit.errors import MachineError, UserError
from bandlimit.files import own_code
from bandlimit.training import loop, states, trajectories

pytest_plugins = ["toy"]


pytestmark = pytest.mark.usefixtures("kept_always")

ADAM = {"optimizer": "adam", "learning_rate": 1e-3}


def measurements() -> trajectories.Measurements:
    images, labels = toy.striped(8, seed=1)
    return trajectories.Measurements(
        image_ids=[f"other-{row}" for row in range(8)],
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        perturbations={"fgm": {"kind": "fgm_l2", "epsilon": 0.5}},
        radii=[2],
        every=3,
    )


class Stopped(Exception):
    pass


class Run:
    """A training in a folder of its own, that can be stopped after an epoch, or batches beyond."""

    def __init__(self, folder: Path, dataset: Path, **change) -> None:
        folder.mkdir()
        self.folder, self.dataset = folder, dataset
        self.state = folder / "state.safetensors"
        kept = {"start": 0, "middle": 1.25}
        self.recipe = RECIPE | {"architecture": "strided_resnet8", "epochs": 3} | change
        self.recipe |= {"checkpoints": kept}
        self.files = {name: folder / f"{name}.safetensors" for name in kept}

    def go(self, **change):
        found = train(
            self.dataset,
            self.folder / "toy.safetensors",
            **self.recipe | change,
            out_checkpoints=self.files,
            resume=self.state,
            measurements=measurements(),
        )
        states.remove(self.state)
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        return files, found.history.to_pylist(), found.trajectory.to_pylist()

    def stop_after(
        self, epoch: int, monkeypatch: pytest.MonkeyPatch, batches: int = 0, **change
    ) -> None:
        saved = states.save

        def save(path, identity, progress, tensors):
            saved(path, identity, progress, tensors)
            if (progress.epochs, progress.batches) == (epoch, batches):
                raise Stopped

        with monkeypatch.context() as patched:
            patched.setattr(states, "save", save)
            with pytest.raises(Stopped):
                self.go(**change)


def no_batch(*arguments):
    pytest.fail("a batch was trained again")


def test_outputs_that_can_not_be_written_cost_no_batch(dataset, tmp_path, monkeypatch, caplog):
    whole = Run(tmp_path / "whole", dataset).go()
    run = Run(tmp_path / "run", dataset)

    def full(*arguments, **named):
        raise MachineError("The disk is full.")

    for module, name in ((loop.weights, "save"), (states, "remove")):
        with monkeypatch.context() as patched, pytest.raises(MachineError):
            patched.setattr(module, name, full)
            run.go()
        # From here on all batches are done.
        monkeypatch.setattr(loop._Training, "_gradients", no_batch)
    with caplog.at_level(logging.INFO, logger="bandlimit.training.loop"):
        assert run.go() == whole
    assert "model toy was trained to the end by an earlier attempt" in caplog.text


def test_a_training_of_seconds_leaves_no_trace_on_the_way(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping.Pace, "due", lambda self: False)
    monkeypatch.setattr(states, "save", no_batch)
    Run(tmp_path / "run", dataset).go()


RARE = {"learning_rate": 0.01, "architecture": "small_cnn", "mixup": {}, "dropout": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {},
        ADAM,
        {"momentum": 0.0},
        {**RARE, "optimizer": "adagrad"},
        {**RARE, "optimizer": "adadelta"},
        {**RARE, "optimizer": "rmsprop", "component": {"part": "low", "radius": 2}},
    ],
    ids=["sgd", "adam", "plain", "adagrad", "adadelta", "rmsprop"],
)
def test_a_stopped_run_ends_in_the_same_bytes(dataset, tmp_path, monkeypatch, caplog, change):
    whole = Run(tmp_path / "whole", dataset, **change).go()
    assert whole[0].keys() == {"toy.safetensors", "start.safetensors", "middle.safetensors"}
    stopped = Run(tmp_path / "stopped", dataset, **change)
    for epoch, batches in ((0, 1), (1, 0), (1, 3), (2, 0), (3, 0)):
        stopped.stop_after(epoch, monkeypatch, batches)
        # Nothing but the state appears before the end.
        assert [path.name for path in stopped.folder.iterdir()] == ["state.safetensors"]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="bandlimit.training.loop"):
        assert stopped.go() == whole
    said = [record.getMessage() for record in caplog.records if record.name == loop.__name__]
    assert said == ["model toy goes on after epoch 3 of 3"]
    assert [row["step"] for row in whole[2]] == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("change", [{"seed": 2}, {"learning_rate": 0.01}, {"model_name": "other"}])
def test_a_state_of_another_training_is_not_taken_up(
    dataset, tmp_path, monkeypatch, caplog, change
):
    whole = Run(tmp_path / "whole", dataset).go()
    run = Run(tmp_path / "run", dataset)
    run.stop_after(2, monkeypatch, **change)
    with caplog.at_level(logging.INFO, logger="bandlimit.training"):
        assert run.go() == whole
    assert any("of another training" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("damage", ["bit", "cut", "text", "empty"])
def test_a_damaged_state_is_not_taken_up(dataset, tmp_path, monkeypatch, caplog, damage):
    whole = Run(tmp_path / "whole", dataset).go()
    run = Run(tmp_path / "run", dataset)
    run.stop_after(1, monkeypatch)
    content = bytearray(run.state.read_bytes())
    if damage == "bit":
        content[-1000] ^= 1
    content = {"cut": content[:-1000], "text": b"a state", "empty": b""}.get(damage, content)
    run.state.write_bytes(content)
    with caplog.at_level(logging.INFO, logger="bandlimit.training"):
        assert run.go() == whole
    said = [record.getMessage() for record in caplog.records]
    assert any("is damaged and not used" in line for line in said)
    assert not any("goes on" in line for line in said)


def test_half_states_of_killed_attempts_are_removed(dataset, tmp_path):
    run = Run(tmp_path / "run", dataset)
    (run.folder / ".state.0123456789ab.safetensors").write_bytes(b"half")
    assert run.go()[0].keys() == {"toy.safetensors", "start.safetensors", "middle.safetensors"}


NET = """
from torch import nn


def build(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, classes), nn.{last}())
"""


def test_a_state_of_other_code_of_the_user_is_not_taken_up(dataset, tmp_path, monkeypatch, caplog):
    (tmp_path / "net.py").write_text(NET.format(last="Identity"))
    source = f"{tmp_path / 'net.py'}:build"
    run = Run(tmp_path / "run", dataset, architecture=source, own_code=code_of(source))
    run.stop_after(1, monkeypatch)
    (tmp_path / "net.py").write_text(NET.format(last="Tanh"))
    with pytest.raises(UserError, match="other code: .*net.py' was changed since"):
        run.go()
    with caplog.at_level(logging.INFO, logger="bandlimit.training"):
        found = run.go(own_code=code_of(source))
    assert any("of another training" in record.getMessage() for record in caplog.records)
    whole = Run(tmp_path / "whole", dataset, architecture=source, own_code=code_of(source)).go()
    assert found == whole


def code_of(source):
    return own_code.files(source, "here")


def test_what_a_state_is_of_depends_on_all_that_decides_the_result(dataset, tmp_path):
    images, labels = toy.striped(64)
    images[0, 0, 0, 0] ^= 1
    other = toy.write_dataset(tmp_path / "other.parquet", images, labels)
    found = []

    def keep(path, identity, progress, tensors):
        found.append(identity)
        raise Stopped

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(states, "save", keep)
        card = {"code": {"loop": "a"}, "versions": {"numpy": "2"}, "device": "a card"}
        for data, measured, change in (
            (dataset, None, {}),
            (other, None, {}),
            (dataset, measurements(), {}),
            (dataset, None, {"code": {"loop": "b"}}),
            (dataset, None, {"versions": {"numpy": "3"}}),
            (dataset, None, {"device": "another card"}),
            # Which says nothing of the result.
            (dataset, None, {"commit": "b"}),
        ):
            recipe = RECIPE | {"architecture": "two_layer", "certificate": card | change}
            with pytest.raises(Stopped):
                out = tmp_path / "toy.safetensors"
                train(data, out, **recipe, resume=tmp_path / "state", measurements=measured)
    assert len(set(found)) == 6 and found[-1] == found[0]


def test_a_training_that_is_asked_to_stop_goes_on_to_the_same_bytes(dataset, tmp_path, monkeypatch):
    whole = Run(tmp_path / "whole", dataset).go()
    # No other reason to keep anything.
    monkeypatch.setattr(stopping.Pace, "due", lambda self: False)
    run = Run(tmp_path / "run", dataset)
    ended = loop._Training._end_epoch

    def end(self, epoch, rate):
        ended(self, epoch, rate)
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched, stopping.listening():
        patched.setattr(loop._Training, "_end_epoch", end)
        with pytest.raises(stopping.Stopped, match="after 2 epochs and 0 batches .* is kept"):
            run.go()
    assert [path.name for path in run.folder.iterdir()] == ["state.safetensors"]
    assert run.go() == whole


def test_a_batch_beyond_the_memory_is_one_sentence(dataset, tmp_path, monkeypatch):
    def forward(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(loop._Training, "_forward_and_backward", forward)
    with pytest.raises(MachineError, match="train the model 'toy' on batches of .*another recipe"):
        Run(tmp_path / "run", dataset).go()
