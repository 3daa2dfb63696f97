"""A cluster does exactly what its replicas would do alone, however long they leap; its router sees what is there."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import LOOKING, Small, clusters, ties
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import POLICIES, Scenario, scenarios

import simqueue
from simqueue import Result, Workload
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED

TIMES = ("arrival", "scheduled", "first_token", "finished")


def columns_of(result: Result | ClusterResult) -> list[list[int]]:
    return [getattr(result, name).tolist() for name in TIMES]


def steps_of(result: Result) -> dict[str, list[float]]:
    return {name: column.tolist() for name, column in result.steps().items()}


@pytest.mark.parametrize("kind", POLICIES)
def test_a_cluster_of_one_replica_is_simulate(kind: str) -> None:
    """Also where the router could look, so that the replica is run by the driver of clusters."""

    @settings(max_examples=40)
    @given(scenarios(kind), st.integers(1, 7))
    def equal(scenario: Scenario, some: int) -> None:
        alone = scenario.run()
        for longest_leap in (UNLIMITED, some):
            one = Cluster.of(1, scenario.system, ShortestQueue())
            result = simulate_cluster(scenario.workload, one, seed=scenario.seed, longest_leap=longest_leap)
            assert columns_of(result) == columns_of(alone)
            [share] = result.shares
            assert columns_of(share.result) == columns_of(alone)
            assert steps_of(share.result) == steps_of(alone)
            assert share.result.durations().tolist() == alone.durations().tolist()

    equal()


ROUTERS = st.one_of(LOOKING, st.builds(PowerOfChoices, st.integers(1, 3)))


@given(st.one_of(clusters(ROUTERS), ties(ROUTERS, ("continuous",))), st.integers(2, 7))
def test_leaping_is_stepping(small: Small, some: int) -> None:
    stepping = small.run(longest_leap=1)
    for longest_leap in (UNLIMITED, some):
        leaping = small.run(longest_leap=longest_leap)
        assert leaping.replica.tolist() == stepping.replica.tolist()
        assert columns_of(leaping) == columns_of(stepping)
        for mine, other in zip(leaping.shares, stepping.shares, strict=True):
            assert steps_of(mine.result) == steps_of(other.result)


@settings(max_examples=60)
@given(st.one_of(clusters(LOOKING, most=12), ties(LOOKING, ("static", "dynamic", "continuous"))))
def test_the_router_sees_what_the_slow_reference_counts(small: Small) -> None:
    result = small.run()
    dealt = small.deal_slowly()
    assert [np.flatnonzero(result.replica == number).tolist() for number in range(len(small.parts))] == dealt


DEALERS = st.one_of(st.just(RoundRobin()), st.just(RandomSplit()), LOOKING)
# None that waits for company: such a policy starts what is left when the router has sent its last request.
IMPATIENT = ("none", "continuous", "chunked")


@settings(max_examples=60)
@given(st.one_of(clusters(DEALERS, kinds=IMPATIENT), ties(DEALERS, IMPATIENT)))
def test_each_replica_is_the_slow_reference_of_what_it_was_sent(small: Small) -> None:
    result = small.run()
    for share in result.shares:
        times = small.serve(share.replica, share.rows.tolist(), last=True)
        seen = zip(share.rows.tolist(), *columns_of(share.result)[1:], strict=True)
        assert {row: rest for row, *rest in seen} == {
            row: [t.scheduled, t.first_token, t.finished] for row, t in times.items()
        }


@settings(max_examples=40)
@given(clusters(st.just(RoundRobin())))
def test_round_robin_is_as_many_simulations(small: Small) -> None:
    result = small.run()
    count = len(small.parts)
    for share in result.shares:
        assert share.rows.tolist() == list(range(share.replica, len(small.arrivals), count))
    if isinstance(small.parts[0].noise, simqueue.NoNoise):
        rows = slice(None, None, count)
        every = {name: column[rows] for name, column in small.workload.columns.items()}
        alone = simqueue.simulate(Workload.of(every, {}), small.parts[0].system)
        assert columns_of(result.shares[0].result) == columns_of(alone)
