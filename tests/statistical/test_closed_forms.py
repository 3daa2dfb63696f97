"""The simulator against closed forms and exact chains, within the error of independent replications.

The error of a figure is that of the mean over `REPLICATIONS` runs with seeds of their own, and the interval is
Student's. It is so wide (Bonferroni) that a correct simulator leaves any of all the intervals here for one choice of
seeds in a hundred. A test that cannot fail proves nothing: each figure must also be known well enough, and its
interval so narrow that each rival (what another model, or another reading of the same words, would give) lies twice
its half-width away; whichever of the two the simulator did, the test would tell. Of single servers the intervals
are wider than of batches, as each path of theirs is compared with Lindley's recursion to the last tick.

Runs start empty, and the first `WARMUP` requests are left out. Two tests below bound what that leaves, for one server
with renewal arrivals and for capped batches. The other queues forget at least as fast:
- MMPP: the relaxation times (second eigenvalue of the chain of states and numbers) are 43 s and 23 s, and the warm-up
  lasts over 1,500 s.
- Users: a loop with one more request in the system has one user less who asks, so that two coupled loops with
  exponential thinks lose a difference at rate 1 / think time at least, and the warm-up lasts over 150 think times. With
  lognormal thinks, all of them fresh at 0, it lasts over 50.
- Batches without a cap: the next size is Poisson with a mean of a constant and load times this size, so that at
  most 0.8 of a difference outlives a batch, and the warm-up has at least 24 of them. A timeout makes it shorter.
- Continuous: with all seats taken a step shrinks E exp(theta N) by 2.6 % and 3.0 % at the best theta, and the warm-up
  has over 1,500 steps.
Nothing is cut at the end: nobody waits for those who come later, but batches mix them, and the last few dozen of a
million requests have smaller ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from queues import ONE, QUEUES, SECOND, WARMUP
from replications import Estimate, Figure, Queue, replicate
from scipy.optimize import minimize_scalar

from simqueue import Continuous, Dynamic, ErlangNoise, NoBatching, System, WorkloadSpec, make_workload, simulate
from simqueue.workload import Geometric, Poisson

ALL_FIGURES = sum(len(queue.figures) for queue in QUEUES)
CONFIDENCE = 1 - 0.01 / ALL_FIGURES


def faults(figure: Figure, estimate: Estimate) -> list[str]:
    """What is wrong with an estimate."""
    half = estimate.half_width(CONFIDENCE)
    text = f"{figure.name}: {estimate.mean:.6g} +- {half:.2g}"
    found = []
    if abs(estimate.mean - figure.exact) > half:
        found.append(f"{text}, not {figure.exact:.6g}")
    if estimate.error > figure.precision * figure.exact:
        found.append(f"{text}: the standard error {estimate.error:.2g} is too large to tell")
    if max(figure.exact, estimate.mean - half) > figure.bound * (1 + 1e-12):
        found.append(f"{text}: above the bound {figure.bound:.6g}")
    found += [
        f"{text} would not tell {name} ({rival:.6g}) from {figure.exact:.6g}"
        for name, rival in figure.rivals.items()
        if abs(rival - figure.exact) < 2 * half
    ]
    return found


@pytest.mark.statistical
@pytest.mark.parametrize("queue", QUEUES, ids=lambda queue: queue.name)
def test_simulation_agrees_with_theory(queue: Queue) -> None:
    estimates = replicate(queue)
    found = [fault for pair in zip(queue.figures, estimates, strict=True) for fault in faults(*pair)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("queue", [q for q in QUEUES if isinstance(q.system.policy, NoBatching)], ids=lambda q: q.name)
def test_a_single_server_is_lindleys_recursion(queue: Queue) -> None:
    """Who comes starts when the one before has finished, or at once: W' = (W + service - gap)^+, in whole ticks, users
    included. Source: Lindley (1952), "The theory of queues with a single server"."""
    result = simulate(make_workload(queue.workload, 1), queue.system, seed=1)
    unfinished = np.cumsum(result.service[:-1] - np.diff(result.arrival))
    least = np.minimum.accumulate(np.append(0, unfinished))
    np.testing.assert_array_equal(result.queueing, np.append(0, unfinished) - least)
    assert (result.queueing == 0).any()


@pytest.mark.parametrize(
    ("rate", "gap_shape", "service_shape"),
    [(0.7, 1, 1), (0.6, 1, 1), (0.8, 1, math.inf), (0.7, 1, 2), (0.7, 1, 4), (0.6, 0.25, 1), (0.8, 4, 1)],
)
def test_the_empty_start_is_forgotten(rate: float, gap_shape: float, service_shape: float) -> None:
    """Spitzer (1956, "A combinatorial lemma and its application to probability theory"): E W - E W_n is the sum over
    k > n of E[S_k^+] / k, S_k being a sum of k differences service - gap. By Chernoff E[S_k^+] <= m^k / (e theta)
    with m = E exp(theta S_1), for every theta; a service lasts a second in the mean.
    """

    def log_moment(theta: float) -> float:
        service = theta if math.isinf(service_shape) else -service_shape * math.log1p(-theta / service_shape)
        return service - gap_shape * math.log1p(theta / (gap_shape * rate))

    left_s = remaining(log_moment, min(service_shape, 5.0))
    assert left_s < 1e-6


def test_the_empty_start_is_forgotten_by_capped_batches() -> None:
    """Those left by a batch follow N' = (N + arrivals - b)^+: the same bound, batch by batch. Seven are left on
    average, and the first who count miss less than a thousandth of them."""
    load, cap = 0.9, 8
    assert remaining(lambda theta: load * cap * math.expm1(theta) - cap * theta, 1.0, WARMUP // cap) < 4e-3


def remaining(log_moment: Callable[[float], float], steepest: float, steps: int = WARMUP) -> float:
    best = minimize_scalar(log_moment, bounds=(0, steepest * (1 - 1e-9)), method="bounded")
    assert best.fun < 0
    return math.exp(steps * best.fun) / (steps * math.e * best.x * -math.expm1(best.fun))


@pytest.mark.parametrize(
    "system",
    [
        System(policy=NoBatching(), cost=SECOND, noise=ErlangNoise(shape=2)),
        System(policy=Dynamic(max_batch=8, max_wait_s=3.0), cost=SECOND),
        System(policy=Continuous(max_seqs=4), cost=SECOND),
    ],
    ids=lambda system: type(system.policy).__name__,
)
def test_littles_law_holds_on_every_path(system: System) -> None:
    """From empty to empty the area under the number waiting is the sum of the queueing times, not only in the mean."""
    spec = WorkloadSpec(requests=2000, arrivals=Poisson(rate=0.3), prompt_tokens=ONE, output_tokens=Geometric(mean=3))
    for seed in range(5):
        result = simulate(make_workload(spec, seed), system, seed=seed)
        times, number = result.waiting()
        area = float((np.diff(times) * number[:-1]).sum())
        assert number[-1] == 0
        assert area == pytest.approx(float(result.grid.seconds(result.queueing).sum()), rel=1e-9)
