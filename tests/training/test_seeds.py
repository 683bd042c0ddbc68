"""Several networks by one recipe."""

from __future__ import annotations

import logging

import pytest
from toy import RECIPE, train

from bandlimit.training import loop, states

pytest_plugins = ["toy"]

SMALL = RECIPE | {"architecture": "small_cnn", "epochs": 2}


def go(folder, dataset, **change):
    """Train three networks and return all files, and the history."""
    folder.mkdir(exist_ok=True)
    found = train(
        dataset,
        folder / "toy.safetensors",
        **SMALL | {"seeds": 3, "checkpoints": {"start": 0}} | change,
        out_checkpoints={"start": folder / "start.safetensors"},
        out_seeds=[folder / f"{number}.safetensors" for number in (2, 3)],
        resume=folder / "state",
    )
    states.remove(folder / "state")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files, found.history.to_pylist()


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    return go(tmp_path_factory.mktemp("seeds") / "whole", dataset)


def test_the_first_is_the_network_of_one_seed(dataset, whole, tmp_path):
    files, history = whole
    out, start = tmp_path / "toy.safetensors", tmp_path / "start.safetensors"
    checkpoints = {"checkpoints": {"start": 0}, "out_checkpoints": {"start": start}}
    one = train(dataset, out, **SMALL, **checkpoints).history.to_pylist()
    assert out.read_bytes() == files["toy.safetensors"]
    assert start.read_bytes() == files["start.safetensors"]
    assert one == [row for row in history if row["seed"] == 1]


def test_further_ones_are_networks_of_their_own_names(dataset, whole, tmp_path):
    files, history = whole
    assert set(files) == {f"{name}.safetensors" for name in ("toy", "start", 2, 3)}
    assert len(set(files.values())) == 4
    assert [(row["seed"], row["epoch"]) for row in history] == [
        (seed, epoch) for seed in (1, 2, 3) for epoch in (1, 2)
    ]
    for number in (2, 3):
        out = tmp_path / f"{number}.safetensors"
        train(dataset, out, **SMALL | {"model_name": f"toy_seed_{number}"})
        assert out.read_bytes() == files[out.name]


@pytest.mark.usefixtures("kept_always")
@pytest.mark.parametrize("last", [1, 2, 3, 4, 5])
def test_a_stopped_job_goes_on_in_the_network_where_it_stopped(
    dataset, whole, tmp_path, monkeypatch, caplog, last
):
    class Stopped(Exception):
        pass

    saved, times = states.save, []

    def save(path, identity, progress, tensors):
        saved(path, identity, progress, tensors)
        # At the ends of epochs.
        times.extend([1] * (progress.batches == 0))
        if len(times) == last and progress.batches == 0:
            raise Stopped

    with monkeypatch.context() as patched, pytest.raises(Stopped):
        patched.setattr(states, "save", save)
        go(tmp_path / "stopped", dataset)
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["state"]
    with caplog.at_level(logging.INFO, logger=loop.__name__):
        assert go(tmp_path / "stopped", dataset) == whole
    name = {1: "toy", 2: "toy", 3: "toy_seed_2", 4: "toy_seed_2", 5: "toy_seed_3"}[last]
    said = [record.getMessage() for record in caplog.records if record.name == loop.__name__]
    assert said[0] == f"model {name} goes on after epoch {2 - last % 2} of 2"
    # What was done is not done again.
    assert len(said) == 1 + 6 - last
