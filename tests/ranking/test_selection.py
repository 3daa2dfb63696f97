"""Selection: what it says is true whenever its intervals are, and of normal figures that is as often as they say."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from simqueue.analysis.student import student
from simqueue.ranking.selection import Gap, Gaps, Selection, level_each, looks, select

small = st.floats(-1, 1, allow_nan=False)


def test_looks_double_up_to_the_last() -> None:
    assert looks(10, 160) == [10, 20, 40, 80, 160]
    assert looks(10, 50) == [10, 20, 40, 50]
    assert looks(10, 10) == looks(10, 5) == [10]


def test_all_intervals_together_err_in_one_of_20_cases() -> None:
    assert level_each(2, 1) == pytest.approx(0.95)
    assert 4 * 5 * (1 - level_each(5, 5)) == pytest.approx(0.05)


class Script:
    """Gaps that cover the truth at every look: the truth, and by how much estimates are off in each."""

    def __init__(self, truth: Sequence[float], errors: Sequence[Sequence[float]], slack: float) -> None:
        self.truth, self.errors, self.slack = truth, errors, slack
        self.asked: list[tuple[tuple[int, ...], int]] = []

    def __call__(self, left: Sequence[int], count: int) -> Gaps:
        self.asked.append((tuple(left), count))
        errors = self.errors[len(self.asked) - 1]

        def gap(one: int, other: int) -> Gap:
            off = errors[one] - errors[other]
            return Gap(self.truth[one] - self.truth[other] + off, abs(off) + self.slack)

        return gap


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 5), st.floats(0, 1), st.floats(0.001, 0.5))
def test_whatever_is_said_is_true_if_intervals_cover(
    data: st.DataObject, count: int, slack: float, indifference: float
) -> None:
    truth = data.draw(st.lists(small, min_size=count, max_size=count))
    errors = data.draw(st.lists(st.lists(small, min_size=count, max_size=count), min_size=3, max_size=3))
    script = Script(truth, errors, slack)
    found = select(count, [10, 20, 40], script, indifference)
    best = min(truth)
    assert truth.index(best) in found.open
    assert truth[found.best] - best <= max(found.most, 0.0) + 1e-12
    # Nobody who is out comes back, and nobody who is left is forgotten.
    for (before, _), (after, _) in zip(script.asked, script.asked[1:], strict=False):
        assert set(after) <= set(before)
    assert set(found.open) <= set(script.asked[-1][0])
    assert found.replications == {i: max(n for left, n in script.asked if i in left) for i in range(count)}
    ended = len(found.open) == 1 or found.most <= math.log1p(indifference)
    assert ended or script.asked[-1][1] == 40


def test_who_cannot_be_told_stays_and_ends_with_the_last_look() -> None:
    found = select(3, [10, 20], lambda left, count: lambda one, other: Gap(one - other, math.inf), 0.1)
    assert found == Selection(0, (0, 1, 2), math.inf, {0: 20, 1: 20, 2: 20})


class Normal:
    """Normal figures that have something in common, and paired t intervals of their differences."""

    def __init__(self, means: Sequence[float], common: float, level: float, rng: np.random.Generator) -> None:
        size = (160, 1)
        self.values: NDArray[np.float64] = np.array(means) + common * rng.standard_normal(size)
        self.values = self.values + rng.standard_normal((160, len(means)))
        self.level = level

    def __call__(self, left: Sequence[int], count: int) -> Gaps:
        def gap(one: int, other: int) -> Gap:
            apart = self.values[:count, one] - self.values[:count, other]
            half = student(count - 1, self.level) * np.std(apart, ddof=1) / math.sqrt(count)
            return Gap(float(apart.mean()), float(half))

        return gap


@pytest.mark.statistical
def test_at_the_least_favourable_difference_the_best_is_missed_in_at_most_one_of_20_cases() -> None:
    """Everybody but the first is worse by exactly what just matters."""
    rng, means, apart = np.random.default_rng(1), [0.0, 0.5, 0.5, 0.5], math.expm1(0.5)
    looked = looks(10, 160)
    found = [select(4, looked, Normal(means, 3.0, level_each(4, len(looked)), rng), apart) for _ in range(120)]
    missed = sum(0 not in one.open for one in found)
    assert missed <= 120 * 0.05 + 2 * math.sqrt(120 * 0.05 * 0.95)
    assert sum(one.best != 0 for one in found) <= 6
    # And it does not take all replications to say so.
    assert np.mean([max(one.replications.values()) for one in found]) < 80
    assert all(one.most <= 0.5 for one in found)
