"""Thresholds from answers whose truth is known: low, and never lower than the data allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.reports.calibration import lowest_threshold, wilson_upper


@pytest.mark.parametrize(
    ("hits", "trials", "bound"),
    [(0, 0, 1.0), (0, 132, 0.02009), (0, 133, 0.01994), (5, 100, 0.0992), (10, 10, 1.0)],
)
def test_wilsons_upper_end(hits, trials, bound):
    assert wilson_upper(hits, trials) == pytest.approx(bound, abs=1e-4)


@pytest.mark.parametrize(
    ("answers", "threshold"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([(0.9, True)] * 132, None, id="too few to prove it"),
        pytest.param([(0.9, True)] * 133, 0.9, id="just enough"),
        pytest.param([(0.9, True)] * 200 + [(0.8, False)] * 9, 0.9, id="the unsure are wrong"),
        pytest.param([(0.9, True)] * 200 + [(0.5, True)] * 9, 0.5, id="the unsure are right"),
        pytest.param([(0.9, False)] * 500, None, id="always wrong"),
        pytest.param([(0.9, True)] * 133 + [(0.9, False)] * 5, None, id="equally sure, together"),
    ],
)
def test_the_lowest_threshold_that_the_data_allow(answers, threshold):
    found = lowest_threshold(answers, 0.02)

    assert (found and found.threshold) == threshold


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.7, 0.9, 1.0]), st.booleans()), max_size=300),
    st.floats(0, 1),
)
def test_a_threshold_keeps_its_promise(answers, most_wrong):
    found = lowest_threshold(answers, most_wrong)
    good = [
        least
        for least, _ in answers
        if wilson_upper(
            sum(sure >= least and not is_right for sure, is_right in answers),
            sum(sure >= least for sure, _ in answers),
        )
        <= most_wrong
    ]

    assert (found.threshold if found else None) == min(good, default=None)
