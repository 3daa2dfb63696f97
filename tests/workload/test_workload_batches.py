"""Several requests at one instant, and the rate that they have together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import simqueue
from simqueue.errors import WorkloadError
from simqueue.workload import (
    MMPP,
    Batches,
    Constant,
    Count,
    Fixed,
    GeometricCount,
    Poisson,
    Sinusoidal,
    WorkloadSpec,
    make_workload,
)
from simqueue.workload.streams import streams

SIZES = [1, 5, GeometricCount(1.0), GeometricCount(4.0)]
PROCESSES = [Constant(2.0), Poisson(6.0), MMPP((9.0, 0.0), (2.0, 1.0)), Sinusoidal(3.0, 0.9, 20.0)]


def test_a_batch_comes_at_one_instant() -> None:
    times = Batches(Constant(6.0), 3).times(8, streams(0))
    assert times.tolist() == [0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.5, 1.5]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_batches_of_one_are_none(process: Any) -> None:
    assert np.array_equal(Batches(process, 1).times(50, streams(1)), process.times(50, streams(1)))


@given(st.sampled_from(PROCESSES), st.sampled_from(SIZES), st.integers(0, 2**63 - 1), st.integers(1, 60))
def test_more_requests_change_no_earlier_one(process: Any, size: Count, seed: int, count: int) -> None:
    batches = Batches(process, size)
    longer = batches.times(count + 20, streams(seed))
    assert np.array_equal(batches.times(count, streams(seed)), longer[:count])


@given(st.sampled_from(PROCESSES), st.sampled_from(SIZES), st.integers(0, 2**63 - 1), st.floats(0.1, 10))
def test_at_another_rate_the_batches_are_the_same(process: Any, size: Count, seed: int, factor: float) -> None:
    batches = Batches(process, size)
    times, again = batches.times(60, streams(seed)), batches.scaled(factor).times(60, streams(seed))
    rescaled = batches.rescale(times, factor, streams(seed))
    np.testing.assert_allclose(rescaled, again, rtol=1e-9)
    assert np.array_equal(np.diff(rescaled) == 0, np.diff(times) == 0)
    assert batches.mean_rate == process.mean_rate


@pytest.mark.statistical
def test_sizes_are_geometric_and_the_rate_is_that_of_requests() -> None:
    times = Batches(Poisson(20.0), GeometricCount(4.0)).times(100_000, streams(2))
    instants, sizes = np.unique(times, return_counts=True)
    observed = np.bincount(np.minimum(sizes[:-1], 12), minlength=13)[1:]
    expected = np.append(stats.geom(0.25).pmf(range(1, 12)), stats.geom(0.25).sf(11)) * (len(sizes) - 1)
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert stats.kstest(np.diff(instants), stats.expon(scale=4 / 20).cdf).pvalue > 1e-3
    # 25,000 batches: the standard error of the mean of a compound count is sqrt(1 + 0.75) / sqrt(25,000).
    assert 100_000 / times[-1] == pytest.approx(20.0, rel=4 * np.sqrt(1.75 / 25_000))


@pytest.mark.statistical
@pytest.mark.parametrize(("size", "mean", "pairs"), [(4, 4.0, 12.0), (GeometricCount(3.0), 3.0, 12.0)])
def test_the_wait_behind_batches(size: Count, mean: float, pairs: float) -> None:
    """M^X/D/1: mean wait ``rho s / (2 (1 - rho)) + E[X (X - 1)] s / (2 E[X] (1 - rho))``. Source: Chaudhry and
    Templeton, A First Course in Bulk Queues (1983), section 3.2; `pairs` is ``E[X (X - 1)]``."""
    rho, service_s = 0.6, 1e-3
    system = simqueue.System(simqueue.NoBatching(), simqueue.Affine(base_s=service_s))
    spec = WorkloadSpec(
        requests=4000,
        arrivals=Batches(Poisson(rho / service_s), size),
        prompt_tokens=Fixed(value=1),
        output_tokens=Fixed(value=1),
    )
    waits = [
        simqueue.simulate(make_workload(spec, seed), system, warmup=300).summary()["queueing_s"]["mean"]
        for seed in range(16)
    ]
    exact = service_s / (2 * (1 - rho)) * (rho + pairs / mean)
    error = np.std(waits, ddof=1) / np.sqrt(len(waits))
    assert abs(np.mean(waits) - exact) < 4 * error
    assert error < 0.07 * exact


def test_a_batch_is_no_larger_than_the_workload() -> None:
    assert Batches(Constant(1.0), 2**31 - 1).times(3, streams(0)).tolist() == [2**31 - 1] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batches(Poisson(1.0), 0), "batches arrivals: size = 0 is not a whole number from 1"),
        (lambda: Batches(Poisson(1.0), 2.5), r"batches arrivals: size = 2\.5 is not a whole number"),  # type: ignore[arg-type]
        (lambda: GeometricCount(0.5), r"geometric count: mean = 0\.5 is not a number from 1"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        make()
