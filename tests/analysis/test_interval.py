"""Intervals against textbook ones, Student's t against SciPy, and how often they cover what is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simqueue.analysis.interval import Interval, interval, sections
from simqueue.analysis.student import student

near = st.floats(0.999, 1.001)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_students_t(level: float) -> None:
    for freedom in (1, 2, 3, 4, 9, 10, 19, 159):
        assert student(freedom, level) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-10)


@settings(max_examples=20)
@given(st.lists(near, min_size=2, max_size=20))
def test_parts_that_are_close_have_the_usual_interval(parts: list[float]) -> None:
    whole = float(np.mean(parts))
    count = len(parts)
    usual = stats.t.ppf(0.975, count - 1) * np.std(parts, ddof=1) / math.sqrt(count)
    assert interval(parts, whole).half_width == pytest.approx(usual, rel=0.05, abs=1e-9)


@settings(max_examples=20)
@given(st.lists(st.floats(-10, 10), min_size=3, max_size=20))
def test_figures_that_are_not_positive_have_the_usual_interval(parts: list[float]) -> None:
    parts = [*parts, -1.0]
    found = interval(parts, float(np.mean(parts)))
    usual = stats.t.ppf(0.975, len(parts) - 1) * np.std(parts, ddof=1) / math.sqrt(len(parts))
    assert found.half_width == pytest.approx(usual, rel=1e-9, abs=1e-12)


def test_the_longer_side_is_that_of_the_reciprocal() -> None:
    """Turned back, the ends are those of the interval of 1 / x."""
    parts, whole = [0.8, 1.0, 1.1, 1.3], 1.0
    usual = stats.t.ppf(0.975, 3) * math.sqrt(sum((1 / x - 1) ** 2 for x in parts) / 12)
    assert whole + interval(parts, whole).half_width == pytest.approx(1 / (1 - usual))
    assert interval([0.1, 1.0, 10.0], 1.0).half_width == math.inf


def test_a_part_with_more_data_weighs_more() -> None:
    """The ratio estimator: twice the weight is twice the deviation."""
    even, uneven = interval([-1.0, 1.0], 0.0), interval([-1.0, 1.0], 0.0, [1.0, 3.0])
    assert uneven.half_width == pytest.approx(even.half_width * math.sqrt((0.5**2 + 1.5**2) / 2))
    assert interval([-1.0, 1.0], 0.0, [2.0, 2.0]) == even


def test_one_part_tells_nothing_of_spread() -> None:
    assert math.isnan(interval([1.0], 1.0).half_width)
    assert math.isnan(interval([1.0, math.nan], 1.0).half_width)
    assert Interval(0.0, 0.0).relative == 0.0
    assert Interval(0.0, 1.0).relative == math.inf
    assert Interval(-2.0, 1.0).relative == 0.5


def test_intervals_cover_as_often_as_they_say() -> None:
    """The p90 of independent exponentials in 20 parts; three standard errors of 1,000 experiments are 2 %."""
    rng = np.random.default_rng(11)
    truth, covered, runs = math.log(10), 0, 1_000
    for _ in range(runs):
        draws = np.sort(rng.exponential(size=(20, 500)), axis=1)
        whole = float(np.quantile(draws, 0.9, method="inverted_cdf"))
        found = interval(draws[:, 449].tolist(), whole)
        covered += abs(found.value - truth) <= found.half_width
    assert abs(covered / runs - 0.95) < 0.021


@given(st.integers(0, 50), st.integers(0, 500), st.integers(1, 20))
def test_sections_are_all_of_it_in_equal_parts(begin: int, length: int, count: int) -> None:
    parts = sections(begin, begin + length, count)
    assert [i for part in parts for i in range(*part)] == list(range(begin, begin + length))
    sizes = [end - start for start, end in parts]
    assert max(sizes) - min(sizes) <= 1
