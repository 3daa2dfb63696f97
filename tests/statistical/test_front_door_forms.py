"""Clients who give up and a bounded queue against their closed forms, within the error of independent replications."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from simqueue import (
    Admission,
    Affine,
    ExponentialNoise,
    NoBatching,
    Result,
    System,
    WorkloadSpec,
    make_workload,
    simulate,
)
from simqueue.theory.finite import MMCK
from simqueue.theory.impatience import ErlangA
from simqueue.workload import ExponentialThink, Fixed, Poisson

pytestmark = pytest.mark.statistical

REPLICATIONS, REQUESTS, WARMUP = 16, 6000, 500
# Every interval here is left by a correct simulator for one choice of seeds in a thousand.
QUANTILE = float(stats.t.ppf(1 - 0.0005, REPLICATIONS - 1))
ONE = Fixed(value=1)
SECOND = System(NoBatching(), Affine(base_s=1.0), noise=ExponentialNoise())


def runs(rate: float, patience: ExponentialThink | None, system: System) -> list[Result]:
    spec = WorkloadSpec(
        requests=REQUESTS, arrivals=Poisson(rate=rate), prompt_tokens=ONE, output_tokens=ONE, patience_s=patience
    )
    return [simulate(make_workload(spec, seed), system, seed=seed, warmup=WARMUP) for seed in range(REPLICATIONS)]


def agrees(values: list[float], exact: float) -> None:
    error = float(np.std(values, ddof=1)) / math.sqrt(REPLICATIONS)
    assert abs(np.mean(values) - exact) < QUANTILE * error
    assert error < 0.02 * exact, "known too badly to tell"


def share(result: Result, outcome: str) -> float:
    return float(np.mean(result.requests()["outcome"][WARMUP:] == outcome))


def test_erlang_a() -> None:
    """M/M/1+M: a request of one token that has begun is answered."""
    rate, patience_s = 1.5, 2.0
    exact = ErlangA(rate, 1.0, 1, patience_s)
    results = runs(rate, ExponentialThink(patience_s), SECOND)
    agrees([share(r, "abandoned") for r in results], exact.abandonment_probability)
    agrees([float(r.grid.seconds(r.queueing[WARMUP:]).mean()) for r in results], exact.mean_queueing_s)
    agrees([r.summary()["queueing_s"]["mean"] for r in results], exact.mean_queueing_served_s)
    agrees([r.summary()["throughput_rps"] for r in results], exact.throughput_rps)


def test_bounded_queue() -> None:
    """M/M/1/K, K = ``max_queue`` and the one in service."""
    rate, max_queue = 0.8, 2
    exact = MMCK(rate, 1.0, 1, max_queue + 1)
    results = runs(rate, None, System(SECOND.policy, SECOND.cost, SECOND.noise, admission=Admission(max_queue)))
    agrees([share(r, "rejected") for r in results], exact.blocking_probability)
    agrees([r.summary()["queueing_s"]["mean"] for r in results], exact.mean_queueing_s)
    agrees([r.summary()["utilisation"] for r in results], exact.utilisation)
