"""MSER-5 against its definition and on series whose start is known; averages over replications."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue.analysis.warmup import Warmup, averaged, batch_means, moving_average, mser5

values = st.lists(st.integers(-1000, 1000), min_size=100, max_size=400)
few = st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=40)


def scores(series: list[int]) -> list[float]:
    """By its definition, for every cut in the first half: the sum of squares over the square of the count."""
    means = [sum(series[i : i + 5]) / 5 for i in range(0, len(series) - len(series) % 5, 5)]
    rests = [np.array(means[cut:]) for cut in range(len(means) // 2 + 1)]
    return [float(((rest - rest.mean()) ** 2).sum() / len(rest) ** 2) for rest in rests]


@settings(max_examples=30)
@given(values)
def test_mser5_is_its_definition(series: list[int]) -> None:
    found = mser5(np.array(series, float))
    each = scores(series)
    cut, rest = divmod(found.requests, 5)
    assert rest == 0
    assert each[cut] == pytest.approx(min(each), abs=1e-6)
    assert found.found == (cut < len(each) - 1)


def test_a_transient_is_cut_and_a_steady_series_is_not() -> None:
    rng = np.random.default_rng(3)
    steady = rng.normal(size=20_000)
    bent = steady.copy()
    bent[:2_000] -= np.linspace(8.0, 0.0, 2_000)
    assert mser5(steady).requests < 0.02 * len(steady)
    assert 1_400 < mser5(bent).requests < 2_400


def test_a_series_that_never_settles_is_too_short() -> None:
    assert not mser5(np.arange(1_000.0)).found
    assert mser5(np.arange(50.0)) == Warmup(0, found=False)


def test_the_average_shows_a_start_that_is_lost_in_the_noise_of_one_run() -> None:
    rng = np.random.default_rng(5)
    start = -0.5 * np.exp(-np.arange(5_000) / 300)
    runs = [start + rng.normal(size=5_000) for _ in range(400)]
    assert mser5(averaged(runs)).requests > 2 * mser5(runs[0]).requests


def test_who_was_not_answered_is_left_out_of_average_and_cut() -> None:
    one, other = np.array([1.0, np.nan, np.nan, 4.0]), np.array([3.0, 2.0, np.nan, 8.0, 9.0])
    np.testing.assert_array_equal(averaged([one, other]), [2.0, 2.0, np.nan, 6.0])
    rng = np.random.default_rng(3)
    series = np.concatenate((np.linspace(-9, 0, 200), np.zeros(1800))) + 0.1 * rng.normal(size=2000)
    holes = np.insert(series, np.arange(0, 2000, 4), np.nan)
    assert mser5(holes).requests == pytest.approx(1.25 * mser5(series).requests, abs=3)


def test_what_is_left_over_is_in_no_batch() -> None:
    assert batch_means(np.arange(12), 5).tolist() == [2.0, 7.0]


@given(few, st.integers(0, 5))
def test_the_moving_average_is_its_definition(series: list[float], reach: int) -> None:
    reach = min(reach, len(series) - 1)
    wanted = []
    for place in range(len(series) - reach):
        width = min(place, reach)
        window = series[place - width : place + width + 1]
        wanted.append(sum(window) / len(window))
    assert moving_average(np.array(series), reach) == pytest.approx(wanted, abs=1e-6)
