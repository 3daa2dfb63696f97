"""Latency against the number of users, and against load: live points, and simulations of as many requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lab.bench import Bench, asked_by, coming_at
from lab.machine import Machine
from lab.trial import SEED, Case, Figures, mean, summary
from simqueue.policy import BatchingPolicy
from simqueue.sim.simulate import saturation_rps
from simqueue.workload import Workload

LOADS = (0.3, 0.6, 0.9)
# The simulator says how long a run will take, so that each point gets about this many seconds of requests, and a point
# that would take far longer is only simulated.
POINT_S, _LONGEST_S = 0.4, 5.0
_LEAST, _MOST, _PILOT = 24, 2000, 400
_STEP = 8
DRAWS, NOISE_SEEDS = 6, 3


@dataclass(frozen=True)
class Point:
    """One point of a curve.

    Attributes:
        kind: the policy's name.
        users: how many ask, in a closed loop.
        rate, load: arrivals per second, and as a share of the predicted saturation, in an open loop.
        requests: how many were run.
        live: figures of the live run; None if that would have taken too long.
        simulated: mean over noise seeds on the very workload that ran live.
        draws: of simulations of as many requests of other draws.
    """

    kind: str
    requests: int
    live: Figures | None
    simulated: Figures
    draws: Sequence[Figures]
    users: int | None = None
    rate: float | None = None
    load: float | None = None


def against_users(bench: Bench, machine: Machine, policies: Sequence[BatchingPolicy]) -> Iterator[Point]:
    """Users who ask again as soon as they are answered, from one to as many as a batch takes."""
    for policy in policies:
        for users in user_counts(bench.most):
            pilot = Case(machine, policy, asked_by(users, max(_PILOT, 2 * users))).simulated()
            rps = max(_PILOT, 2 * users) / pilot["total_s"]
            requests = _sized(rps, 2 * users)
            point = _point(machine, policy, partial(asked_by, users, requests), requests / rps)
            yield replace(point, users=users)


def against_load(machine: Machine, policies: Sequence[BatchingPolicy]) -> Iterator[Point]:
    """Poisson arrivals at shares of what each policy can sustain, as predicted."""
    for policy in policies:
        limit = saturation_rps(coming_at(1.0, _MOST), machine.system(policy))
        for load in LOADS:
            rate = load * limit
            requests = _sized(rate, 0)
            point = _point(machine, policy, partial(coming_at, rate, requests), requests / rate)
            yield replace(point, rate=rate, load=load)


def user_counts(most: int) -> list[int]:
    """1, 8, 64, ... and ``most``."""
    counts = [1]
    while counts[-1] * _STEP < most:
        counts.append(counts[-1] * _STEP)
    return [*counts, most]


def _sized(rps: float, least: int) -> int:
    return min(_MOST, max(_LEAST, least, round(rps * POINT_S)))


def _point(machine: Machine, policy: BatchingPolicy, make: Callable[[int], Workload], expected_s: float) -> Point:
    case = Case(machine, policy, make(SEED))
    served = case.live() if expected_s <= _LONGEST_S else None
    return Point(
        kind=case.kind,
        requests=len(case.workload),
        live=summary(served.result) if served and served.result else None,
        simulated=mean([case.simulated(seed) for seed in range(NOISE_SEEDS)]),
        draws=[replace(case, workload=make(SEED + 1 + n)).simulated(n) for n in range(DRAWS)],
    )
