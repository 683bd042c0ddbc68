"""One's own run: its configuration lies elsewhere, a notebook starts it, results are copied."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import CONFIG, HOME, build
from PIL import Image

from bandlimit.models import architectures
from bandlimit.plan import last
from bandlimit.provenance import audit

FIGURE = "results/figures/bandlimiting/figure_2.png"
JUDGEMENTS = "results/judgements/tiny/model_a/mirrored/1of1.parquet"
OWN = "own_code/mirrored.py"
NOTEBOOK = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
EXPERIMENT = {
    **CONFIG["experiments"]["model_a"],
    # Not in alphabetical order: rows follow it.
    "attacks": {
        "pgd_minimal": {"steps": 2, "binary_search_steps": 2},
        "fgsm_minimal": {"max_epsilon": 0.1},
    },
}
OVERLAY = {
    **{name: CONFIG[name] for name in ("device", "datasets", "models")},
    "only": ["model_a"],
    "experiments": {"model_a": EXPERIMENT},
    "bandlimiting": {
        "epsilons": ["8/255"],
        "experiments": {"model_a": {"radius": 2, "directions": 2, "draws": 1}},
        "theory": {"segments": 4},
    },
    "defenses": {"mirrored": {"kind": "python", "source": f"{OWN}:Mirrored"}},
    "robustness": {
        "experiments": {
            "model_a": {
                "images": 4,
                "defenses": ["mirrored"],
                "attacks": ["one_step"],
                "controls": ["undefended"],
            }
        },
        "epsilons": ["8/255"],
        "draws": 1,
        "control_draws": 1,
        "attacks": {"one_step": {"kind": "fgsm", "against": ["undefended", "mirrored"]}},
    },
}
MIRRORED = """
import torch
from turning import turned


class Mirrored(torch.nn.Module):
    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, x):
        return self.classifier(turned(x))
"""
TURNING = "def turned(x):\n    return x.flip(-1)\n"


def command(project, *words, folder=None):
    """Run a Python module in a project, as a cell of a notebook does."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder or project.folder,
        env={**project.environment(), **NOTEBOOK, "PYTHONPATH": str(project.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=900,
    )


def planned(project, *words):
    """Return the table of jobs that a run would start."""
    overlay = str(project.overlay)
    options = ["--cores", "1", "--dry-run", "--quiet", "rules"]
    done = command(project, "snakemake", "--configfile", overlay, *options, *words)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny_data):
    """Return a project after a run by a notebook, with an overlay from another folder."""
    project = build(tmp_path_factory.mktemp("own_run"), tiny_data)
    (project.folder / "own_code").mkdir()
    (project.folder / OWN).write_text(MIRRORED, encoding="utf-8")
    (project.folder / "own_code/turning.py").write_text(TURNING, encoding="utf-8")
    project.overlay = tmp_path_factory.mktemp("elsewhere") / "parts.yaml"
    text = yaml.safe_dump(OVERLAY, sort_keys=False)
    project.overlay.write_text(text, encoding="utf-8")
    options = ["--configfile", str(project.overlay), "--cores", "2"]
    done = command(project, "snakemake", *options)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{project.logs()}"
    return project


@pytest.fixture
def edited(ran):
    """Return a function that changes a file of the project until the test ends."""
    kept = {}

    def edit(name, text):
        path = ran.folder / name
        kept[path] = path.read_bytes(), path.stat()
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    yield edit
    for path, (data, times) in kept.items():
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def audited(project, name, level="hash"):
    return audit.Auditor(project.folder / "results", project.folder, level=level).audit(
        project.folder / name
    )


def wrong(found):
    return {(edge.verdict, edge.kind, edge.name) for _, edge in found.findings()}


def test_a_good_run_passes_whatever_the_order_of_its_keys(ran):
    auditor = audit.Auditor(ran.folder / "results", ran.folder)
    found = [auditor.audit(ran.folder / name) for name in ran.results()]
    assert {one.file: wrong(one) for one in found if one.verdict != "OK"} == {}
    assert list(EXPERIMENT["attacks"]) != sorted(EXPERIMENT["attacks"])


def test_a_notebook_draws_again_and_judges_again_by_code_of_the_user(ran):
    options = ["--level", "sample", "--images", "1", "--json"]
    done = command(ran, "bandlimit", "audit", *options, FIGURE, JUDGEMENTS)
    assert done.returncode == 0, done.stdout[-2000:]
    figure, judgements = json.loads(done.stdout)
    assert figure["verdict"] == "OK"
    edges = [edge for node in judgements["nodes"] for edge in node["edges"]]
    again = {edge["name"]: edge["verdict"] for edge in edges if edge["kind"] == "sample"}
    attacked = "results/defense_attacks/tiny/model_a/mirrored/one_step/1of1.parquet"
    assert again[JUDGEMENTS] == again[attacked] == "OK"
    # Symptoms sum up all images.
    assert {name for name in again if again[name] != "OK"} == {
        JUDGEMENTS.replace("judgements", "symptoms")
    }


