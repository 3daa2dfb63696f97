"""What a cluster gets through, by how requests are dealt to its replicas."""

from __future__ import annotations

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue import Affine, NoBatching, System, Workload, WorkloadSpec, make_workload
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.failures import Failures
from simqueue.cluster.fleet import Router
from simqueue.cluster.least_requests import LeastRequests
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.saturation import among, cluster_saturation_rps
from simqueue.cluster.session_affinity import SessionAffinity
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.workload import Fixed, Poisson

# One is as fast as the others together.
RATES = (4.0, 2.0, 1.0, 1.0)
SYSTEMS = tuple(System(NoBatching(), Affine(base_s=1 / rate)) for rate in RATES)


def passes(rate: float, requests: int = 6000) -> Workload:
    """Single passes."""
    arrivals, one = Poisson(rate=rate), Fixed(1)
    spec = WorkloadSpec(requests=requests, arrivals=arrivals, prompt_tokens=one, output_tokens=one)
    return make_workload(spec, seed=1)


def run(router: Router, rate: float) -> ClusterResult:
    return simulate_cluster(passes(rate, 2500), Cluster(SYSTEMS, router), seed=1)


@pytest.mark.parametrize(
    ("router", "expected"),
    [
        (RoundRobin(), 4.0),
        (RandomSplit(), 4.0),
        # Both choices are among the two slow ones in one of six draws, among the three in three of six.
        (PowerOfChoices(2), 8.0),
        (PowerOfChoices(1), 4.0),
        (PowerOfChoices(9), 8.0),
        (ShortestQueue(), 8.0),
        (LeastRequests(), 8.0),
    ],
    ids=repr,
)
def test_unequal_replicas(router: Router, expected: float) -> None:
    assert cluster_saturation_rps(passes(1.0, 200), Cluster(SYSTEMS, router)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("router", "saturation"), [(RoundRobin(), 4.0), (RandomSplit(), 4.0), (ShortestQueue(), 8.0)], ids=repr
)
def test_the_number_in_the_system_grows_from_there_on(router: Router, saturation: float) -> None:
    """The run says so itself, whatever the saturation throughput is held to be."""
    below, above = run(router, 0.9 * saturation), run(router, 1.3 * saturation)
    assert not below.unstable
    assert above.unstable
    assert below.drift is not None
    assert above.drift is not None
    assert (below.drift.grows, above.drift.grows) == (False, True)


def test_two_choices_among_many_slow_replicas() -> None:
    """One of seven gets half of the work done, and two of seven draws have it: six slow ones bind."""
    capacities = (6.0, *(1.0,) * 6)
    assert among(capacities, 2) == pytest.approx(6 * comb(7, 2) / comb(6, 2))
    systems = tuple(System(NoBatching(), Affine(base_s=1 / rate)) for rate in capacities)
    cluster = Cluster(systems, PowerOfChoices(2))
    stable = [not simulate_cluster(passes(rate, 4000), cluster, seed=2).drift.grows for rate in (7.8, 10.0)]  # type: ignore[union-attr]
    assert stable == [True, False]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=7), st.integers(1, 7))
def test_the_slowest_of_every_number_bind(capacities: list[int], choices: int) -> None:
    """Against all sets of replicas: what goes to no others, and what they get through."""
    count = len(capacities)
    choices = min(choices, count)
    sets = [group for size in range(choices, count + 1) for group in combinations(range(count), size)]
    limits = [sum(capacities[i] for i in group) / (comb(len(group), choices) / comb(count, choices)) for group in sets]
    assert among(capacities, choices) == pytest.approx(min(limits))


def test_sessions_that_stay_have_the_parts_that_they_have() -> None:
    """Nine of ten requests are of one client, who stays on one of four equal replicas."""
    client = np.where(np.arange(1000) % 10, "busy", "quiet")
    made = Workload.from_columns(np.arange(1000.0), np.ones(1000, int), np.ones(1000, int), client=client)
    cluster = Cluster.of(4, SYSTEMS[-1], SessionAffinity(by="client"))
    homes = set(simulate_cluster(made, cluster).replica.tolist())
    expected = 1.0 if len(homes) == 1 else 1 / 0.9
    assert cluster_saturation_rps(made, cluster) == pytest.approx(expected, rel=1e-6)
    # With a threshold it is given up in time.
    near = Cluster.of(4, SYSTEMS[-1], SessionAffinity(by="client", max_ahead=3))
    assert cluster_saturation_rps(made, near) == pytest.approx(4.0)


@pytest.mark.parametrize("router", [RoundRobin(), ShortestQueue()], ids=repr)
def test_of_equal_replicas_it_is_the_sum_for_the_time_that_they_are_there(router: Any) -> None:
    failing = Failures("retried", mean_up_s=30.0, mean_down_s=10.0)
    cluster = Cluster.of(3, SYSTEMS[1], router, failing)
    assert cluster_saturation_rps(passes(1.0, 200), cluster) == pytest.approx(3 * 2.0 * 0.75)
