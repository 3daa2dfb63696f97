"""Users and sessions before a router: whoever waits hears of the answer wherever it was made, and comes again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from closed_loops import ClosedScenario, closed_scenarios
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scenarios import POLICIES, PS, Scenario, scenarios
from talks import TalkScenario, talk_scenarios
from test_cluster_autoscaling import RULES
from test_cluster_exactness import columns_of, steps_of
from test_cluster_failures import THEN

from simqueue import (
    Affine,
    Continuous,
    Dynamic,
    Memory,
    NoBatching,
    NoNoise,
    Overheads,
    Static,
    System,
    Workload,
    WorkloadSpec,
    make_workload,
    simulate,
)
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.failures import Failures, Outage
from simqueue.cluster.fleet import Router
from simqueue.cluster.least_requests import LeastRequests
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.session_affinity import SessionAffinity
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED
from simqueue.errors import ConfigError
from simqueue.policy import Vllm
from simqueue.workload import Fixed
from simqueue.workload.sessions import Sessions

AGES = st.sampled_from([0.0, 0.0, 3 * PS, 10 * PS, 100 * PS])
ROUTERS: st.SearchStrategy[Router] = st.one_of(
    st.just(RoundRobin()),
    st.just(RandomSplit()),
    st.builds(PowerOfChoices, st.integers(1, 3)),
    *(st.builds(router, AGES) for router in (LeastRequests, LeastTokens, ShortestQueue)),
)
EXAMPLES = settings.default.max_examples
WAITING = {"users": closed_scenarios, "sessions": talk_scenarios}


@st.composite
def asking(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(POLICIES)) -> ClosedScenario | TalkScenario:
    waiting = draw(st.sampled_from(list(WAITING.values())))
    scenario: ClosedScenario | TalkScenario = draw(st.sampled_from(kinds).flatmap(waiting))
    return scenario


@settings(max_examples=EXAMPLES // 2)
@given(asking(), ROUTERS, st.integers(1, 7))
def test_a_cluster_of_one_replica_is_simulate(scenario: Scenario, router: Router, some: int) -> None:
    alone = scenario.run()
    for longest_leap in (UNLIMITED, some):
        one = Cluster.of(1, scenario.system, router)
        result = simulate_cluster(scenario.workload, one, seed=scenario.seed, longest_leap=longest_leap)
        assert columns_of(result) == columns_of(alone)
        for name, column in alone.workload.columns.items():
            assert result.workload.columns[name].tolist() == column.tolist(), name
        [share] = result.shares
        assert steps_of(share.result) == steps_of(alone)


@st.composite
def clusters(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(POLICIES)) -> tuple[Any, Cluster]:
    """Users or sessions, and two or three replicas that have nothing in common."""
    parts = draw(st.lists(st.sampled_from(kinds).flatmap(scenarios), min_size=2, max_size=3))
    return draw(asking()), Cluster(tuple(part.system for part in parts), draw(ROUTERS))


@settings(max_examples=EXAMPLES // 3)
@given(clusters(), st.integers(2, 7))
def test_leaping_is_stepping(case: tuple[Any, Cluster], some: int) -> None:
    workload, seed, cluster = case[0].workload, case[0].seed, case[1]
    stepping = simulate_cluster(workload, cluster, seed=seed, longest_leap=1)
    for longest_leap in (UNLIMITED, some):
        leaping = simulate_cluster(workload, cluster, seed=seed, longest_leap=longest_leap)
        assert leaping.replica.tolist() == stepping.replica.tolist()
        assert columns_of(leaping) == columns_of(stepping)
        for mine, other in zip(leaping.shares, stepping.shares, strict=True):
            assert steps_of(mine.result) == steps_of(other.result)


@st.composite
def fleeting(draw: st.DrawFn) -> tuple[Workload, Cluster]:
    """A few users with short thinks, and replicas that come and go while they are served."""
    row = st.tuples(st.integers(1, 3), st.integers(1, 12), st.sampled_from([0, 5, 5, 12, 40]))
    prompts, outputs, thinks = zip(*draw(st.lists(row, min_size=3, max_size=12)), strict=True)
    users = draw(st.integers(1, len(prompts)))
    extra = {"think_s": np.array(thinks) * PS}
    workload = Workload(np.zeros(len(prompts)), np.array(prompts), np.array(outputs), extra, {"users": users})
    policy = draw(st.sampled_from([Continuous(2), Static(2), Dynamic(3, 10 * PS)]))
    path = {name: draw(st.sampled_from([0, 5])) * PS for name in ("request_path_s", "response_path_s")}
    system = System(policy, Affine(5 * PS), overheads=Overheads(**path))
    outages = (Outage(0, 10 * PS, 5 * PS), Outage(1, 25 * PS, 3 * PS), Outage(0, 40 * PS, 10 * PS))
    change: dict[str, Any] = draw(
        st.fixed_dictionaries({"failures": st.builds(Failures, THEN, st.just(outages))})
        | st.fixed_dictionaries({"autoscaling": RULES})
    )
    return workload, Cluster.of(2, system, draw(ROUTERS), **change)


@settings(max_examples=EXAMPLES // 2)
@given(fleeting(), st.integers(2, 7))
def test_leaping_is_stepping_while_replicas_come_and_go(case: tuple[Workload, Cluster], some: int) -> None:
    def run(longest_leap: int) -> list[list[int]] | None:
        try:
            result = simulate_cluster(*case, longest_leap=longest_leap)
        except ConfigError:
            return None  # All were lost.
        return [*columns_of(result), result.replica.tolist(), result.sent.tolist(), result.outcome.tolist()]

    assert run(UNLIMITED) == run(some) == run(1)


# None that waits for company: whether any can come is not the same when all arrivals are known.
IMPATIENT = ("none", "continuous", "chunked")


@settings(max_examples=EXAMPLES // 3)
@given(clusters(IMPATIENT))
def test_each_replica_serves_what_it_was_sent_and_whoever_has_heard_thinks(case: tuple[Any, Cluster]) -> None:
    """The slow way: each replica alone, on the arrivals that came to it; and each arrival from the answers before."""
    scenario, cluster = case
    quiet = [replace_noise(system) for system in cluster.systems]
    result = simulate_cluster(scenario.workload, Cluster(tuple(quiet), cluster.router), seed=scenario.seed)
    for share in result.shares:
        made = share.result.workload
        alone = Workload.from_columns(made.arrival_s, made.prompt_tokens, made.output_tokens)
        assert columns_of(simulate(alone, quiet[share.replica])) == columns_of(share.result)
    assert np.all(np.diff(result.arrival) >= 0)
    if isinstance(scenario, ClosedScenario):
        inside = [np.sum(result.arrival <= at) - np.sum(result.finished <= at) for at in result.arrival]
        assert max(inside) <= scenario.users
    else:
        follows(result, [each.overheads.response_per_row_s for each in quiet])


def replace_noise(system: System) -> System:
    """So that a replica alone draws nothing that it would not draw among others."""
    return replace(system, noise=NoNoise())


def follows(result: ClusterResult, per_row_s: list[float]) -> None:
    """Every turn comes a think after the answer before it, wherever that was made."""
    made = result.workload
    think = result.grid.column(made.extra["think_s"])
    for session in set(made.extra["session"].tolist()):
        rows = np.flatnonzero(made.extra["session"] == session)
        assert made.extra["turn"][rows].tolist() == list(range(len(rows)))
        for row, after in pairwise(rows):
            if not per_row_s[result.replica[row]]:  # Otherwise an answer may be overtaken by its own earlier tokens.
                assert result.arrival[after] == result.finished[row] + think[after]


def test_two_users_by_hand() -> None:
    """A pass a second at the first replica, two at the second, half a second each way, no think. Both ask at 0, and go
    to different replicas: answers are there at 2 and 3 s. The router sees the answer leave at 1.5 s, and sends the
    third to the first replica again."""
    fast, slow = (
        System(NoBatching(), Affine(base_s=s), overheads=Overheads(request_path_s=0.5, response_path_s=0.5))
        for s in (1.0, 2.0)
    )
    workload = Workload(np.zeros(4), np.ones(4), np.ones(4), {"think_s": np.zeros(4)}, {"users": 2})
    result = simulate_cluster(workload, Cluster((fast, slow), ShortestQueue()))
    assert result.replica.tolist() == [0, 1, 0, 1]
    assert result.grid.seconds(result.arrival).tolist() == [0.0, 0.0, 2.0, 3.0]
    assert result.grid.seconds(result.finished).tolist() == [2.0, 3.0, 4.0, 6.0]
    assert result.summary()["users"] == 2
    assert not result.unstable


def test_who_was_lost_with_a_replica_knows_at_once_and_asks_again() -> None:
    workload = Workload(np.zeros(3), np.ones(3), np.full(3, 4), {"think_s": np.zeros(3)}, {"users": 1})
    system = System(Continuous(1), Affine(base_s=1.0))
    failures = Failures("lost", (Outage(0, 2.5, 1.0),))
    result = simulate_cluster(workload, Cluster.of(1, system, ShortestQueue(), failures))
    assert result.requests()["outcome"].tolist() == ["failed", "completed", "completed"]
    assert result.grid.seconds(result.arrival).tolist() == [0.0, 2.5, 7.5]
    assert result.grid.seconds(result.finished).tolist() == [2.5, 7.5, 11.5]


def test_sessions_that_stay_find_their_prefixes() -> None:
    """Of prompts that grow with the conversation the whole part before is in the cache of the home replica alone."""
    spec = WorkloadSpec(
        requests=300,
        arrivals=Sessions(rate=2.0, turns=6, think_s=0.2, shared_prefix_tokens=64),
        prompt_tokens=Fixed(value=40),
        output_tokens=Fixed(value=8),
    )
    memory = Memory(block_size=16, num_blocks=4000, prefix_caching=True)
    system = System(Vllm(), Affine(base_s=0.01, per_new_token_s=1e-4), memory=memory)
    rates = {
        type(router): simulate_cluster(make_workload(spec, seed=2), Cluster.of(4, system, router)).summary()
        for router in (SessionAffinity(), RoundRobin())
    }
    assert rates[SessionAffinity]["prefix_hit_rate"] > 0.6 > rates[RoundRobin]["prefix_hit_rate"]