@pytest.mark.parametrize("name", [OWN, "own_code/turning.py"])
def test_changed_code_of_the_user_is_stale(ran, edited, name):
    edited(name, "\n# changed\n")
    found = audited(ran, JUDGEMENTS)
    assert found.status == 1
    assert {verdict for verdict, *_ in wrong(found)} == {"STALE"}
    assert any(name in edge.detail for _, edge in found.findings())


def test_results_that_were_taken_out_of_the_project_miss_it(ran, tmp_path):
    shutil.copytree(ran.folder / "results", tmp_path / "results")
    shutil.copy(ran.folder / "config.yaml", tmp_path)
    for level in ("meta", "sample"):
        done = command(ran, "bandlimit", "audit", "--level", level, FIGURE, folder=tmp_path)
        assert done.returncode == 2, done.stdout[-2000:]
        assert "MISSING: workflow/schemas/config.schema.yaml, settings of" in done.stdout
        assert "name its folder by --home" in done.stdout
    done = command(ran, "bandlimit", "plan", folder=tmp_path)
    assert done.returncode == 1 and "The project is not here" in done.stdout
    assert "Traceback" not in done.stdout


def test_the_status_is_of_the_last_run(ran):
    done = command(ran, "bandlimit", "status")
    count = done.stdout.split()[0]
    assert done.stdout.startswith(f"{count} of {count} jobs done."), done.stdout
    assert f"Configuration: config.yaml + {ran.overlay}, as the last run had it" in done.stdout


def test_a_plain_run_afterwards_changes_nothing_and_says_how_to_go_on(ran):
    before = {name: (ran.folder / name).stat().st_mtime_ns for name in ran.results()}
    note = last.noted(ran.folder)
    done = command(ran, "snakemake", "--cores", "1", "results/datasets/imagenet_samples.parquet")
    assert done.returncode == 1, done.stdout[-2000:]
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("Error: "))
    assert f"The results here are of config.yaml + {ran.overlay}" in said
    assert "'make CONFIG=config.yaml'" in said
    assert {name: (ran.folder / name).stat().st_mtime_ns for name in ran.results()} == before
    assert last.noted(ran.folder) == note


def test_copied_results_are_adopted_after_an_audit(ran, tmp_path):
    copy = build(tmp_path, ran.folder / "weights")
    shutil.rmtree(copy.folder)
    # As a clone and a plain copy do: new times, and nothing that Snakemake noted.
    hidden = shutil.ignore_patterns(".snakemake", "logs")
    shutil.copytree(ran.folder, copy.folder, ignore=hidden, copy_function=shutil.copy)
    copy.overlay = ran.overlay
    # A file that no program changed is as old as all others.
    for path in sorted((copy.folder / "own images").rglob("*.png")):
        os.utime(path)
    assert "Nothing to be done" not in planned(copy)
    asked = command(copy, "bandlimit", "adopt")
    assert asked.returncode == 1 and "the configuration 'parts.yaml', which is not" in asked.stdout

    adopt = ["bandlimit", "adopt", "--configfile", str(copy.overlay)]
    code = copy.folder / "bandlimit/keys.py"
    before = code.read_bytes()
    code.write_bytes(before + b"\nOTHER = 1\n")
    refused = command(copy, *adopt)
    assert refused.returncode == 1 and "STALE     bandlimit/keys.py" in refused.stdout
    assert "Nothing to be done" not in planned(copy)
    code.write_bytes(before)

    done = command(copy, *adopt)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Nothing to be done" in planned(copy)
    assert command(copy, "bandlimit", "audit", FIGURE, JUDGEMENTS).returncode == 0
    assert command(copy, "bandlimit", "verify").returncode == 0
    # All jobs are known by their settings, so that a later change is seen.
    assert "make_dataset" in planned(copy, "--config", "seed=3")


def test_a_run_for_another_folder_is_one_sentence(ran, tmp_path):
    options = ["--directory", str(tmp_path), "--configfile", str(ran.overlay), "--cores", "1"]
    done = command(ran, "snakemake", "--dry-run", *options)
    assert done.returncode == 1
    (said,) = (line for line in done.stdout.splitlines() if line.startswith("Error: "))
    assert "leave out '--directory'" in said and str(ran.folder) in said
    assert list(tmp_path.iterdir()) == []


def test_the_note_of_a_run_names_what_it_was_given(ran, monkeypatch):
    monkeypatch.chdir(ran.folder)
    assert last.given() == last.Given((str(ran.overlay),), {}, "the last run")


