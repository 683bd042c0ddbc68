"""A run that is killed in its midst: the same command completes it."""


def test_a_killed_run_is_completed_by_the_same_command(tiny_run, resumed_run):
    left = set(resumed_run.left_by_the_killed_run)
    whole = set(resumed_run.results())
    # It had begun, and had not ended.
    assert 0 < len([path for path in left if path in whole]) < len(whole)
    tables = [path for path in whole if path.parts[1] == "tables" and path.suffix == ".parquet"]
    assert len(tables) >= 3
    for path in tables:
        assert (resumed_run.folder / path).read_bytes() == (tiny_run.folder / path).read_bytes()


def test_a_killed_run_leaves_no_half_made_file(tiny_run, resumed_run):
    # Whatever lay there under its own name was whole, and nothing is left under another.
    assert set(resumed_run.results()) <= set(tiny_run.results())
