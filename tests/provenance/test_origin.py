import hashlib
import json
import os
import shutil
import subprocess

import pyarrow as pa
import pytest

from bandlimit.files import certificates, store
from bandlimit.plan import code
from bandlimit.provenance import origin

CODE = {
    "scripts/draw.py": "from bandlimit import plots\n",
    "bandlimit/plots.py": "import os\n",
    "bandlimit/store.py": "",
}


@pytest.fixture
def home(tmp_path):
    for name, text in CODE.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def proof(home, **changes):
    arguments = {
        "rule": "attack",
        "params": {"seed": 1, "epsilons": [8 / 255], "wildcards": {"model": "a"}},
        "inputs": {"results/a.txt": str(home / "bandlimit/store.py"), "images": str(home)},
        "script": "scripts/draw.py",
        "code": {
            name: code.tree_digest(home / name)
            for name in ("scripts/draw.py", "bandlimit/plots.py")
        },
        "lock": "requirements.lock",
        "home": home,
    }
    return origin.certificate(**(arguments | changes))


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def locked(home):
    (home / "requirements.lock").write_text("torch==2", encoding="utf-8")
    return home


def test_a_certificate_names_all_that_made_a_file(locked):
    found = proof(locked)
    assert found["format"] == certificates.FORMAT
    assert found["rule"] == "attack"
    assert found["params"]["epsilons"] == [8 / 255]
    size = len(CODE["bandlimit/store.py"])
    assert found["inputs"]["results/a.txt"] == {
        "sha256": digest(CODE["bandlimit/store.py"]),
        "bytes": size,
    }
    assert found["inputs"]["images"]["bytes"] == sum(map(len, CODE.values())) + len("torch==2")
    assert found["script"] == "scripts/draw.py"
    assert found["code"] == {
        name: code.tree_digest(locked / name) for name in ("scripts/draw.py", "bandlimit/plots.py")
    }
    assert found["lock"] == {"requirements.lock": digest("torch==2")}
    assert found["versions"]["python"].split(".")[0] == "3"
    assert {"torch", "numpy", "pyarrow", "snakemake"} <= set(found["versions"])
    # It names no place of the machine, and is the same each time.
    assert str(locked) not in json.dumps(found)
    assert proof(locked) == found


def test_a_parameter_that_is_no_json_is_refused(locked):
    with pytest.raises(TypeError):
        proof(locked, params={"epsilon": {1, 2}})


def git(home, *arguments):
    name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", "-C", str(home), *name, *arguments], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_and_state_of_the_tree(locked, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(locked.parent))
    assert proof(locked)["commit"] is None
    git(locked, "init", "-q")
    git(locked, "add", ".")
    git(locked, "commit", "-q", "-m", "a")
    found = proof(locked)
    assert len(found["commit"]) == 40
    assert found["clean"] is True
    # A job looks, and writes nothing: the user may commit meanwhile.
    index = locked / ".git/index"
    before = index.read_bytes()
    os.utime(locked / "scripts/draw.py", (1, 1))
    assert proof(locked)["clean"] is True and index.read_bytes() == before
    (locked / "notes.txt").write_text("not tracked")
    assert proof(locked)["clean"] is True
    (locked / "scripts/draw.py").write_text("import os\n")
    changed = proof(locked)
    assert changed["clean"] is False
    assert changed["commit"] == found["commit"]
    assert changed["code"]["scripts/draw.py"] != found["code"]["scripts/draw.py"]


def test_an_input_with_a_certificate_is_named_by_its_content_too(locked):
    table = pa.table({"image_id": ["a"]})
    store.write(locked / "a.parquet", table, {"rule": "x"})
    found = proof(locked, inputs={"a.parquet": str(locked / "a.parquet")})["inputs"]["a.parquet"]
    assert found["sha256"] == store.sha256(locked / "a.parquet")
    assert found["content"] == store.content(locked / "a.parquet")
    assert found["seal"] == store.certificate(locked / "a.parquet")["seal"]


def test_links_are_followed_and_hidden_files_are_not_data(locked, tmp_path):
    (locked / "real").mkdir()
    (locked / "real/a.png").write_bytes(b"a")
    (locked / "images").mkdir()
    (locked / "images/class 0").symlink_to(locked / "real")
    before = origin.identity(locked / "images")
    assert before["bytes"] == 1
    (locked / "images/.DS_Store").write_bytes(b"x")
    assert origin.identity(locked / "images") == before
    (locked / "real/a.png").write_bytes(b"b")
    assert origin.identity(locked / "images") != before


def test_code_that_changed_while_a_job_ran_is_named(locked):
    found = proof(locked)
    assert origin.changed(found, locked) is None
    (locked / "bandlimit/plots.py").write_text('"""Plots."""\nimport os  # for paths\n')
    assert origin.changed(found, locked) is None
    for text in ("import sys\n", "import (\n"):
        (locked / "bandlimit/plots.py").write_text(text)
        assert origin.changed(found, locked) == "bandlimit/plots.py"
    (locked / "bandlimit/plots.py").unlink()
    assert origin.changed(found, locked) == "bandlimit/plots.py"


def test_a_lock_that_changed_while_a_job_ran_is_named(locked):
    found = proof(locked)
    (locked / "requirements.lock").write_text("torch==3", encoding="utf-8")
    assert origin.changed(found, locked) == "requirements.lock"


def test_a_job_outside_of_an_image_names_none(monkeypatch, tmp_path):
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        monkeypatch.delenv(name, raising=False)
    assert origin.container() is None
    monkeypatch.setenv("SINGULARITY_CONTAINER", str(tmp_path))
    assert origin.container() == {"name": tmp_path.name}, "an image that is a folder"
    short = tmp_path / "short.sif"
    short.write_bytes(bytes(32) + b"SIF_MAGIC\0")
    monkeypatch.setenv("APPTAINER_CONTAINER", str(short))
    assert origin.container() == {"name": "short.sif"}
