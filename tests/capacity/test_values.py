"""The fewest replicas and the values that hold, against brute force and Erlang's formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simqueue import Affine, Cluster, ExponentialNoise, NoBatching, Static, System, WorkloadSpec
from simqueue.capacity import trial, values
from simqueue.capacity.slo import limits_of
from simqueue.capacity.trial import Case
from simqueue.capacity.trials import Trials
from simqueue.capacity.values import Holding, Value, fewest_replicas, values_that_hold
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.theory import MMC
from simqueue.workload import Fixed, Poisson, Users

ONE = Fixed(value=1)
MM = System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=ExponentialNoise())


@pytest.fixture(autouse=True)
def short_first_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_FIRST_REQUESTS", 150)
    monkeypatch.setattr(trial, "_SATURATING", 1000)


def poisson(rate: float) -> WorkloadSpec:
    return WorkloadSpec(requests=100, arrivals=Poisson(rate=rate), prompt_tokens=ONE, output_tokens=ONE)


def fleet(replicas: Value) -> Case:
    return Case(poisson(4.0), Cluster.of(int(replicas), MM, ShortestQueue()), None, 1)


def ask(case: Callable[[Value], Case], slo: str, *ends: Value, precision: float = 0.2) -> tuple[Holding, Trials]:
    limits = limits_of([slo], case(ends[0] if ends else 1).spec)
    trials = Trials(limits, None, 10**6)
    if ends:
        return values_that_hold(case, limits, trials, *ends, precision=precision), trials
    return fewest_replicas(case, limits, trials, 0.2), trials


def test_the_fewest_replicas_are_those_of_brute_force() -> None:
    found, trials = ask(fleet, "response_s.mean <= 1.3")
    fewest = found.ranges[0][0]
    limits = limits_of(["response_s.mean <= 1.3"], poisson(4.0))
    each = {n: Trials(limits, None, 10**6).decided(fleet(n), 0.2).meets(limits) for n in (fewest - 1, fewest)}
    assert each == {fewest - 1: False, fewest: True}
    # One queue for all is never worse than one each.
    shared = next(n for n in range(5, 20) if MMC(4.0, 1.0, n).mean_response_s <= 1.3)
    assert shared <= fewest <= shared + 2
    assert {one.value for one in trials.done} >= {fewest - 1, fewest}


def test_unstable_fleets_are_not_run() -> None:
    _, trials = ask(fleet, "response_s.mean <= 3")
    assert min(one.value or 0 for one in trials.done) >= 5


def test_a_limit_that_no_fleet_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MOST_REPLICAS", 6)
    found, trials = ask(fleet, "response_s.mean <= 0.5")
    assert found.ranges == ()
    assert [one.value for one in trials.done][-1] == 6


def test_values_that_hold_are_told_to_the_last_whole_number() -> None:
    # A batch of b waits (b - 1) / 2 / rate for its company, and then takes 1 + 0.01 b: for 1 of 2.5 requests a second
    # a batch has to be of 3 at least; of how many at most is decided by waiting.
    def batches(size: Value) -> Case:
        policy = Static(batch=int(size), release="request")
        return Case(poisson(1.5), System(policy=policy, cost=Affine(base_s=1.0, per_row_s=0.01)), None, 1)

    found, trials = ask(batches, "response_s.mean <= 3.2", 1, 12)
    brute = [n for n in range(1, 13) if _kept(batches(n))]
    assert found.ranges == ((brute[0], brute[-1]),)
    assert not found.monotone
    assert brute == list(range(brute[0], brute[-1] + 1))
    assert len({one.value for one in trials.done}) < 12
    assert brute[0] <= (found.best.value or 0) <= brute[-1]


def _kept(case: Case) -> bool:
    limits = limits_of(["response_s.mean <= 3.2"], case.spec)
    return Trials(limits, None, 10**6).decided(case, 0.2).meets(limits)


def test_a_number_is_told_to_its_precision() -> None:
    def steps(base_s: Value) -> Case:
        return Case(poisson(0.1), System(policy=NoBatching(), cost=Affine(base_s=float(base_s))), None, 1)

    found, _ = ask(steps, "service_s.mean <= 0.7", 0.1, 1.0, precision=0.05)
    assert found.ranges == ((0.1, pytest.approx(0.7, rel=0.06)),)
    assert found.monotone
    assert found.best.value == 0.1


def test_users_may_vary() -> None:
    def users(count: Value) -> Case:
        arrivals = Users(users=int(count), think_s=5.0)
        spec = WorkloadSpec(requests=1000, arrivals=arrivals, prompt_tokens=ONE, output_tokens=ONE)
        return Case(spec, System(policy=NoBatching(), cost=Affine(base_s=1.0)), None, 1)

    # Fixed times: up to 6 users take turns without waiting in the long run.
    found, trials = ask(users, "queueing_s.mean <= 0.5", 1, 12)
    assert found.ranges == ((1, 6),)
    assert trials.done[0].rate is None
