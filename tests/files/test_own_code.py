"""Code of the user's own: which files it is, and that it is what was planned."""

import hashlib
import sys

import pytest

from bandlimit.errors import UserError
from bandlimit.files import own_code

PLACE = "defenses.mine.source"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/net.py").write_text(
        "import json\nimport helper\nfrom parts import one\n\n\ndef build():\n"
        "    return helper.NAME, one.NAME, json.dumps(1)\n"
    )
    (tmp_path / "mine/helper.py").write_text("NAME = 'helper of mine'\n")
    (tmp_path / "mine/parts").mkdir()
    (tmp_path / "mine/parts/one.py").write_text("NAME = 'one'\n")
    (tmp_path / "mine/unused.py").write_text("NAME = 'unused'\n")
    yield tmp_path
    sys.path[:] = [path for path in sys.path if not path.startswith(str(tmp_path))]
    for name in [n for n in sys.modules if n.partition(".")[0] in ("helper", "parts")]:
        del sys.modules[name]


def test_the_file_and_what_it_imports_beside_it_identify_it(folder):
    found = own_code.files("mine/net.py:build", PLACE)
    assert list(found) == ["mine/helper.py", "mine/net.py", "mine/parts/one.py"]
    (folder / "mine/helper.py").write_text("NAME = 'another'\n")
    changed = own_code.files("mine/net.py:build", PLACE)
    assert {name for name in found if found[name] != changed[name]} == {"mine/helper.py"}


def test_it_is_run_with_its_neighbours(folder):
    assert own_code.load("mine/net.py:build", PLACE)() == ("helper of mine", "one", "1")


def test_files_of_one_name_in_two_folders_are_two(folder):
    (folder / "other").mkdir()
    (folder / "other/helper.py").write_text("NAME = 'helper of the other'\n")
    (folder / "other/net.py").write_text(
        "import helper\n\n\ndef build():\n    return helper.NAME\n"
    )
    assert own_code.load("mine/net.py:build", PLACE)()[0] == "helper of mine"
    assert own_code.load("other/net.py:build", PLACE)() == "helper of the other"
    assert own_code.load("mine/net.py:build", PLACE)()[0] == "helper of mine"


def test_code_that_changed_since_it_was_planned_is_refused(folder):
    planned = own_code.files("mine/net.py:build", PLACE)
    (folder / "mine/parts/one.py").write_text("NAME = 'two'\n")
    with pytest.raises(UserError, match=r"other code: 'mine/parts/one.py' was changed"):
        own_code.load("mine/net.py:build", PLACE, planned)


def test_equal_files_in_two_folders_are_two_modules(folder):
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "net.py").write_text(
            "from pathlib import Path\n\n\ndef build():\n"
            "    return Path(__file__).with_name('data.txt').read_text()\n"
        )
        (folder / name / "data.txt").write_text(f"data of {name}")
    assert own_code.load("one/net.py:build", PLACE)() == "data of one"
    assert own_code.load("two/net.py:build", PLACE)() == "data of two"


def test_files_that_it_reads_are_part_of_it_where_they_are_named(folder):
    (folder / "data").mkdir()
    (folder / "data/weights.bin").write_bytes(b"one")
    found = own_code.files("mine/net.py:build", PLACE, ["data/weights.bin"])
    assert found["data/weights.bin"] == hashlib.sha256(b"one").hexdigest()
    assert found.keys() - {"data/weights.bin"} == own_code.files("mine/net.py:build", PLACE).keys()
    more = ["data/weights.bin"]
    assert own_code.load("mine/net.py:build", PLACE, found, more)()[1] == "one"
    (folder / "data/weights.bin").write_bytes(b"two")
    with pytest.raises(own_code.Unlike, match="other code: 'data/weights.bin' was changed"):
        own_code.load("mine/net.py:build", PLACE, found, more)
    with pytest.raises(own_code.Unlike, match=r"reads the file 'none.bin', .*there is none"):
        own_code.files("mine/net.py:build", PLACE, ["none.bin"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mine/net.py", r"file and what to take from it, as in 'path/to/file.py:Name', got"),
        ("mine/net.py:not-a-name", r"what to take from it"),
        ("mine/none.py:build", r"names the file 'mine/none.py', and there is none"),
        ("mine/net.py:built", r"takes 'built' from .*did you mean 'build'"),
        ("mine/broken.py:build", r"can't be read as Python"),
        ("mine/failing.py:build", r"ends in an error when it is run: ValueError: no"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(folder, source, message):
    (folder / "mine/broken.py").write_text("def build(:\n")
    (folder / "mine/failing.py").write_text("def build(): pass\n\n\nraise ValueError('no')\n")
    with pytest.raises(UserError, match=message) as told:
        own_code.load(source, PLACE)
    assert str(told.value).startswith(PLACE)
