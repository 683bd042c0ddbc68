"""What the workflow changes of Snakemake's scheduler as a run starts."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
from conftest import HOME


@pytest.mark.parametrize(
    ("limit", "stays"), [((100, 1), False), ((50, 1), True), ((100, 60), True), (None, False)]
)
def test_a_limit_that_was_asked_for_stays_and_the_default_goes(limit, stays):
    spec = importlib.util.spec_from_file_location("workflow_helpers", HOME / "workflow/helpers.py")
    helpers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helpers)
    limiter = limit and SimpleNamespace(max_jobs=limit[0], timespan=limit[1])
    workflow = SimpleNamespace(scheduler=SimpleNamespace(job_rate_limiter=limiter))
    helpers.end_of_idle_looks(workflow)
    assert workflow.scheduler.job_rate_limiter is (limiter if stays else None)
