"""Bad weights and images, end to end: the job fails with one sentence and leaves no output.

All kinds of them are cases of tests/models and tests/data; here they meet the
rules. Each run makes all of its bad files, since one failed job does not stop the others.
"""

import copy
import hashlib
import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import MODEL, build
from PIL import Image

from bandlimit.data import make
from bandlimit.files import store
from bandlimit.models import architectures


def logged(project, rule, name):
    """Return the one line that a failed job leaves in its log."""
    text = (project.folder / f"logs/{rule}/{name}.log").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


# Weights ----------------------------------------------------------------------------------------


class Touch:
    """Unpickled by a careless reader, this makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


WEIGHTS = {
    "html": ["is an HTML page"],
    "truncated": ["cut short"],
    "architecture": ["another architecture than 'cifar_resnet20'"],
    "code": ["would run code"],
    "checksum": ["0" * 64],
    "channels": ["a network of 3 channels, though 'shape' has 1"],
}


@pytest.fixture(scope="module")
def bad_weights(tmp_path_factory, tiny_data):
    project = build(tmp_path_factory.mktemp("bad_weights"), tiny_data)
    folder = project.folder / "weights"
    good = (folder / "a.th").read_bytes()
    (folder / "html.th").write_text("<!DOCTYPE html><html><body>404</body></html>" * 20)
    (folder / "truncated.th").write_bytes(good[: len(good) // 2])
    other = architectures.build("cifar_resnet32", classes=10, channels=1)
    torch.save(other.state_dict(), folder / "architecture.th")
    (folder / "code.th").write_bytes(pickle.dumps({"a": Touch(project.folder / "it ran")}))
    (folder / "checksum.th").write_bytes(good)
    three = architectures.build("cifar_resnet20", classes=10, channels=3)
    torch.save(three.state_dict(), folder / "channels.th")
    project.config["models"] |= {name: {"path": f"weights/{name}.th", **MODEL} for name in WEIGHTS}
    project.config["models"]["checksum"]["sha256"] = "0" * 64
    outputs = [f"results/models/{name}.safetensors" for name in WEIGHTS]
    project.done = project.run("--cores", "2", *outputs, "results/models/model_b.safetensors")
    project.sha256 = hashlib.sha256(good).hexdigest()
    return project


@pytest.mark.parametrize("name", WEIGHTS)
def test_bad_weights_are_refused_in_one_sentence(bad_weights, name):
    assert bad_weights.done.returncode != 0
    text = logged(bad_weights, "convert_model", name)
    assert [word for word in WEIGHTS[name] if word not in text] == []
    assert f"weights/{name}.th" in text
    # The user sees it without opening the log.
    assert text.removeprefix("ERROR ") in bad_weights.done.stdout
    assert not (bad_weights.folder / f"results/models/{name}.safetensors").exists()


def test_a_mismatched_checksum_names_both(bad_weights):
    text = logged(bad_weights, "convert_model", "checksum")
    assert bad_weights.sha256 in text
    assert "0" * 64 in text


def test_code_in_a_pickle_does_not_run(bad_weights):
    assert not (bad_weights.folder / "it ran").exists()


def test_good_weights_beside_bad_ones_are_converted(bad_weights):
    assert (bad_weights.folder / "results/models/model_b.safetensors").is_file()
    left = {path.name for path in bad_weights.results()}
    assert left == {"model_b.safetensors"}


# Images -----------------------------------------------------------------------------------------

IMAGES = {
    "empty": ["class 3", "has no image"],
    "unreadable": ["000.png"],
    "shape": ["1 x 14 x 28", "1 x 28 x 28"],
    "text": ["notes.txt", "is no image"],
    "classes": ["10", "11"],
    "labels": ["label", "10", "0..9"],
    "dtype": ["image"],
    "html": ["images.parquet"],
    "subset": ["21 images", "1 to 20"],
}


def own_parquet(path, images, labels):
    ids = [f"own/{i}" for i in range(len(labels))]
    if images.dtype == np.uint8:
        table = make.table(ids, labels, ["test"] * len(ids), images)
    else:
        table = pa.table(
            {
                "image_id": ids,
                "label": pa.array(labels, pa.int64()),
                "split": ["test"] * len(ids),
                "image": store.image_column(images),
            }
        )
    store.write(path, table)


@pytest.fixture(scope="module")
def bad_images(tmp_path_factory, tiny_data):
    import shutil

    project = build(tmp_path_factory.mktemp("bad_images"), tiny_data)
    good = project.folder / "own images"
    config = {}

    def folder(name, **entry):
        path = project.folder / "bad" / name
        shutil.copytree(good, path)
        config[name] = {"loader": "imagefolder", "path": f"bad/{name}", "classes": 10, **entry}
        return path

    def parquet(name):
        path = project.folder / "bad" / name / "images.parquet"
        path.parent.mkdir(parents=True)
        entry = {"loader": "parquet", "path": f"bad/{name}/images.parquet", "classes": 10}
        config[name] = entry
        return path

    for path in (folder("empty") / "class 3").iterdir():
        path.unlink()
    (folder("unreadable") / "class 0/000.png").write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    Image.fromarray(np.zeros((14, 28), np.uint8)).save(folder("shape") / "class 9/999.png")
    (folder("text") / "class 1/notes.txt").write_text("mine")
    folder("classes", classes=11)
    folder("subset", images=21)
    images = np.zeros((3, 1, 28, 28), np.uint8)
    own_parquet(parquet("labels"), images, [0, 10, 1])
    own_parquet(parquet("dtype"), images.astype(np.float32), [0, 1, 2])
    parquet("html").write_text("<html></html>")
    project.config = {**copy.deepcopy(project.config)}
    project.config["datasets"] = {**project.config["datasets"], **config}
    outputs = [f"results/datasets/{name}.parquet" for name in IMAGES]
    project.done = project.run("--cores", "2", *outputs, "results/datasets/tiny.parquet")
    return project


@pytest.mark.parametrize("name", IMAGES)
def test_bad_images_are_refused_in_one_sentence(bad_images, name):
    assert bad_images.done.returncode != 0
    text = logged(bad_images, "make_dataset", name)
    assert [word for word in IMAGES[name] if word not in text] == []
    assert text.removeprefix("ERROR ") in bad_images.done.stdout
    assert not (bad_images.folder / f"results/datasets/{name}.parquet").exists()


def test_good_images_beside_bad_ones_are_taken(bad_images):
    assert {path.name for path in bad_images.results()} == {"tiny.parquet"}


# A model that is not what it is said to be ------------------------------------------------------


def test_a_model_that_misses_its_accuracy_stops_the_run_before_any_attack(project):
    project.config["models"]["model_a"] |= {"gate_dataset": "tiny", "gate_accuracy": 0.999}
    done = project.run("results/adversarial/tiny/model_a/pgd/1of1.parquet")
    assert done.returncode != 0
    text = logged(project, "evaluate_undefended", "tiny/model_a/1of1")
    assert "'model_a'" in text
    assert "0.999" in text
    assert "nothing is attacked with it" in text
    assert not (project.folder / "results/adversarial").exists() or not list(
        project.folder.glob("results/adversarial/**/*.parquet")
    )
    assert not (project.folder / "logs/attack").exists() or not list(
        project.folder.glob("logs/attack/**/*.log")
    )
