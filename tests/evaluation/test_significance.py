"""Welch's t-test, against scipy's."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gpt2lab.evaluation.significance import welch

VALUES = st.lists(st.floats(-100, 100).map(lambda value: round(value, 3)), min_size=2, max_size=8)


@given(VALUES, VALUES)
def test_agrees_with_scipy(first: list[float], second: list[float]) -> None:
    stats = pytest.importorskip("scipy.stats")
    assume(len(set(first)) > 1 and len(set(second)) > 1)
    ours, theirs = welch(first, second), stats.ttest_ind(first, second, equal_var=False)
    assert ours is not None
    assert ours.t == pytest.approx(theirs.statistic, rel=1e-9)
    assert ours.freedom == pytest.approx(theirs.df, rel=1e-9)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


def test_by_hand() -> None:
    """Means 2 and 3, both variances 1, three values each: t = -1 / sqrt(2/3), four degrees of freedom.

    With four, P(|T| >= t) is 1 - t (t^2 + 6) / (t^2 + 4)^1.5.
    """
    found = welch([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    t = 1.5**0.5
    assert found is not None
    assert (found.difference, found.t, found.freedom) == (-1.0, pytest.approx(-t), pytest.approx(4.0))
    assert found.p == pytest.approx(1 - t * (t**2 + 6) / (t**2 + 4) ** 1.5)


@pytest.mark.parametrize("samples", [([1.0], [2.0, 3.0]), ([1.0, 2.0], []), ([1.0, 1.0], [2.0, 2.0])])
def test_nothing_can_be_said(samples: tuple[list[float], list[float]]) -> None:
    assert welch(*samples) is None
