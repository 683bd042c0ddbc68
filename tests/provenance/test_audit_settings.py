"""What the audit says of the params of a job, beside the configuration of today."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import CONFIG

from bandlimit.config import overlays
from bandlimit.files import certificates
from bandlimit.plan import jobs, load
from bandlimit.provenance import audit

HOME = Path(__file__).parents[2]
NAMES = {"dataset": "tiny", "model": "model_a", "attack": "pgd_minimal", "shard": "1of1"}


def settings(**changes):
    """Return what is said of an attack, some of whose params were others."""
    run = load.load(overlays.read([HOME / "config.yaml"], CONFIG), HOME, files=False)
    params = jobs.identity(run, "attack", SimpleNamespace(**NAMES))
    params = json.loads(json.dumps({**params, **changes, "wildcards": NAMES}))
    auditor = audit.Auditor(home=HOME)
    auditor._project = HOME
    given = ["config.yaml", {"name": "overlay.yaml", "values": CONFIG}]
    return auditor._settings({"rule": "attack", "params": params, "config": given})


@pytest.mark.parametrize(
    ("changes", "verdict", "detail"),
    [
        ({}, "OK", ""),
        ({"seed": 1}, "STALE", "seed was 1, and is 20190501 now"),
        ({"device": "cuda", "seed": 1}, "STALE", 'device was "cuda", and is "cpu" now, and 1 more'),
        ({"more": 1}, "STALE", "more was 1, and is not set any more"),
    ],
)
def test_params_are_held_against_the_configuration(changes, verdict, detail):
    edge = settings(**changes)
    assert (edge.verdict, edge.detail) == (verdict, detail)


def test_a_project_that_is_not_here_is_missing(tmp_path):
    shutil.copy(HOME / "config.yaml", tmp_path)
    auditor = audit.Auditor(home=tmp_path)
    auditor._project = tmp_path
    edge = auditor._settings({"rule": "attack", "params": {}, "config": ["config.yaml"]})
    assert (edge.verdict, edge.name) == ("MISSING", "workflow/schemas/config.schema.yaml")


def test_settings_are_held_in_the_order_in_which_they_were_given():
    """A list in the identity of a job follows the order of a mapping in the configuration."""
    attacks = dict(reversed(CONFIG["experiments"]["model_a"]["attacks"].items()))
    experiment = {**CONFIG["experiments"]["model_a"], "attacks": attacks}
    values = {**CONFIG, "experiments": {**CONFIG["experiments"], "model_a": experiment}}
    proof = certificates.sealed(
        {"config": ["config.yaml", {"name": "overlay.yaml", "values": values}]}, "a", "0"
    )
    read = json.loads(certificates.as_text(proof))
    run = load.load(overlays.read([HOME / "config.yaml"], values), HOME, files=False)
    params = json.loads(json.dumps(jobs.identity(run, "bandlimiting_defense_rates")))
    auditor = audit.Auditor(home=HOME)
    auditor._project = HOME
    rule = {"rule": "bandlimiting_defense_rates", "params": params, "config": read["config"]}
    assert auditor._settings(rule).verdict == "OK"
