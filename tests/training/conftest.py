from __future__ import annotations

from pathlib import Path

import pytest
import torch
import toy


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_dataset(tmp_path_factory.mktemp("toy") / "toy.parquet", *toy.striped(64))


@pytest.fixture
def caller_state():
    """Restore what a test changes of the process, whatever the test does."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
