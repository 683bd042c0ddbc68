"""A tiny project and one finished run of it, which the tests of the workflow share."""

from __future__ import annotations

import copy
import fcntl
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).parents[1]
CODE = (
    "CITATION.cff",
    "LICENSE",
    "README.md",
    "Snakefile",
    "bandlimit",
    "config.yaml",
    "envs",
    "profiles",
    "requirements.lock",
    "scripts",
    "workflow",
)
FOLDER = "läuft überall"
"""Name of the project's folder: a path with a space and letters beyond ASCII works."""

MODEL = {
    "architecture": "cifar_resnet20",
    "classes": 10,
    "shape": [1, 28, 28],
    "mean": [0.286],
    "std": [0.353],
}
CONFIG = {
    "device": "cpu",
    "datasets": {"tiny": {"loader": "imagefolder", "path": "own images", "classes": 10}},
    "models": {
        "model_a": {"path": "weights/a.th", **MODEL},
        "model_b": {"path": "weights/b.th", **MODEL},
    },
    "only": ["model_a", "model_b"],
    "experiments": {
        "model_a": {
            "dataset": "tiny",
            "model": "model_a",
            "document": "CIFAR-10",
            "stand_in": True,
            "epsilon": "8/255",
            "attacks": {
                "fgsm_minimal": {"max_epsilon": 0.1},
                "pgd_minimal": {"steps": 5, "binary_search_steps": 4},
                "pgd": {"steps": 3, "epsilons": ["8/255"]},
            },
        },
        "model_b": {
            "dataset": "tiny",
            "model": "model_b",
            "attacks": {"fgsm_minimal": {"max_epsilon": 0.1}},
        },
    },
    "bandlimiting": {
        "epsilons": ["4/255", "8/255", "16/255"],
        "experiments": {
            "model_a": {
                "radius": 2,
                "directions": 3,
                "draws": 2,
                "radii": [1, 2, 4],
                "directions_sweep": [2, 3],
                "crossings": ["pgd_minimal"],
                "samplers": ["random", "last_layer"],
            },
            "model_b": {"radius": 2, "directions": 2},
        },
        "theory": {"segments": 4},
        "timing": {"seconds": 0.3},
    },
    # Mappings merge with those of config.yaml, so that attacks here bear names of their own.
    "defenses": {
        "post_averaging_fixed": {"kind": "post_averaging", "draws": "fixed", "directions": 2},
        "other_model": {"kind": "other_model", "model": "model_b"},
    },
    "robustness": {
        "experiments": {
            "model_a": {
                "images": 8,
                "defenses": ["post_averaging", "post_averaging_fixed", "low_pass"],
                "attacks": [
                    "one_step",
                    "many_steps",
                    "blind",
                    "averaged",
                    "exact",
                    "in_band",
                    "black_box",
                    "suite",
                    "confident",
                ],
                "controls": ["undefended", "post_averaging", "flip", "noise_1", "other_model"],
                "scaled": ["pgd_minimal"],
            },
        },
        "epsilons": ["8/255", "32/255"],
        "draws": 2,
        "control_draws": 2,
        "factors": [1, 2],
        "attacks": {
            "one_step": {"kind": "fgsm", "against": ["undefended"]},
            "many_steps": {"kind": "pgd", "against": ["undefended", "other_model"], "steps": 3},
            "blind": {"kind": "noise", "against": ["low_pass"], "draws": 1},
            "averaged": {
                "kind": "eot_pgd",
                "against": ["post_averaging"],
                "steps": 2,
                "samples": 1,
                "restarts": 2,
            },
            "exact": {
                "kind": "eot_pgd",
                "against": ["post_averaging_fixed"],
                "steps": 2,
                "samples": None,
            },
            "in_band": {"kind": "eot_pgd", "against": ["low_pass"], "steps": 2, "band": True},
            "black_box": {
                "kind": "square",
                "against": ["post_averaging_fixed"],
                "queries": 5,
                "epsilons": ["8/255"],
                "images": 2,
            },
            "suite": {
                "kind": "autoattack",
                "against": ["undefended"],
                "steps": 2,
                "queries": 3,
                "targets": 1,
                "epsilons": ["8/255"],
                "images": 2,
            },
            "confident": {
                "kind": "carlini_wagner_l2",
                "against": ["undefended"],
                "confidences": [0, 1],
                "binary_search_steps": 1,
                "steps": 3,
            },
        },
    },
}
"""Two models on one dataset, all kinds of attacks and settings, and as little of each as shows."""


