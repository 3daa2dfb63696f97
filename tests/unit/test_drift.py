"""The drift test: exact where nothing is random, as rarely wrong as it says where something is."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.analysis.drift import Drift, drift

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from bench_drift import queue

TICKS = 10**6


def found(arrival_s: object, left_s: object, rate: float | None = None) -> Drift:
    columns = (np.rint(np.asarray(column) * TICKS).astype(np.int64) for column in (arrival_s, left_s))
    result = drift(*columns, TICKS, rate)
    assert result is not None
    return result


def test_what_grows_evenly_grows_as_fast_as_it_does() -> None:
    """One comes in every second, and one leaves every second second."""
    arrival = np.arange(2000.0)
    result = found(arrival, 2 * arrival + 0.5)
    assert result.growth_rps == pytest.approx(0.5, rel=1e-2)
    assert result.standard_error_rps < 2e-3
    assert result.steady
    assert result.grows
    assert not result.rules_out(0.5)
    assert not result.rules_out(0.9)
    assert result.rules_out(1.1)


def test_what_does_not_grow_does_not() -> None:
    arrival = np.arange(1000.0)
    for stay in (0.0, 0.999, 1.0, 40.25):
        result = found(arrival, arrival + stay)
        assert abs(result.growth_rps) < 2e-3
        assert not result.grows
        assert result.rules_out(0.1)


def test_how_many_are_there_is_counted() -> None:
    """Against the number in the system at every instant, found one by one."""
    rng = np.random.default_rng(3)
    arrival, left = queue(500, 0.9, 1, rng)
    result = drift(arrival, left, TICKS)
    begin = int(arrival[0] + max((arrival[-1] - arrival[0]) / 20, 2 * np.median((left - arrival)[:25])))
    instants = [begin + (int(arrival[-1]) - begin) * k // 20 for k in range(21)]
    number = [sum(a <= t < b for a, b in zip(arrival.tolist(), left.tolist(), strict=True)) for t in instants]
    part_s = (instants[-1] - instants[0]) / 20 / TICKS
    changes = np.diff(number)
    assert result is not None
    assert result.growth_rps == pytest.approx(changes.mean() / part_s)
    assert result.standard_error_rps == pytest.approx(changes.std(ddof=1) / 20**0.5 / part_s)


@given(st.integers(0, 2**32), st.floats(0.3, 3.0), st.integers(-(10**12), 10**12))
def test_the_clock_does_not_matter(seed: int, load: float, later: int) -> None:
    """Neither when it starts nor how fine it is."""
    columns = queue(300, load, 1, np.random.default_rng(seed))
    result = drift(*columns, TICKS, load)
    assert drift(*(column + later for column in columns), TICKS, load) == result
    fine = drift(*(1024 * column for column in columns), 1024 * TICKS, load)
    assert (fine is None) == (result is None)
    if fine and result:
        assert fine.growth_rps == pytest.approx(result.growth_rps, abs=2 / 300)


@pytest.mark.parametrize(
    ("requests", "load", "runs", "least", "most"),
    [
        (2_000, 0.5, 100, 0, 0),
        (2_000, 0.95, 200, 0, 1),
        # One of 100 is beyond doubt at load 1 by mistake: seven or more of 200 with probability 0.5 %.
        (10_000, 1.0, 200, 0, 6),
        (2_000, 1.2, 100, 90, 100),
        (50_000, 1.05, 30, 29, 30),
    ],
)
def test_how_often_a_queue_is_said_to_grow(requests: int, load: float, runs: int, least: int, most: int) -> None:
    results = [drift(*queue(requests, load, 1, np.random.default_rng((5, run))), TICKS, load) for run in range(runs)]
    assert least <= sum(result is not None and result.grows for result in results) <= most
    # Where the queue does grow the run does not speak against it.
    assert load <= 1 or not any(result and result.rules_out(load - 1) for result in results)


def test_the_growth_is_that_of_the_queue_and_its_error_is_honest() -> None:
    """By rate - 1: deviations in standard errors are Student's t of 19 degrees of freedom, of variance 19 / 17."""
    results = [drift(*queue(4_000, 1.5, 1, np.random.default_rng((6, run))), TICKS) for run in range(200)]
    deviations = np.array([(r.growth_rps - 0.5) / r.standard_error_rps for r in results if r])
    assert len(deviations) == 200
    assert abs(deviations.mean()) < 4 / 200**0.5
    assert deviations.var() == pytest.approx(19 / 17, rel=0.4)


def test_a_run_too_short_to_tell_says_nothing() -> None:
    arrival = np.arange(1000) * TICKS
    assert drift(arrival[:150], arrival[:150] + TICKS, TICKS) is None
    # Nobody has left before most have come: it may be filling still.
    assert drift(arrival, arrival + 300 * TICKS, TICKS) is None
    # All at once.
    assert drift(np.zeros(1000, np.int64), arrival, TICKS) is None


def test_uneven_arrivals_say_nothing_of_the_system() -> None:
    """The number in the system grows for want of steadiness of what comes: in bursts as long as a part of the run, with
    a trend, or otherwise than it should."""
    rng = np.random.default_rng(1)
    slow = rng.standard_exponential(4_000)
    bursts = np.cumsum(np.where(np.arange(4_000) // 500 % 2, 0.5, 2.0) * slow)
    ramp = np.cumsum(slow / np.linspace(0.5, 1.5, 4_000))
    for arrival in (bursts, ramp):
        result = found(arrival, arrival + 1 + np.linspace(0, 1000, 4_000))
        assert not result.steady
        assert not result.grows
        assert not result.rules_out(1e9)
    even = np.cumsum(slow)
    assert found(even, even + 1, 1.0).steady
    assert not found(even, even + 1, 1.3).steady
