"""All works on one scale: ratios of frequencies and of times."""

import numpy as np
import pandas as pd
import pytest

from bandlimit.studies.frequency_principle.response import learning_figures, learning_times

WORKS = {"sinusoids": "A", "flow": "B"}


def times(case, at, *, learnt=3, seeds=3, **more):
    frame = pd.DataFrame({"frequency": [5.0, 10.0, 20.0], "step": at})
    return frame.assign(case=case, threshold=0.1, learnt=learnt, seeds=seeds, **more)


def test_times_and_frequencies_are_ratios_to_the_lowest():
    table = times("equal", [100, 400, 900], steps=1000).iloc[::-1]
    found = learning_times.learning_times({"sinusoids": table}, WORKS)
    assert found["relative_frequency"].tolist() == [1, 2, 4]
    assert found["relative_time"].tolist() == [1, 4, 9]
    assert found["at_least"].isna().all()
    assert set(found["work"]) == {"A"}


def test_what_most_networks_never_learn_takes_at_least_all_steps():
    table = times("equal", [100, 400, np.nan], learnt=[3, 2, 1], steps=1000)
    found = learning_times.learning_times({"sinusoids": table}, WORKS)
    assert found["relative_time"].isna().tolist() == [False, False, True]
    assert found["at_least"].tolist()[2] == 10


def test_what_half_of_the_networks_learn_is_not_lost():
    # As `projections.passage` has it: the median of two of four that never learnt it is null.
    table = times("equal", [100, 400, np.nan], learnt=[4, 3, 2], seeds=4, steps=1000)
    found = learning_times.learning_times({"sinusoids": table}, WORKS)
    assert found["relative_time"].isna().tolist() == [False, False, True]
    assert found["at_least"].tolist()[2] == 10


def test_a_first_step_of_0_counts_as_1_and_a_flow_has_any_time():
    steps = learning_times.learning_times({"sinusoids": times("a", [0, 4, 8], steps=9)}, WORKS)
    assert steps["relative_time"].tolist() == [1, 4, 8]
    flow = times("a", [0.01, 0.02, 0.04], unit="time", learnt=1, seeds=1)
    found = learning_times.learning_times({"flow": flow}, WORKS)
    assert found["relative_time"].tolist() == pytest.approx([1, 2, 4])


def test_a_case_whose_lowest_frequency_is_not_learnt_is_left_out():
    table = times("a", [np.nan, 4, 8], learnt=[0, 3, 3], steps=9)
    assert learning_times.learning_times({"sinusoids": table}, WORKS).empty


def test_a_wave_of_the_flow_is_learnt_when_a_tenth_of_its_error_is_left():
    eigenvalues = pd.DataFrame(
        {"width": 0.5, "frequency": [0, 1, 3, 40], "by_formula": [0.0, 0.11, 0.365, 1e-30]}
    )
    found = learning_times.relaxations(eigenvalues)
    assert found["frequency"].tolist() == [1, 3]
    assert np.exp(-found["step"] * [0.11, 0.365]).tolist() == pytest.approx([0.1, 0.1])


def test_one_threshold_of_labels_is_taken():
    projection = pd.concat([times("fc", [1, 2, 3], steps=9), times("fc", [1, 1, 1], steps=9)])
    projection["threshold"] = [0.1] * 3 + [0.3] * 3
    found = learning_times.chosen({"projection": projection})
    assert found["projection"]["step"].tolist() == [1, 1, 1]


def test_each_case_is_a_line_and_arrows_mark_what_is_never_learnt():
    table = times("equal", [100, 400, np.nan], learnt=[3, 2, 1], steps=1000)
    flow = times("a", [0.01, 0.02, 0.04], unit="time", learnt=1, seeds=1)
    found = learning_times.learning_times({"sinusoids": table, "flow": flow}, WORKS)
    (axes,) = learning_figures.draw_learning_times(found).axes
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    assert {(1.0, 4.0), (10.0,), (1.0, 2.0, 4.0)} <= drawn
    assert axes.get_xscale() == axes.get_yscale() == "log"
