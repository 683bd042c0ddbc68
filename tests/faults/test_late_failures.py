"""What fails when the long work of a job is done: another attempt goes on from there."""

import os
import runpy
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from bandlimit import stopping
from bandlimit.defenses.post_averaging import PostAveraging
from bandlimit.errors import MachineError
from bandlimit.files import parts, store
from bandlimit.provenance import job
from bandlimit.provenance.replay import Files
from bandlimit.studies.robustness import configured, symptoms
from bandlimit.training import loop

HOME = Path(__file__).parents[2]
CERTIFICATE = {"format": 3, "rule": "r", "versions": {"torch": "2"}, "device": "cpu"}
SHAPE = (1, 8, 8)
IMAGES = 20


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Keep each step, and run scripts on a stand-in for their job."""
    monkeypatch.setattr(stopping.Pace, "due", lambda self: True)
    monkeypatch.setattr(job, "run", lambda main, handed: main(handed))


def write_dataset(path):
    draws = np.random.default_rng(0)
    table = pa.table(
        {
            "image_id": [f"i{row}" for row in range(IMAGES)],
            "label": pa.array(np.arange(IMAGES) % 4, pa.int64()),
            "split": ["test"] * IMAGES,
            "image": store.image_column(draws.integers(0, 256, (IMAGES, *SHAPE), np.uint8)),
        }
    )
    store.write(path, table)
    return str(path)


def go(script, handed):
    """Run a script; return the bytes of what it has written."""
    runpy.run_path(str(HOME / "scripts" / script), {"snakemake": handed})
    return {name: Path(path).read_bytes() for name, path in handed.output.items()}


def fails(error):
    def what(*arguments, **named):
        raise error

    return what


class Linear(PostAveraging):
    """A defence of so many passes that does nothing; it counts the images that it judges."""

    shape, random, passes = SHAPE, False, 1

    def __init__(self):
        torch.nn.Module.__init__(self)
        weight = torch.randn((4, 64), generator=torch.Generator().manual_seed(3))
        self.register_buffer("weight", weight)
        self.judged, self.sizes = 0, []

    def samples(self):
        return self.passes

    def bind(self, image_ids, draw=0):
        return self

    def forward(self, x):
        self.sizes.append(len(x))
        return (x - 0.5).flatten(1) @ self.weight.T

    def predict(self, x, image_ids, draws, *, stop, error):
        self.judged += len(x)
        return self(x).argmax(dim=1).numpy()[:, None].repeat(len(draws), 1)


@pytest.fixture
def judging(tmp_path, monkeypatch):
    defense = Linear()
    monkeypatch.setattr(configured, "defenses", lambda *_: (defense, {"plain": defense}))
    outputs = {name: str(tmp_path / f"{name}.parquet") for name in ("judgements", "symptoms")}
    return defense, SimpleNamespace(
        params=SimpleNamespace(
            device="cpu", images=None, seed=1, draws=1, stop="all", error=0.1, sets=[]
        ),
        wildcards={"dataset": "d", "model": "m", "defense": "plain", "shard": "1of1"},
        input=Files({"dataset": write_dataset(tmp_path / "d.parquet"), "adversarial": []}),
        output=Files(outputs),
        parts=lambda written, device: parts.Parts(written, lambda: CERTIFICATE),
        certificate=lambda device: CERTIFICATE,
    )


@pytest.fixture
def judged(judging):
    """Return what a judge writes whom nothing disturbs, and forget all of it."""
    defense, handed = judging
    found = go("judge_defense.py", handed)
    for path in handed.output:
        os.unlink(path)
    defense.judged, defense.sizes = 0, []
    return found


@pytest.mark.parametrize(
    "error",
    [RuntimeError("an error"), MachineError("The memory does not suffice.")],
    ids=lambda error: type(error).__name__,
)
def test_symptoms_that_can_not_be_found_cost_no_judgement(judging, judged, monkeypatch, error):
    defense, handed = judging
    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(symptoms, "symptoms", fails(error))
        go("judge_defense.py", handed)
    # Not even begun, so that no later check could take it for what failed.
    assert not Path(handed.output["judgements"]).exists()
    assert defense.judged == IMAGES
    assert go("judge_defense.py", handed) == judged
    assert defense.judged == IMAGES


def test_symptoms_that_can_not_be_written_cost_no_judgement(judging, judged, monkeypatch):
    defense, handed = judging
    write = store.write

    def full(path, *arguments):
        if path == handed.output["symptoms"]:
            raise MachineError("The disk is full.")
        write(path, *arguments)

    with monkeypatch.context() as patched, pytest.raises(MachineError):
        patched.setattr(store, "write", full)
        go("judge_defense.py", handed)
    assert go("judge_defense.py", handed) == judged
    assert defense.judged == IMAGES


def test_a_judge_that_is_asked_to_stop_at_the_symptoms_keeps_its_steps(
    judging, judged, monkeypatch
):
    defense, handed = judging
    gradient = symptoms._gradient

    def asks(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return gradient(*arguments)

    with (
        monkeypatch.context() as patched,
        stopping.listening(),
        pytest.raises(stopping.Stopped, match="1 of its steps, is kept"),
    ):
        patched.setattr(symptoms, "_gradient", asks)
        go("judge_defense.py", handed)
    # Those of the second batch were not looked at.
    assert defense.sizes == [IMAGES] + [8] * 6
    assert go("judge_defense.py", handed) == judged
    assert defense.judged == IMAGES


@pytest.mark.parametrize(
    ("shape", "passes", "size"),
    [
        ((1, 8, 8), 1, 8),
        ((1, 8, 8), 512, 3),
        ((1, 8, 8), 9999, 1),
        ((1, 128, 8), 1, 4),
        ((1, 128, 8), 7, 2),
    ],
)
def test_gradients_of_large_images_or_many_passes_are_taken_of_fewer(
    judging, judged, monkeypatch, shape, passes, size
):
    defense, handed = judging
    defense.shape, defense.passes = shape, passes
    monkeypatch.setattr("bandlimit.data.stream.check_shape", lambda *_: None)
    assert go("judge_defense.py", handed) == judged
    assert max(defense.sizes[1:]) == size


@pytest.fixture
def training(tmp_path):
    files = ("model.safetensors", "history.parquet", "curves.parquet")
    dataset = write_dataset(tmp_path / "d.parquet")
    recipe = {
        "epochs": 2,
        "batch_size": 10,
        "learning_rate": 0.01,
        "curves": {
            "dataset": "d",
            "images": 4,
            "train_images": 4,
            "radii": [1],
            "every": 1,
        },
    }
    return SimpleNamespace(
        params=SimpleNamespace(
            device="cpu",
            seed=1,
            recipe=recipe,
            architecture="two_layer",
            classes=4,
            mean=[0.5],
            std=[0.25],
        ),
        wildcards={"trained": "m"},
        threads=1,
        input=Files({"dataset": dataset, "tested": dataset}),
        output=Files({Path(file).stem: str(tmp_path / file) for file in files}),
        certificate=lambda device: CERTIFICATE,
    )


@pytest.mark.parametrize("last", ["history", "curves"])
@pytest.mark.parametrize("error", [MachineError("The disk is full."), stopping.Stopped("now")])
def test_a_history_that_can_not_be_written_costs_no_training(training, monkeypatch, last, error):
    whole = go("train_model.py", training)
    for path in training.output:
        os.unlink(path)
    state = parts.state_of(training.output["model"])
    assert not state.exists()
    write = store.write

    def stops(path, *arguments):
        if path == training.output[last]:
            raise error
        write(path, *arguments)

    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(store, "write", stops)
        go("train_model.py", training)
    assert state.exists()
    with monkeypatch.context() as patched:
        patched.setattr(loop._Training, "_epoch", fails(AssertionError("it is trained again")))
        assert go("train_model.py", training) == whole
    assert not state.exists()
