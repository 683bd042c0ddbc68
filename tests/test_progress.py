import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bandlimit import progress
from bandlimit.files import store

HOME = Path(__file__).parents[1]
SCRIPT = """
from bandlimit import progress
for batch in progress.bar(range(3), 3, "images", title="attack pgd"):
    {body}
"""


@pytest.fixture
def clock(monkeypatch):
    """Time that only passes when it is told to."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


def test_items_come_as_they_are_and_in_order():
    items = [object() for _ in range(5)]
    assert list(progress.bar(items, 5, "items")) == items


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(caplog, clock):
    caplog.set_level(logging.INFO, "bandlimit")
    for _ in progress.bar(range(10), 10, "images", title="pgd"):
        clock[0] += 10
    assert messages(caplog) == [
        "pgd: images 3 of 10, 10 seconds each, 1:10 left",
        "pgd: images 6 of 10, 10 seconds each, 0:40 left",
        "pgd: images 9 of 10, 10 seconds each, 0:10 left",
        "pgd: images 10 of 10, 10 seconds each, 1:40 in all",
    ]


def test_items_count_by_their_size_once_they_are_worked_on(caplog, clock):
    caplog.set_level(logging.INFO, "bandlimit")
    batches = [(["a", "b"], [0.0, 1.0]), (["c"], [2.0])]
    for _ in progress.images(iter(batches), 3, "pgd"):
        assert not messages(caplog)
        clock[0] += 0.5
    assert messages(caplog) == ["pgd: images 3 of 3, 3 a second, 0:01 in all"]


def test_a_loop_that_fails_says_no_end(caplog):
    caplog.set_level(logging.INFO, "bandlimit")
    with pytest.raises(OSError, match="full"):
        for _ in progress.bar(range(3), 3, "images"):
            raise OSError("full")
    assert not messages(caplog)


@pytest.mark.parametrize(
    ("done", "total", "seconds", "said"),
    [
        (120, 1000, 10, "images 120 of 1000, 12 a second, 1:13 left"),
        (120, None, 10, "images 120, 12 a second"),
        (0, 1000, 10, "images 0 of 1000"),
        (1, 1001, 7.2, "images 1 of 1001, 7.2 seconds each, 2:00:00 left"),
    ],
)
def test_a_line_says_how_far_how_fast_and_how_long(done, total, seconds, said):
    assert progress.line(done, total, "images", seconds) == said


def test_images_of_a_shard_a_choice_and_successes_are_counted(tmp_path):
    path = tmp_path / "records.parquet"
    won = [True, False, True, True, False]
    store.write(path, pa.table({"image_id": list("abcde"), "success": won}))
    assert progress.count(path) == 5
    assert progress.count(path, "2of2") == 2
    assert progress.count(path, "1of2", frozenset("abc")) == 2
    assert progress.count(path, success=True) == 3
    assert progress.count(path, keep=frozenset("ab"), success=True) == 1


def run(body, cwd, terminal):
    """Run a loop in a process of its own; return what it wrote to standard error."""
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    env = {**os.environ, "PYTHONPATH": str(HOME), "TQDM_MININTERVAL": "0"}
    if not terminal:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=cwd, env=env, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 1024):
            said += part
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return said.decode()


def test_nothing_is_written_where_there_is_no_terminal(tmp_path):
    assert run("pass", tmp_path, terminal=False) == ""


def test_a_terminal_shows_a_bar_that_is_gone_in_the_end(tmp_path):
    said = run("import time; time.sleep(0.6)", tmp_path, terminal=True)
    assert "attack pgd:" in said and "/3 [" in said
    assert said.rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_jobs_beside_each_other_draw_on_lines_of_their_own(tmp_path, monkeypatch):
    (tmp_path / ".snakemake").mkdir()
    monkeypatch.chdir(tmp_path)
    with progress._place() as first, progress._place() as second:
        assert (first, second) == (1, 2)
    with progress._place() as again:
        assert again == 1


def test_counting_imports_nothing_heavy():
    code = (
        "import sys; from bandlimit import progress; list(progress.bar('ab', 2, 'letters'));"
        "print({'torch', 'pyarrow', 'numpy', 'tqdm'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
