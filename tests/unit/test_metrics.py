"""Figures of merit against NumPy's own and against counting one by one."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue import metrics
from simqueue.units import Grid

TIMES = st.lists(st.integers(0, 10**15), min_size=1, max_size=300)


@given(TIMES)
def test_percentiles_are_the_inverted_empirical_distribution(values: list[int]) -> None:
    """The least value that at least p percent do not exceed (type 1 of Hyndman and Fan, 1996)."""
    found = metrics.stats(np.array(values))
    assert found is not None
    ordered = sorted(values)
    for p in metrics.PERCENTILES:
        assert found[f"p{p}"] == next(v for i, v in enumerate(ordered, 1) if 100 * i >= p * len(ordered))
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["max"] == max(values)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 19, 20, 21, 99, 100, 101, 1000, 12345, 100_000])
def test_percentiles_are_those_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).exponential(1.0, count)
    found = metrics.stats(values)
    cuts = np.quantile(values, np.array(metrics.PERCENTILES) / 100, method="inverted_cdf")
    assert found == {
        "mean": float(values.mean()),
        **{f"p{p}": float(cut) for p, cut in zip(metrics.PERCENTILES, cuts, strict=True)},
        "max": float(values.max()),
    }


@pytest.mark.parametrize("distinct", [1, 7, 30_000, 10**12])
def test_of_many_values_the_same_are_found_in_any_order(distinct: int) -> None:
    """Sorted where many are equal, otherwise split."""
    values, shares = np.random.default_rng(1).integers(0, distinct, 30_000), [0.0, 0.2, 0.5, 0.5, 0.999, 1.0]
    assert metrics.selected(values.copy(), shares) == list(metrics.quantiles(np.sort(values), shares))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=60))
def test_most_waiting_is_the_most_over_time(pairs: list[tuple[int, int]]) -> None:
    arrival, wait = np.array(sorted(pairs), np.int64).T
    _, waiting = metrics.waiting_over_time(arrival, arrival + wait, Grid(1))
    assert metrics.most_waiting(arrival, arrival + wait) == waiting.max()


@given(st.lists(st.tuples(st.sampled_from((0, 3, 4, 2**40, 2**62)), st.integers(0, 9)), max_size=30))
def test_tallied_are_as_many_of_each(pairs: list[tuple[int, int]]) -> None:
    values, weights = np.array(pairs, np.int64).reshape(-1, 2).T
    each, often = metrics.tallied(values, weights)
    np.testing.assert_array_equal(np.sort(np.repeat(each, often)), np.sort(np.repeat(values, weights)))


def test_percentiles_of_a_million_have_the_exact_rank() -> None:
    for count in (10**6, 10**6 + 1, 3 * 10**6 + 7):
        found = metrics.stats(np.arange(1, count + 1))
        assert found is not None
        assert [found[f"p{p}"] for p in metrics.PERCENTILES] == [-(-p * count // 100) for p in metrics.PERCENTILES]


@given(st.lists(st.tuples(st.integers(0, 10**12), st.integers(0, 9)), max_size=60))
def test_weighted_values_are_as_if_repeated(pairs: list[tuple[int, int]]) -> None:
    values, weights = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    found = metrics.weighted_stats(values, weights, 1000.0)
    expected = metrics.stats(np.repeat(values, weights), 1000.0)
    assert found == (expected and pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize("spread", [1.0, 8.0])
def test_of_many_weighted_values_the_very_ones_are_found(spread: float) -> None:
    """Also where nearly all of them lie in one bin of the histogram."""
    rng = np.random.default_rng(1)
    values, weights = rng.lognormal(0, spread, 50_000), rng.integers(1, 9, 50_000)
    found, expected = metrics.weighted_stats(values, weights, 1.0), metrics.stats(np.repeat(values, weights))
    assert found is not None
    assert expected is not None
    assert found.pop("mean") == pytest.approx(expected.pop("mean"), rel=1e-12)
    assert found == expected


def test_threads_change_no_digit() -> None:
    code = (
        "import numpy as np; from simqueue import metrics; rng = np.random.default_rng(1); "
        "print(metrics.weighted_stats(rng.random(400_000), rng.integers(1, 64, 400_000), 1.0))"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            capture_output=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert told[0] == told[1] != b""


def test_nothing_has_no_figures() -> None:
    nothing = np.zeros(0, np.int64)
    assert metrics.stats(nothing) is None
    assert metrics.weighted_stats(nothing, nothing, 1.0) is None


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 50)), min_size=1, max_size=30))
def test_batch_sizes_of_leaps_are_those_of_their_steps(leaps: list[tuple[int, int]]) -> None:
    rows, steps = (np.array([leap[i] for leap in leaps], np.int64) for i in (0, 1))
    each = np.repeat(rows, steps)
    seen = np.repeat(each, each)  # every row of every step reports the size of its step
    assert metrics.batch_sizes(rows, steps) == {
        "mean_per_step": pytest.approx(each.mean()),
        "mean_per_request": pytest.approx(seen.mean()),
    }


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[int], list[tuple[int, int]]]:
    """Step ends, and the first and last step at which each of some requests emits."""
    ends = np.cumsum(draw(st.lists(st.integers(1, 50), min_size=1, max_size=30))).tolist()
    step = st.integers(0, len(ends) - 1)
    pairs = draw(st.lists(st.tuples(step, step).map(lambda pair: (min(pair), max(pair))), min_size=1, max_size=20))
    return ends, pairs


@given(streams())
def test_token_gaps_one_by_one(case: tuple[list[int], list[tuple[int, int]]]) -> None:
    ends, pairs = case
    expected = sorted(ends[i + 1] - ends[i] for first, last in pairs for i in range(first, last))
    column = np.array(ends)
    first, last = np.array(pairs).T
    gaps, often = metrics.token_gaps(column, column[first], column[last])
    assert sorted(np.repeat(gaps, often).tolist()) == expected


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30))
def test_number_waiting_one_instant_after_another(requests: list[tuple[int, int]]) -> None:
    arrival = np.array([at for at, _ in requests])
    scheduled = arrival + [wait for _, wait in requests]
    seconds, waiting = metrics.waiting_over_time(arrival, scheduled, Grid(1))
    assert seconds.tolist() == sorted({*arrival.tolist(), *scheduled.tolist()})
    assert waiting.tolist() == [int(((arrival <= t) & (scheduled > t)).sum()) for t in seconds]
    assert math.isclose(np.dot(waiting[:-1], np.diff(seconds)), (scheduled - arrival).sum())