_FOLLOWED = {"dataset": "tiny", "images": 6, "every": 4, "radii": [4, 7], "steps": 2}
_RECIPE = {"dataset": "tiny_train", "epochs": 2, "batch_size": 8}
_CURVES = {"dataset": "tiny", "images": 12, "train_images": 10, "radii": [4], "train_radii": [4]}
_SMALL = {
    **_RECIPE,
    "architecture": "small_cnn_no_batchnorm",
    "optimizer": "adam",
    "learning_rate": 0.002,
    "seeds": 2,
    "curves": _CURVES,
}
_LOW = {"component": {"part": "low", "radius": 4}}
_LEARNING = {"frequencies": [1, 2, 3], "samples": 16, "steps": 20, "records": 5, "seeds": 2}
_NARROW = {"width": 8, "depth": 2}
_PAIR = {"dataset": "tiny_pair", "classes": [0, 1], "width": 8, "steps": 20, "replicates": 2}
TRAINED = {
    "device": "cpu",
    "datasets": {
        "tiny": {"loader": "imagefolder", "path": "own images", "classes": 10},
        "tiny_train": {
            "loader": "imagefolder",
            "path": "training images",
            "classes": 10,
            "shape": [1, 28, 28],
        },
        "tiny_shuffled": {
            "loader": "imagefolder",
            "path": "training images",
            "classes": 10,
            "shape": [1, 28, 28],
            "shuffle_labels": True,
        },
        "tiny_pair": {"loader": "imagefolder", "path": "images of two", "classes": 2},
        # So few images are no gate.
        "fashion_mnist_test": {"images": 5},
    },
    "training": {
        "fashion_mnist_resnet8": {**_RECIPE, "trajectory": _FOLLOWED},
        "fashion_mnist_resnet8_adversarial": {**_RECIPE, "adversarial": {"steps": 2}},
        "fashion_mnist_resnet8_mse": _RECIPE,
        "small": {**_SMALL, "responses": {"images": 40}},
        "small_gaussian": {**_SMALL, "seeds": 1, "augmentation": {"noise": 0.1}},
        "small_low": {**_SMALL, **_LOW},
        "small_high": {**_SMALL, "component": {"part": "high", "radius": 4}},
        "small_batchnorm": {**_SMALL, "architecture": "small_cnn"},
        "small_batchnorm_low": {**_SMALL, **_LOW, "architecture": "small_cnn"},
        "small_robust": {**_SMALL, "adversarial": {"epsilon": "8/255", "steps": 2}, "dropout": 0.5},
        "small_shuffled": {**_SMALL, "dataset": "tiny_shuffled", "mixup": {"alpha": 0.5}},
        "small_batch": {**_SMALL, "batch_size": 20, "optimizer": "rmsprop"},
    },
    "only": ["trained", "small"],
    "experiments": {
        "small": {
            "dataset": "tiny",
            "model": "small",
            "stand_in": True,
            "epsilon": "16/255",
            "attacks": {"fgsm_minimal": {}},
        },
        "trained": {
            "dataset": "tiny",
            "model": "fashion_mnist_resnet8",
            "stand_in": True,
            "epsilon": "16/255",
            # No study here asks for them.
            "attacks": {"fgsm_minimal": {}},
        },
    },
    "perturbation_spectra": {
        "experiments": {
            "trained": {
                "networks": [
                    "fashion_mnist_resnet8_adversarial",
                    "fashion_mnist_resnet8_mse",
                ],
                "images": 12,
                "radii": [4, 7],
                "radius": 7,
                "cutoffs": [2, 7, 19],
            }
        },
        "perturbations": {"pgd_l2": {"steps": 3}, "pgd_linf": {"steps": 3}},
        "low_pass": {"aware_steps": 2},
    },
    "high_frequency": {
        "experiments": {
            "small": {
                "radii": [4],
                "images": 8,
                "labels": {"true": "small", "shuffled": "small_shuffled"},
                "components": ["small_low", "small_high"],
                "batchnorm": ["small_batchnorm", "small_batchnorm_low"],
                "heuristics": ["small_batchnorm", "small_robust"],
                "batch_sizes": {
                    "equal_epochs": ["small", "small_batch"],
                    "equal_updates": ["small", "small_batch"],
                },
                "robust": "small_robust",
            }
        },
        "smoothing": {"rhos": [1], "epsilons": [0.06, 0.09], "images": 6, "steps": 2},
    },
    "frequency_principle": {
        "experiments": {
            "small": {
                "networks": ["small_gaussian"],
                "filtered": ["small_low"],
                "images": 8,
                "norm": 14,
                "norms": [4],
                "stride": 7,
                "corruptions": ["gaussian_noise", "fog", "contrast"],
                "bandwidths": [3],
                "high_pass": 23,
                "followed": ["small"],
            }
        },
        "projection": {"highest": 10},
        "filtering": {"widths": [5], "images": 20},
        "simulations": {
            "one_dimension": {**_LEARNING, "hidden": [8]},
            "sinusoids": {**_LEARNING, **_NARROW, "directions": 2, "norms": 3},
            "manifolds": {
                **_LEARNING,
                **_NARROW,
                "turns": [0, 4],
                "classification": {"frequency": 4, "samples": 32, "steps": 20, "pixels": 8},
            },
            "gradients": {"deltas": [4, 1], "frequencies": [[1, 2]], "draws": 200, "seeds": 2},
            "linear_principle": {
                "neurons": [20, 40],
                "steps": {"line": 20, "xor": 20},
                "seeds": 2,
            },
            "label_noise": {
                **_PAIR,
                "images": 8,
                "validation_images": 4,
                "frequencies": [0.05, 1],
            },
            "kernel": {**_PAIR, "images": 20, "validation_images": 4, "bins": 2, "points": 10},
        },
    },
}
"""Networks that are trained for an epoch or two, and the studies that ask most of training."""


