"""Capacity and drift together: which runs are labelled unstable where the saturation throughput does not tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simqueue import Affine, NoBatching, Result, System, Workload, WorkloadSpec, make_workload, simulate
from simqueue.policy import FastServe, RayServe
from simqueue.system import Admission, Memory
from simqueue.workload import Constant, Fixed, Geometric, Poisson
from simqueue.workload.varying import Varying

SECOND = System(NoBatching(), Affine(base_s=1.0))


def workload(rate: float, requests: int = 3000, **further: Any) -> Workload:
    """Poisson arrivals of single passes, unless told otherwise."""
    spec = {
        "arrivals": Poisson(rate=rate),
        "prompt_tokens": Fixed(1),
        "output_tokens": Fixed(1),
        **further,
    }
    return make_workload(WorkloadSpec(requests=requests, **spec), seed=2)


def test_batches_that_do_not_grow_with_the_queue() -> None:
    """Two come in 10 ms, and three of them take 30 ms: the queue grows at a load of 0.3."""
    system = System(RayServe(max_batch_size=16, batch_wait_timeout_s=0.01), Affine(base_s=0.03))
    result = simulate(workload(200.0), system)
    assert result.saturation_rps() == pytest.approx(16 / 0.03, rel=1e-2)
    assert result.unstable
    # A batch has the first request, and who comes in the next 10 ms.
    assert result.drift is not None
    assert result.drift.growth_rps == pytest.approx(200 - (1 + 200 * 0.01) / 0.03, rel=0.05)
    assert not simulate(workload(20.0), system).unstable


def test_a_policy_that_gets_through_less_when_all_wait() -> None:
    """Swapping costs time where many take turns, and none where few are there."""
    policy = FastServe(max_batch_size=8, preemption="swap")
    memory = Memory(block_size=16, num_blocks=40, swap_gib_per_s=1.0, kv_bytes_per_token=400_000)
    system = System(policy, Affine(base_s=1e-3), memory=memory)
    made = workload(30.0, 700, output_tokens=Geometric(mean=20, max=100), max_output_tokens=100)
    result = simulate(made, system)
    assert result.saturation_rps() < 25
    assert not result.unstable
    figures = result.summary()
    assert abs(figures["backlog_growth_rps"]) < 3 * figures["backlog_growth_se_rps"] + 0.01


@pytest.mark.parametrize("load", [0.8, 1.5])
def test_who_gives_up_or_is_turned_away_makes_no_queue(load: float) -> None:
    limited = System(NoBatching(), Affine(base_s=1.0), admission=Admission(max_queue=10))
    runs = simulate(workload(load, patience_s=5.0), SECOND), simulate(workload(load), limited)
    for result in runs:
        assert not result.unstable
        assert result.drift is not None
        assert not result.drift.grows


@pytest.mark.parametrize(("load", "unstable"), [(0.95, False), (1.02, True), (1.5, True)])
def test_where_capacity_is_right_it_decides(load: float, unstable: bool) -> None:
    """Also where the run is too short for the drift to tell."""
    for requests in (300, 3000):
        assert simulate(workload(load, requests), SECOND).unstable is unstable


def of_columns(arrival_s: Any) -> Result:
    ones = np.ones(len(arrival_s), int)
    return simulate(Workload.from_columns(arrival_s, ones, ones), SECOND)


def test_of_a_trace_the_load_decides_and_the_growth_is_said() -> None:
    late = np.concatenate((np.arange(1000) * 2.0, 2000 + np.arange(1000) * 0.5))
    result = of_columns(late)
    assert result.workload.rate == pytest.approx(0.8, rel=1e-2)
    assert not result.unstable
    # Half of the arrivals come in a fifth of the time, and 500 of them are still there at the end.
    assert result.summary()["backlog_growth_rps"] == pytest.approx(500 / 2500, rel=0.1)
    even = of_columns(np.arange(2000) / 1.5)
    assert even.unstable
    assert even.summary()["backlog_growth_rps"] == pytest.approx(0.5, rel=1e-2)


def test_a_rate_that_rises_is_no_drift_of_the_system() -> None:
    """The mean rate of the curve is 0.7; at the end of the run, in its second half, more come than are served."""
    points = ((0.0, 0.2), (2000.0, 1.2), (2001.0, 0.2))
    result = simulate(workload(1.0, 1300, arrivals=Varying(points=points)), SECOND)
    assert result.drift is not None
    assert not result.drift.steady
    assert not result.unstable


def test_every_request_counts_whatever_the_warm_up() -> None:
    made = workload(1.0, 1000, arrivals=Constant(rate=1.5))
    assert simulate(made, SECOND).drift == simulate(made, SECOND, warmup=900).drift
    short = simulate(made.head(100), SECOND)
    assert short.drift is None
    assert short.unstable
    assert short.summary()["backlog_growth_rps"] is None