SMALL = {
    "device": "cpu",
    "datasets": {
        "fashion_mnist_train": {"images": 640},
        "fashion_mnist": {"images": 8},
        # A part of the images is no gate.
        "fashion_mnist_test": {"images": 1024},
    },
    "training": {
        "fashion_mnist_resnet8": {"epochs": 1, "trajectory": {"images": 6, "every": 8}},
    },
    "experiments": {"fashion_mnist": {"attacks": {"fgsm_minimal": {}}}},
    "robustness": {
        "experiments": {
            "fashion_mnist": {
                "images": 6,
                "attacks": ["fgsm", "eot_one_step", "noise"],
                "controls": ["undefended", "random_resize", "shift"],
                "scaled": [],
            }
        },
        "draws": 2,
        "control_draws": 1,
    },
}
"""What makes the worked example small."""


def test_the_commands_of_the_worked_example_work_as_they_are_printed(tmp_path):
    """As its page has them, but for a second overlay that makes them small."""
    text = (HOME / "docs/own_defense.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.+?)```", text, re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines() if line]
    assert [words[0] for words in commands] == [
        "make",
        ".venv/bin/bandlimit",
        ".venv/bin/snakemake",
    ]
    printed = re.search(r"```yaml\n(defenses:.+?)```", text, re.DOTALL).group(1)
    whole = yaml.safe_load((HOME / "docs/own_defense/config.yaml").read_text(encoding="utf-8"))
    shown = yaml.safe_load(printed)
    assert shown["defenses"] == whole["defenses"]
    one = shown["robustness"]["experiments"]["fashion_mnist"]
    assert one.items() <= whole["robustness"]["experiments"]["fashion_mnist"].items()

    (tmp_path / "data").mkdir()
    project = build(tmp_path, tmp_path / "data")
    for folder in ("docs/own_defense", "data/fashion_mnist"):
        (project.folder / folder).parent.mkdir()
        shutil.copytree(HOME / folder, project.folder / folder)
    (project.folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    overlay = "docs/own_defense/config.yaml"
    for _, *words in commands[1:]:
        at = words.index(overlay) + 1
        program = "bandlimit" if words[0] == "check-defense" else "snakemake"
        done = command(project, program, *words[:at], "small.yaml", *words[at:])
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{project.logs()}"
    page = (project.folder / words[-1]).with_suffix(".md").read_text(encoding="utf-8")
    for part in ("Cost", "Attacks that don't know it", "Checks", "Controls that do as well"):
        assert f"**{part}.** " in page
    assert "## On fashion_mnist, fashion_mnist_resnet8: " in page and "(N = 6)" in page


@pytest.mark.parametrize("architecture", ["torchvision:squeezenet1_1", "timm:resnet10t"])
def test_a_network_of_a_library_goes_from_images_to_the_page_of_a_defence(tmp_path, architecture):
    """With random weights: what is asked is that each job takes such a network."""
    if architecture.startswith("timm"):
        pytest.importorskip("timm", reason="timm is an extra, and not installed")
    data = tmp_path / "data"
    for label in range(2):
        (data / f"photos/class {label}").mkdir(parents=True)
        for i in range(3):
            pixels = np.random.randint(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(data / f"photos/class {label}/{i}.png")
    torch.save(architectures.build(architecture, classes=2).state_dict(), data / "net.pth")
    project = build(tmp_path, data)
    (project.folder / "own_code").mkdir()
    (project.folder / OWN).write_text(MIRRORED, encoding="utf-8")
    (project.folder / "own_code/turning.py").write_text(TURNING, encoding="utf-8")
    project.config = {
        "device": "cpu",
        "datasets": {"mine": {"loader": "imagefolder", "path": "photos", "classes": 2}},
        "models": {
            "mine": {
                "path": "net.pth",
                "architecture": architecture,
                "classes": 2,
                "shape": [3, 32, 32],
                "mean": [0.5, 0.5, 0.5],
                "std": [0.2, 0.2, 0.2],
            }
        },
        "only": ["mine"],
        "experiments": {
            "mine": {"dataset": "mine", "model": "mine", "attacks": {"pgd": {"steps": 2}}}
        },
        "bandlimiting": {"epsilons": ["8/255"], "experiments": {"mine": {"radius": 2}}},
        "defenses": OVERLAY["defenses"],
        "robustness": {
            **OVERLAY["robustness"],
            "larger_budget": 2,
            "experiments": {
                "mine": {
                    "images": 6,
                    "defenses": ["mirrored"],
                    "attacks": ["two_steps"],
                    "controls": ["undefended", "mirrored"],
                }
            },
            "attacks": {
                "two_steps": {
                    "kind": "eot_pgd",
                    "against": ["undefended", "mirrored"],
                    "steps": 2,
                    "samples": 1,
                }
            },
        },
    }
    project.complete("results/defenses/mirrored.md")
    page = (project.folder / "results/defenses/mirrored.md").read_text(encoding="utf-8")
    assert "## On mine, mine: " in page and "(N = 6)" in page
    assert "| 8/255 |" in page
