"""A run that is killed in its midst: the same command completes it."""


def test_the_same_command_goes_on(resumed_run):
    assert resumed_run.again.returncode == 0, resumed_run.again.stdout[-2000:]


def test_tables_of_a_killed_run_are_those_of_an_undisturbed_one(tiny_run, resumed_run):
    left, whole = set(resumed_run.left), set(resumed_run.results())
    # It had begun, and had not ended.
    assert 0 < len(left & whole) < len(whole)
    tables = [path for path in whole if path.parts[1] == "tables" and path.suffix == ".parquet"]
    assert len(tables) >= 3
    for path in tables:
        assert (resumed_run.folder / path).read_bytes() == (tiny_run.folder / path).read_bytes()


def test_what_a_killed_run_leaves_under_its_own_name_is_whole(tiny_run, resumed_run):
    """Half of a file lies beside it, hidden; what Snakemake saw interrupted is made anew."""
    seen = {path for path in resumed_run.left if not path.name.startswith(".")}
    assert seen <= set(tiny_run.results())
    for path in seen:
        assert (resumed_run.folder / path).read_bytes() == (tiny_run.folder / path).read_bytes()
