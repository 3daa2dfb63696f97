"""Arrivals whose rate follows the clock, against the integral of that rate."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simqueue import WorkloadSpec, make_workload
from simqueue.errors import WorkloadError
from simqueue.workload import Fixed, Sinusoidal, Varying
from simqueue.workload.streams import streams

RAMP = Varying([(0, 2.0), (10, 8.0)])
SPIKE = Varying([(0, 1.0), (5, 1.0), (5, 40.0), (6, 40.0), (6, 1.0), (20, 1.0)])
ON_OFF = Varying([(0, 0.0), (4, 0.0), (4, 6.0), (8, 6.0), (9, 0.0)])
WAVE = Sinusoidal(3.0, 0.8, 24.0, 15.0)
FULL = Sinusoidal(3.0, 1.0, 7.0)
EVERY = [RAMP, SPIKE, ON_OFF, WAVE, FULL]


def rate_at(process: Varying | Sinusoidal, at_s: float) -> float:
    """By the words of the docstrings."""
    if isinstance(process, Sinusoidal):
        return process.rate * (
            1 + process.amplitude * math.cos(2 * math.pi * (at_s - process.peak_s) / process.period_s)
        )
    at_s %= process.points[-1][0]
    for (t0, r0), (t1, r1) in zip(process.points, process.points[1:], strict=False):
        if t0 <= at_s < t1:
            return r0 + (r1 - r0) * (at_s - t0) / (t1 - t0)
    raise AssertionError(at_s)


def expected(process: Varying | Sinusoidal, at_s: float) -> float:
    """Requests until then, by adding up small steps of the midpoint rule."""
    edges = np.linspace(0, at_s, 40_001)
    return float(np.sum([rate_at(process, t) for t in (edges[1:] + edges[:-1]) / 2]) * (edges[1] - edges[0]))


@pytest.mark.parametrize("process", EVERY, ids=repr)
def test_arrivals_are_a_unit_rate_process_through_the_integral_of_the_rate(process: Any) -> None:
    times = process.times(150, streams(4))
    unit = np.cumsum(streams(4).gaps.standard_exponential(150))
    for i in (0, 7, 60, 149):
        assert expected(process, times[i]) == pytest.approx(unit[i], abs=0.02 + 1e-3 * unit[i])
    assert np.all(np.diff(times) >= 0)


@pytest.mark.parametrize("process", EVERY, ids=repr)
def test_the_mean_rate_is_that_of_a_period(process: Any) -> None:
    period_s = process.period_s if isinstance(process, Sinusoidal) else process.points[-1][0]
    assert process.mean_rate == pytest.approx(expected(process, period_s) / period_s, rel=1e-3)


@pytest.mark.statistical
@pytest.mark.parametrize("process", EVERY, ids=repr)
def test_counts_are_poisson_in_every_window(process: Any) -> None:
    edges = np.linspace(0, 24, 13)
    means = np.diff([expected(process, at) if at else 0.0 for at in edges])
    counts = np.array([np.histogram(process.times(300, streams(seed)), edges)[0] for seed in range(400)])
    assert np.all(np.abs(counts.mean(axis=0) - means) <= 4.5 * np.sqrt(means / 400) + 0.01)
    busy = means > 1
    # Variance over mean of 400 counts is chi-square over its degrees of freedom.
    ratio = counts.var(axis=0, ddof=1)[busy] / means[busy]
    assert np.all(stats.chi2(399).cdf(399 * ratio) > 1e-5)
    assert np.all(stats.chi2(399).sf(399 * ratio) > 1e-5)


def test_nobody_comes_while_the_rate_is_0() -> None:
    within = ON_OFF.times(5000, streams(1)) % 9
    assert np.all((within >= 4 - 1e-9) & (within < 9))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 50)), min_size=1, max_size=6),
    st.integers(1, 40),
    st.floats(0.2, 5),
)
def test_another_rate_keeps_what_is_expected_at_each_arrival(steps: Any, count: int, factor: float) -> None:
    at = np.cumsum([step for step, _ in steps])
    points = [(0.0, 1.0), *((float(a), r) for a, (_, r) in zip(at, steps, strict=True)), (float(at[-1]) + 1, 2.0)]
    process = Varying(points)
    times = process.times(count, streams(2))
    faster = process.scaled(factor)
    assert faster.mean_rate == pytest.approx(factor * process.mean_rate)
    again = process.rescale(times, factor, streams(2))
    # Where the rate is 0, or nearly, many instants have the same number expected before them.
    there, back = faster._cumulative(again), process._cumulative(times)
    np.testing.assert_allclose(there, back, rtol=1e-6, atol=1e-6 * count)
    np.testing.assert_allclose(faster._cumulative(faster.times(count, streams(2))), back, rtol=1e-6, atol=1e-6 * count)


def test_a_day_is_a_workload_at_any_rate() -> None:
    spec = WorkloadSpec(requests=500, arrivals=WAVE, prompt_tokens=Fixed(3), output_tokens=Fixed(2))
    day = make_workload(spec, 0)
    twice = day.at_rate(2 * day.rate)
    again = make_workload(msgspec.structs.replace(spec, arrivals=WAVE.scaled(2.0)), 0)
    np.testing.assert_allclose(twice.arrival_s, again.arrival_s, rtol=1e-9)


def test_the_wave_is_highest_at_its_peak() -> None:
    counts, _ = np.histogram(WAVE.times(60_000, streams(3)) % 24, 24)
    assert np.argmax(counts) in (14, 15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Varying([(0, 1.0)]), "must begin at 0 s and end later"),
        (lambda: Varying([(1, 1.0), (2, 1.0)]), "must begin at 0 s and end later"),
        (lambda: Varying([(0, 1.0), (5, 2.0), (3, 1.0)]), r"points\[2\] = \[3, 1.0\] comes before points\[1\]"),
        (lambda: Varying([(0, 0.0), (5, 0.0)]), "every rate is 0"),
        (lambda: Varying([(0, 1.0), (5, -2.0)]), r"points\[1\] = \[5, -2.0\] is no pair of numbers"),
        (lambda: Varying([(0, 1.0), (5,)]), r"points\[1\] = \[5\] is no pair"),
        (lambda: Sinusoidal(0.0, 0.5, 10.0), r"rate = 0\.0"),
        (lambda: Sinusoidal(1.0, 1.5, 10.0), r"amplitude = 1\.5"),
        (lambda: Sinusoidal(1.0, 0.5, 0.0), r"period_s = 0\.0"),
        (lambda: Sinusoidal(1.0, 0.5, 1.0, math.inf), "peak_s = inf is no finite number"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        make()
