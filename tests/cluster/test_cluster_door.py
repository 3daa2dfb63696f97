"""Clients who give up and servers that turn away, behind a router that looks."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from closed_loops import closed_scenarios
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scenarios import POLICIES, PS, scenarios
from short_memory import KINDS, scenes
from talks import talk_scenarios
from test_cluster_exactness import columns_of
from test_front_door import admission, with_patience

from simqueue import Admission, Affine, Memory, NoBatching, System, Workload, simulate
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.failures import Failures, Outage
from simqueue.cluster.least_requests import LeastRequests
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED
from simqueue.errors import ConfigError
from simqueue.order.vtc import Vtc
from simqueue.policy import Vllm

LIMITS = st.builds(admission, st.sampled_from([None, None, 1, 2, 3, 5]), st.sampled_from([None, None, 3, 10, 100]))
PATIENCE_S = st.sampled_from([None, 10 * PS, 100 * PS, 1e-3])
COMING = {"arrivals": scenarios, "users": closed_scenarios, "sessions": talk_scenarios}
SYSTEM = System(Vllm(), Affine(base_s=1.0), memory=Memory(num_blocks=50))
EXAMPLES = settings.default.max_examples
AGES = st.sampled_from([0.0, 0.0, 3 * PS, 10 * PS])
LOOKING = st.one_of(*(st.builds(router, AGES) for router in (LeastRequests, LeastTokens, ShortestQueue)))


def patient(workload: Workload, data: st.DataObject) -> Workload:
    mean_s = data.draw(PATIENCE_S)
    return workload if mean_s is None else with_patience(workload, data, mean_s)


def run(workload: Workload, cluster: Cluster, seed: int, **how: Any) -> ClusterResult | None:
    """None where nobody was answered, which is refused."""
    with suppress(ConfigError):
        return simulate_cluster(workload, cluster, seed=seed, **how)
    return None


def told(result: ClusterResult | None) -> list[list[Any]] | None:
    if result is None:
        return None
    outcomes = [share.result.fates.names().tolist() if share.result.fates else [] for share in result.shares]
    return [*columns_of(result), result.replica.tolist(), result.completed.tolist(), outcomes]


def same_as_alone(workload: Workload, system: System, seed: int, some: int) -> None:
    alone = None
    with suppress(ConfigError):
        alone = simulate(workload, system, seed=seed)
    for longest_leap in (UNLIMITED, some):
        result = run(workload, Cluster.of(1, system, ShortestQueue()), seed, longest_leap=longest_leap)
        assert (result is None) == (alone is None)
        if result and alone:
            assert columns_of(result) == columns_of(alone)
            fates = result.shares[0].result.fates
            assert (fates is None) == (alone.fates is None)
            if fates and alone.fates:
                assert fates.names().tolist() == alone.fates.names().tolist()


@settings(max_examples=EXAMPLES // 2)
@given(st.data(), LIMITS, st.integers(1, 7))
def test_a_cluster_of_one_replica_is_simulate(data: st.DataObject, limits: Admission | None, some: int) -> None:
    coming = data.draw(st.sampled_from(list(COMING.values())))
    scenario = data.draw(st.sampled_from(list(POLICIES)).flatmap(coming))
    system = replace(scenario.system, admission=limits)
    same_as_alone(patient(scenario.workload, data), system, scenario.seed, some)


@settings(max_examples=EXAMPLES // 3)
@given(st.sampled_from(sorted(KINDS)).flatmap(scenes), LIMITS, st.data(), st.integers(1, 7))
def test_a_replica_with_little_memory_is_simulate(
    scene: Any, limits: Admission | None, data: st.DataObject, some: int
) -> None:
    system = replace(scene.system, admission=limits)
    same_as_alone(patient(scene.workload, data), system, scene.seed, some)


@settings(max_examples=EXAMPLES // 5)
@given(st.sampled_from(sorted(COMING)), st.data(), LOOKING, st.integers(2, 7))
def test_leaping_is_stepping(coming: str, data: st.DataObject, router: Any, some: int) -> None:
    asking = data.draw(COMING[coming]("none"))
    systems = []
    for _ in range(data.draw(st.integers(2, 3))):
        part = data.draw(st.sampled_from(sorted(POLICIES)).flatmap(scenarios))
        systems.append(replace(part.system, admission=data.draw(LIMITS)))
    workload, cluster = patient(asking.workload, data), Cluster(tuple(systems), router)
    stepping = run(workload, cluster, asking.seed, longest_leap=1)
    for longest_leap in (UNLIMITED, some):
        assert told(run(workload, cluster, asking.seed, longest_leap=longest_leap)) == told(stepping)


def test_the_router_sees_who_has_left_by_hand() -> None:
    """One at a time, ten seconds each. Two are served, the third waits at the first replica and gives up at 3 s: the
    next comes there again, and one more at the second, since they take turns. With room for one that waits the last one
    is turned away, and not counted from then on."""
    workload = Workload.from_columns(
        [0.0, 0.0, 1.0, 4.0, 5.0, 6.0], np.ones(6), np.ones(6), patience_s=[np.inf, np.inf, 2.0, np.inf, np.inf, 1.0]
    )
    system = System(NoBatching(), Affine(base_s=10.0), admission=Admission(max_queue=1))
    result = simulate_cluster(workload, Cluster.of(2, system, LeastRequests()))
    assert result.replica.tolist() == [0, 1, 0, 1, 0, 1]
    assert result.requests()["outcome"].tolist() == ["completed"] * 2 + ["abandoned", *["completed"] * 2, "rejected"]
    assert result.grid.seconds(result.finished).tolist() == [10.0, 10.0, 3.0, 20.0, 20.0, 6.0]
    outcomes = result.summary()["outcomes"]
    assert (outcomes["completed"], outcomes["abandoned"], outcomes["rejected"]) == (4, 1, 1)


def test_a_user_who_was_turned_away_asks_again() -> None:
    """Two seats, two places to wait: the fifth user is turned away at 1.7 s, thinks for 4.4 s, and finds a place."""
    extra = {"think_s": np.array([1.0, 1.0, 1.5, 1.6, 1.7, 4.4])}
    workload = Workload(np.zeros(6), np.ones(6), np.ones(6), extra, {"users": 5})
    system = System(NoBatching(), Affine(base_s=5.0), admission=Admission(max_queue=1))
    result = simulate_cluster(workload, Cluster.of(2, system, ShortestQueue()))
    assert result.grid.seconds(result.arrival).tolist() == [1.0, 1.0, 1.5, 1.6, 1.7, 6.1]
    assert result.replica.tolist() == [0, 1, 0, 1, 0, 1]
    assert result.completed.tolist() == [True] * 4 + [False, True]


@pytest.mark.parametrize(
    ("cluster", "says"),
    [
        (Cluster.of(2, SYSTEM, ShortestQueue(), Failures(outages=(Outage(0, 1, 1),))), "while replicas fail"),
        (Cluster.of(2, replace(SYSTEM, order=Vtc()), ShortestQueue()), 'the order "vtc" counts'),
    ],
)
def test_refusals(cluster: Cluster, says: str) -> None:
    workload = Workload.from_columns([0.0, 0.0], [4, 4], [2, 2], patience_s=[1.0] * 2, client=["a"] * 2)
    with pytest.raises(ConfigError, match=re.escape(says)):
        simulate_cluster(workload, cluster)
