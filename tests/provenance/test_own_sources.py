"""An audit runs no code of the user's own that only a certificate or a model file names."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bandlimit.data import make
from bandlimit.files import own_code, store
from bandlimit.models import weights
from bandlimit.plan import code, last
from bandlimit.provenance import audit, origin, own_sources, replay, samples

HOME = Path(__file__).parents[2]
MODEL = "results/models/net.safetensors"
DATASET = "results/datasets/few.parquet"
EVALUATION = "results/evaluations/few/net/clean/undefended/1of1.parquet"
NET = """
from pathlib import Path
from torch import nn

Path({mark!r}).touch()


def build(classes, channels):
    return nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, classes))
"""


class Forged:
    """Results whose certificates name code by an absolute path; it leaves a mark where it runs."""

    def __init__(self, folder):
        self.folder, self.results = folder, folder / "results"
        self.mark, self.net = folder / "mark", folder / "net.py"
        self.net.write_text(NET.format(mark=str(self.mark)))
        self.source = f"{self.net}:build"
        self.code = own_code.files(self.source, "here")
        self.overlay = folder / "overlay.yaml"
        self.values = {"defenses": {"mine": {"kind": "python", "source": self.source}}}
        self.overlay.write_text(yaml.safe_dump(self.values))
        state = {"1.weight": torch.ones(3, 16), "1.bias": torch.zeros(3)}
        weights.safetensors.torch.save_file(state, folder / "weights.safetensors")
        shape = {"mean": [0.5], "std": [0.25], "shape": [1, 4, 4], "classes": 3}
        params = {
            **{"source": "file", "architecture": self.source, "sha256": None},
            **{**shape, "own_code": self.code, "wildcards": {"model": "net"}},
        }
        reads = {"weights": str(folder / "weights.safetensors")}
        self.proof = self.certificate("convert_model", params, reads, {"model": MODEL})
        fields = {"architecture": self.source, "own_code": self.code, "certificate": self.proof}
        weights.save(MODEL, state, **shape, **fields)
        pixels = np.zeros((2, 1, 4, 4), dtype=np.uint8)
        store.write(folder / DATASET, make.table(["a", "b"], [0, 1], ["test"] * 2, pixels))
        self.forget()

    def certificate(self, rule, params, reads, writes):
        script = f"scripts/{rule}.py"
        names = [name for name in reads.values() if name]
        return origin.certificate(
            rule=rule,
            params=params,
            inputs={name: self.folder / name for name in names},
            script=script,
            code=code.files_of(script, HOME),
            lock="requirements.lock",
            home=HOME,
            device="cpu",
            reads=reads,
            writes=writes,
        )

    def forget(self):
        """Let the code not have run."""
        self.mark.unlink(missing_ok=True)
        for name in [name for name in own_code.sys.modules if name.startswith(own_code.PREFIX)]:
            del own_code.sys.modules[name]

    def redraw(self, own=(), **changes):
        params = {**self.proof["params"], **changes}
        proof = {**self.proof, "params": params}
        (found,) = replay.redraw(proof, results=self.results, home=HOME, own=own)
        return found

    def sample(self, own=()):
        params = {"device": "cpu", "seed": 0, "gate": None}
        names = {"dataset": "few", "model": "net", "shard": "1of1"}
        reads = {"dataset": DATASET, "model": MODEL, "gates": []}
        proof = self.certificate(
            "evaluate_undefended",
            {**params, "wildcards": names},
            reads,
            {"evaluation": EVALUATION},
        )
        (found,) = samples.sample(proof, results=self.results, home=HOME, images=1, seed=0, own=own)
        return found


@pytest.fixture
def forged(tmp_path, monkeypatch):
    # A certificate names files as seen from the folder of a run.
    monkeypatch.chdir(tmp_path)
    return Forged(tmp_path)


def test_code_that_only_a_certificate_names_is_not_run(forged):
    found = forged.redraw()
    assert found.verdict == "NOT COMPARED" and not forged.mark.exists()
    assert "does not name, so that nothing was run" in found.detail
    # Of a project that names it, it runs.
    found = forged.redraw(own={forged.source})
    assert (found.verdict, forged.mark.exists()) == ("OK", True)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"net.py": "0" * 64}, r"whose file .* is not what was used, so that nothing was run"),
        (None, r"and no sha256 of its files, so that nothing was run"),
    ],
)
def test_code_that_is_not_what_was_used_is_not_run(forged, known, message):
    found = forged.redraw(own={forged.source}, own_code=known)
    assert found.verdict == "NOT COMPARED" and not forged.mark.exists()
    assert re.search(message, found.detail)


def test_code_that_only_a_model_file_names_is_not_run(forged):
    found = forged.sample()
    assert found.verdict == "NOT COMPARED" and not forged.mark.exists()
    assert "net.safetensors" in found.detail and "nothing was run" in found.detail
    # Nothing is stored, so that no record can be equal; but it was run.
    forged.sample(own={forged.source})
    assert forged.mark.exists()


@pytest.mark.parametrize(
    "params",
    [
        {"defenses": {"mine": {"kind": "python", "source": "../evil.py:Evil", "own_code": {}}}},
        {"defenses": [{"source": "/tmp/evil.py:Evil"}]},
        {"experiments": [{"architecture": "results/evil.py:build"}]},
    ],
)
def test_a_source_is_found_wherever_it_stands(params, tmp_path):
    why = own_sources.refusal(params, [], {"mine/net.py:build"}, tmp_path)
    assert "evil.py" in why and "does not name" in why
    assert own_sources.refusal({"epsilon": "8/255"}, [], (), tmp_path) is None


def test_what_a_certificate_hides_is_stopped_where_it_is_loaded(forged):
    with own_code.only({"mine/net.py:build"}), pytest.raises(own_code.Unlike, match="does not"):
        own_code.load(forged.source, "The architecture", forged.code)
    assert not forged.mark.exists()


def audited(forged, **more):
    """Return the edge of an audit of the model that tells of its making again."""
    auditor = audit.Auditor(forged.results, HOME, level="redraw", **more)
    edges = auditor.audit(MODEL).nodes[MODEL].edges
    (edge,) = (edge for edge in edges if edge.kind == "redraw")
    return edge


def test_the_configuration_in_a_certificate_allows_nothing(forged):
    # As of an overlay that lay elsewhere.
    held = [*forged.proof["config"], {"name": "overlay.yaml", "values": forged.values}]
    proof = {**forged.proof, "config": held}
    weights.convert(
        forged.folder / "weights.safetensors",
        MODEL,
        **{name: proof["params"][name] for name in ("architecture", "mean", "std", "shape")},
        classes=3,
        own_code=forged.code,
        certificate=proof,
    )
    forged.forget()
    edge = audited(forged)
    assert (edge.verdict, forged.mark.exists()) == ("NOT COMPARED", False)
    assert "nothing was run" in edge.detail
    edge = audited(forged, configfiles=["config.yaml", str(forged.overlay)])
    assert (edge.verdict, forged.mark.exists()) == ("OK", True)


def test_the_last_run_of_the_project_says_what_may_run(forged, tmp_path):
    note = tmp_path / "project" / last.NOTE
    assert last.noted(tmp_path / "project") is None
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"configfiles": [str(forged.overlay)], "overrides": {}}))
    for name in ("config.yaml", "workflow"):
        (tmp_path / "project" / name).symlink_to(HOME / name)
    auditor = audit.Auditor(forged.results, tmp_path / "project", level="redraw")
    auditor._project = tmp_path / "project"
    assert auditor._own_sources() == {forged.source}
    note.unlink()
    again = audit.Auditor(forged.results, tmp_path / "project", level="redraw")
    again._project = tmp_path / "project"
    assert again._own_sources() == frozenset()


@pytest.mark.parametrize("listed", [True, False])
def test_a_script_that_came_with_results_is_not_run(forged, tmp_path, listed):
    """Whether or not the certificate admits to it among its code."""
    home = tmp_path / "mailed"
    (home / "scripts").mkdir(parents=True)
    (home / "bandlimit").symlink_to(HOME / "bandlimit")
    script = home / "scripts/convert_model.py"
    own = (HOME / "scripts/convert_model.py").read_text(encoding="utf-8")
    script.write_text(f"{own}\nopen({str(forged.mark)!r}, 'w').close()\n", encoding="utf-8")
    proof = forged.proof if listed else {**forged.proof, "code": {}}
    (found,) = replay.redraw(proof, results=forged.results, home=home, own={forged.source})
    assert (found.verdict, forged.mark.exists()) == ("NOT COMPARED", False)
    assert "scripts/convert_model.py differs" in found.detail
