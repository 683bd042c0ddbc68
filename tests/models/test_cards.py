"""Jobs of one machine take a card each; one whose process is gone is free again."""

import errno
import subprocess
import sys

import pytest

from bandlimit.models import cards

TAKE = """
import sys
from bandlimit.models import cards
print(cards.take(sys.argv[2:], sys.argv[1]), flush=True)
print(cards.take(sys.argv[2:], sys.argv[1]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process which takes a card and holds it."""
    started = []

    def one(*names):
        process = subprocess.Popen(
            [sys.executable, "-c", TAKE, tmp_path, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def taken(process):
    """Return what a process was given, asking twice."""
    return [int(process.stdout.readline()) for _ in range(2)]


def test_each_process_has_a_card_of_its_own(start):
    assert [taken(start("a/0", "b", "c")) for _ in range(3)] == [[0, 0], [1, 1], [2, 2]]


def test_a_card_is_the_same_under_another_number(start):
    assert taken(start("a", "b")) == [0, 0]
    assert taken(start("b", "a")) == [0, 0]
    # Both are gone; a third is not known to others.
    assert taken(start("b", "a", "c")) == [2, 2]


def test_who_finds_all_taken_waits_for_one(start, tmp_path, monkeypatch):
    first = start("a")
    assert taken(first) == [0, 0]
    waits = []

    def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            # However it ends.
            first.kill()
            first.wait()
        assert len(waits) < 100

    monkeypatch.setattr(cards, "_held", {})
    monkeypatch.setattr(cards.time, "sleep", sleep)
    assert cards.take(["a"], tmp_path) == 0
    assert len(waits) >= 3
    cards._held.pop("a").close()


def test_where_files_can_not_be_locked_a_card_is_taken_all_the_same(tmp_path, monkeypatch, caplog):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cards, "_held", {})
    monkeypatch.setattr(cards.fcntl, "flock", flock)
    assert cards.take(["a", "b"], tmp_path) == 0
    assert "No locks available" in caplog.text and "TMPDIR" in caplog.text
    cards._held.pop("a").close()


def test_there_must_be_a_card():
    with pytest.raises(ValueError, match="no cards"):
        cards.take([])