FIRST = (
    "tests/cluster/test_cluster.py",
    "tests/workflow/test_new_study.py",
    "tests/faults/test_inputs.py",
    "tests/workflow/test_trained.py",
)
"""Tests that make runs of their own."""

LAST = ("tests/workflow/test_determinism.py", "tests/faults/test_interruption.py")
"""Tests that compare other runs with the run that all share, and only read it."""


def _group(nodeid: str) -> str:
    """Return what stays on one worker: tests of one run, or of one file."""
    name = nodeid.split("::")[0]
    if name in LAST:
        return "compared runs"
    return "shared run" if name.startswith("tests/workflow/") and name not in FIRST else name


def pytest_collection_modifyitems(items):
    """Begin with the longest tests, those of the shared run; what waits for that run comes last."""
    order = ["shared run", *FIRST]
    items.sort(
        key=lambda item: (
            order.index(group)
            if (group := _group(item.nodeid)) in order
            else len(order) + (group == "compared runs")
        )
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Begin each test with the same random numbers, whatever ran before it."""
    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep a group on one worker."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Scheduling(config, log)


class Project:
    """A copy of the code in a folder of its own, with its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = copy.deepcopy(CONFIG)
        self.left: list[Path] = []
        """Results that a killed run left."""
        self.again: subprocess.CompletedProcess[str] | None = None
        """The run after it."""

    def command(self, *arguments: str, config: dict | None = None) -> list[str]:
        """Return a command line of Snakemake; a config of None is the project's own."""
        path = self.folder / "overlay.yaml"
        path.write_text(yaml.safe_dump(config or self.config), encoding="utf-8")
        cores = () if "--cores" in arguments else ("--cores", "2")
        start = [sys.executable, "-m", "snakemake", "--configfile", path.name]
        return [*start, *cores, *arguments]

    def environment(self) -> dict[str, str]:
        """Return the environment of a run, in which two jobs do not wait for each other."""
        drop = ("SNAKEMAKE_PROFILE", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if name not in drop}
        return {**kept, "OMP_WAIT_POLICY": "passive", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *arguments: str, config: dict | None = None) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end; standard output and standard error come as one text."""
        return subprocess.run(
            self.command(*arguments, config=config),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=900,
        )

    def complete(self, *arguments: str, config: dict | None = None) -> None:
        """Run Snakemake, and fail the test with its output where it fails."""
        done = self.run(*arguments, config=config)
        assert done.returncode == 0, f"{done.stdout[-6000:]}\n{self.logs()}"

    def logs(self) -> str:
        """Return what failed jobs wrote to their logs."""
        texts = (path.read_text(encoding="utf-8") for path in self.folder.glob("logs/**/*.log"))
        return "\n".join(text[-3000:] for text in texts if "ERROR" in text)

    def plan(self, config: dict | None = None) -> dict[str, str]:
        """Return the outputs that a run would make, each with its rule."""
        return self.plan_of(config=config)

    def plan_of(self, *targets: str, config: dict | None = None) -> dict[str, str]:
        """Return the outputs that a run of some targets would make, each with its rule."""
        done = self.run("--summary", *targets, config=config)
        assert done.returncode == 0, done.stdout[-3000:]
        lines = [line.split("\t") for line in done.stdout.splitlines()]
        head = next(cells for cells in lines if cells[0] == "output_file")
        rows = [dict(zip(head, cells, strict=True)) for cells in lines if len(cells) == len(head)]
        return {row["output_file"]: row["rule"] for row in rows[1:] if row["plan"] != "no update"}

    def jobs(self, config: dict | None = None) -> Counter[str]:
        """Return how many jobs of each rule a run would start, by the table of a dry-run."""
        done = self.run("--dry-run", config=config)
        assert done.returncode == 0, done.stdout[-3000:]
        if "Nothing to be done" in done.stdout:
            return Counter()
        table = done.stdout.rpartition("Job stats:")[2].partition("\n\n")[0].split("\n")[3:]
        cells = (line.split() for line in table if line.strip())
        return Counter({rule: int(count) for rule, count in cells if rule not in ("all", "total")})

    @contextmanager
    def edited(self, name: str, edit):
        """Change the text of a file by a function; afterwards it is as it was, and as old."""
        path = self.folder / name
        before, times = path.read_bytes(), path.stat()
        changed = edit(before.decode("latin-1")).encode("latin-1")
        assert changed != before
        path.write_bytes(changed)
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    def results(self) -> list[Path]:
        """Return all files of results that carry certificates, relative to the project.

        That is all but benchmarks, the research object, which has metadata of its own, and the
        marks that Snakemake puts into folders.
        """
        paths = (self.folder / "results").rglob("*")
        names = (path.relative_to(self.folder) for path in paths if path.is_file())
        return sorted(
            name
            for name in names
            if name.parts[1] != "benchmarks"
            and not name.as_posix().startswith("results/provenance/ro-crate")
            and name.name != ".snakemake_timestamp"
        )


def build(parent: Path, data: Path) -> Project:
    """Copy the code and the data of the tiny project into a folder."""
    folder = parent / FOLDER
    folder.mkdir(parents=True)
    for name in CODE:
        source = HOME / name
        if source.is_dir():
            shutil.copytree(
                source,
                folder / name,
            )
        else:
            shutil.copy2(source, folder / name)
    shutil.copytree(data, folder, dirs_exist_ok=True)
    return Project(folder)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Return a folder with 20 images of Fashion-MNIST by class and two briefly fitted ResNets.

    Beside them lie 40 other images to train on, and 12 of each of two classes.
    """
    import numpy as np
    import torch
    from PIL import Image

    from bandlimit.files import store
    from bandlimit.models import architectures

    folder = tmp_path_factory.mktemp("data")

    def shipped(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        table = store.read(HOME / f"data/fashion_mnist/{split}.parquet").slice(0, count)
        return store.images_of(table), table["label"].to_numpy()

    for split, parent, count, classes in (
        ("test", "own images", 2, range(10)),
        ("train", "training images", 4, range(10)),
        ("train", "images of two", 12, (3, 8)),
    ):
        images, labels = shipped(split, 200)
        for label in classes:
            place = folder / f"{parent}/class {label}"
            place.mkdir(parents=True)
            for row in np.flatnonzero(labels == label)[:count]:
                Image.fromarray(images[row, 0]).save(place / f"{row:03d}.png")

    images, labels = shipped("train", 400)
    x = (torch.from_numpy(images.copy()) / 255 - MODEL["mean"][0]) / MODEL["std"][0]
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels.copy()), 10).float()
    (folder / "weights").mkdir()
    for seed, name in enumerate("ab"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = architectures.build(MODEL["architecture"], classes=10, channels=1)
        _fit_last_layer(network, x, one_hot)
        torch.save(network.state_dict(), folder / f"weights/{name}.th")
    return folder


def _fit_last_layer(network, x, one_hot) -> None:
    """Fit the last layer of a random network by ridge regression: right on half of the images."""
    import torch

    features = []
    last = next(m for m in reversed(list(network.modules())) if isinstance(m, torch.nn.Linear))
    hook = last.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
        network.eval()(x)
        hook.remove()
        inputs = torch.cat([features[-1], torch.ones(len(x), 1)], dim=1)
        square = inputs.T @ inputs + 0.1 * torch.eye(inputs.shape[1])
        weights = torch.linalg.solve(square, inputs.T @ one_hot) * 20
        last.weight.copy_(weights[:-1].T)
        last.bias.copy_(weights[-1])


@pytest.fixture
def project(tmp_path, tiny_data) -> Project:
    """Return a project of which nothing has been run."""
    return build(tmp_path, tiny_data)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_data) -> Project:
    """Return the project after a complete run. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("tiny_run")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        project = build(folder, tiny_data)
        project.complete()
        return project
    # The first worker that needs the run makes it, and each works on a copy of its own.
    common = tmp_path_factory.getbasetemp().parent / "tiny_run"
    with open(f"{common}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (common / "complete").exists():
            build(common, tiny_data).complete()
            (common / "complete").touch()
    shutil.copytree(common / FOLDER, folder / FOLDER, symlinks=True)
    return Project(folder / FOLDER)


RESUMED = (
    "results/tables/bandlimiting/table_1.parquet",
    "results/tables/bandlimiting/table_2.parquet",
    "results/tables/bandlimiting/equation_6.parquet",
    "results/figures/bandlimiting/figure_1.png",
    "results/figures/bandlimiting/figure_2.png",
    "results/tables/robustness/robust_accuracy.parquet",
    "results/figures/robustness/figure_scaling.png",
)
"""What the second run makes: the whole path from images to pictures, less what is like it."""


@pytest.fixture(scope="session")
def resumed_run(tmp_path_factory, tiny_data) -> Project:
    """Return the project after a run elsewhere that was killed, and then run again on one core."""
    project = build(tmp_path_factory.mktemp("resumed_run"), tiny_data)
    running = subprocess.Popen(
        project.command(*RESUMED),
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not list(project.folder.glob("results/adversarial/**/*.parquet")):
            assert running.poll() is None, project.logs()
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        # Nobody is asked first: neither Snakemake nor the job it runs can clean up.
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    project.left = project.results()
    project.again = project.run("--cores", "1", *RESUMED)
    if "--unlock" in project.again.stdout:
        project.complete("--unlock")
        project.complete("--cores", "1", *RESUMED)
    return project
