"""Replicas that come and go by what there is to do."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from clusters import LOOKING, Small, ties
from hypothesis import given
from hypothesis import strategies as st
from scenarios import PS

from simqueue import Affine, NoBatching, System, Workload
from simqueue.cluster.autoscaling import Autoscaling
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.failures import Failures, Outage
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED
from simqueue.errors import ConfigError

TIMES = ("arrival", "scheduled", "first_token", "finished", "replica", "sent")


def run(small: Small, rule: Autoscaling, **how: Any) -> ClusterResult:
    cluster = Cluster(small.cluster.systems, small.router, autoscaling=rule)
    return simulate_cluster(small.workload, cluster, seed=small.seed, **how)


SMALL = ties(LOOKING, ("none", "static", "dynamic", "continuous", "chunked"))
RULES = st.builds(
    Autoscaling,
    target=st.sampled_from([0.3, 1.0]),
    every_s=st.sampled_from([3 * PS, 5 * PS, 20 * PS]),
    by=st.sampled_from(["queue", "utilisation"]),
    start_s=st.sampled_from([0.0, 4 * PS]),
)


@given(SMALL, RULES, st.integers(2, 7))
def test_leaping_is_stepping(small: Small, rule: Autoscaling, some: int) -> None:
    stepping = run(small, rule, longest_leap=1)
    assert (stepping.sent == 1).all()
    for longest_leap in (UNLIMITED, some):
        leaping = run(small, rule, longest_leap=longest_leap)
        for name in TIMES:
            assert getattr(leaping, name).tolist() == getattr(stepping, name).tolist(), name
        assert leaping.ready.tolist() == stepping.ready.tolist()
        assert leaping.replica_ticks == stepping.replica_ticks


@given(SMALL, RULES)
def test_all_at_least_is_no_scaling(small: Small, rule: Autoscaling) -> None:
    every = Autoscaling(rule.target, rule.every_s, rule.by, min_replicas=len(small.parts))
    scaled, plain = run(small, every), small.run()
    for name in TIMES:
        assert getattr(scaled, name).tolist() == getattr(plain, name).tolist(), name
    assert scaled.ready.tolist() == plain.ready.tolist()
    assert scaled.replica_ticks == plain.replica_ticks


# A pass a second.
SYSTEM = System(policy=NoBatching(), cost=Affine(base_s=1.0))


def by_hand(rule: Autoscaling, arrival_s: list[float]) -> tuple[list[list[float]], float, list[int]]:
    ones = np.ones(len(arrival_s), int)
    cluster = Cluster.of(3, SYSTEM, RoundRobin(), autoscaling=rule)
    result = simulate_cluster(Workload.from_columns(arrival_s, ones, ones), cluster)
    unit = result.grid.ticks_per_s
    return [[at / unit, n] for at, n in result.ready.tolist()], result.replica_ticks / unit, result.replica.tolist()


def test_the_queue_by_hand() -> None:
    """At 1.5 s four of five are there: two replicas, the second from 1.75 s on. At 3 s three are there, for the answer
    of that instant has not left; at 4.5 s one is, and one replica is enough."""
    rule = Autoscaling(target=2, every_s=1.5, start_s=0.25)
    ready, paid_s, replica = by_hand(rule, [0.0] * 5 + [1.8, 6.2])
    assert ready == [[0.0, 1], [1.75, 2], [4.5, 1]]
    assert replica == [0, 0, 0, 0, 0, 1, 0]
    assert paid_s == pytest.approx(7.2 + 3.0)


def test_utilisation_by_hand() -> None:
    """Busy for 1 s of the first, 1.2 s of the second, 1.8 s of the third second, and not at all in the fourth."""
    rule = Autoscaling(target=0.5, every_s=1.0, by="utilisation", start_s=0.25)
    ready, paid_s, replica = by_hand(rule, [0.0] * 3 + [1.8, 6.2])
    assert ready == [[0.0, 1], [1.25, 2], [2.25, 3], [4.0, 2], [4.0, 1]]
    assert replica == [0, 0, 0, 1, 0]
    assert paid_s == pytest.approx(7.2 + 3.0 + 2.0)


OUTAGE = Failures(outages=(Outage(0, 1.0, 1.0),))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Autoscaling(0, 1.0), "target = 0 must be a positive"),
        (lambda: Autoscaling(1, 0.0), "every_s = 0.0 must be a positive"),
        (lambda: Autoscaling(1, 1.0, min_replicas=0), "min_replicas = 0 must be at least 1"),
        (lambda: Autoscaling(1.5, 1.0, "utilisation"), "target = 1.5 is more than 1"),
        (
            lambda: Cluster.of(2, SYSTEM, RoundRobin(), autoscaling=Autoscaling(1, 1.0, min_replicas=3)),
            "autoscaling.min_replicas = 3 must be at most 2",
        ),
        (lambda: Cluster.of(2, SYSTEM, RoundRobin(), OUTAGE, Autoscaling(1, 1.0)), "leave one of them out"),
    ],
)
def test_refusals(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        make()


def test_who_still_starts_is_given_up_first() -> None:
    """At 1 s five are there: two more begin to start, for 10 s. At 4 s two are wanted, at 5 s one: those two are given
    up, one after the other, and the one that serves goes on alone."""
    rule = Autoscaling(target=1, every_s=1.0, start_s=10.0)
    ready, replica_s, replica = by_hand(rule, [0.0, 0.1, 0.2, 0.3, 0.4])
    assert ready == [[0.0, 1]]
    assert replica == [0] * 5
    assert replica_s == 5.0 + 3.0 + 4.0


def test_three_that_are_as_busy_as_wanted_are_three() -> None:
    """2.1 / 0.7 is more than 3 in floating point."""
    arrivals = np.sort(np.concatenate([np.arange(300) * 10.0 / 7.0 + shift for shift in (0.0, 0.01, 0.02)]))
    rule = Autoscaling(target=0.7, every_s=10.0, by="utilisation", min_replicas=3)
    ones = np.ones(len(arrivals), int)
    cluster = Cluster.of(5, SYSTEM, RoundRobin(), autoscaling=rule)
    result = simulate_cluster(Workload.from_columns(arrivals, ones, ones), cluster)
    assert result.ready[:, 1].tolist() == [3]
