"""Routers one by one, on fleets that stand still."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from scipy import stats

from simqueue import Affine, Continuous, Memory, NoBatching, System, Workload
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import ROUTERS, Cluster
from simqueue.cluster.fleet import Asked, Router, expected_tokens
from simqueue.cluster.least_kv_use import LeastKvUse
from simqueue.cluster.least_requests import LeastRequests
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.prefix_affinity import PrefixAffinity
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.session_affinity import SessionAffinity
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.errors import ConfigError
from simqueue.policy import Vllm

SYSTEM = System(policy=Continuous(4), cost=Affine(base_s=1.0))
PAGED = System(policy=Vllm(max_num_seqs=4), cost=Affine(base_s=1.0), memory=Memory(num_blocks=100))


@dataclass
class Still:
    """What a router sees."""

    ready: tuple[int, ...] = (0, 1, 2)
    outstanding: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    tokens: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    queue: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    kv_use: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])


def chosen(router: Router, view: Still, count: int, **columns: Any) -> list[int]:
    asked = Asked(4, {name: np.asarray(column) for name, column in columns.items()}, np.random.default_rng(5))
    chooser = router.chooser(asked)
    return [chooser.choose(row, view) for row in range(count)]


def test_round_robin_passes_over_who_is_not_ready() -> None:
    assert chosen(RoundRobin(), Still(ready=(0, 2, 3)), 5) == [0, 2, 3, 0, 2]


@pytest.mark.parametrize(
    ("router", "signal"),
    [
        (LeastRequests(), "outstanding"),
        (LeastTokens(), "tokens"),
        (ShortestQueue(), "queue"),
        (LeastKvUse(), "kv_use"),
    ],
)
def test_the_least_is_chosen_and_equals_take_turns(router: Router, signal: str) -> None:
    assert chosen(router, Still(**{signal: [5, 3, 4, 0]}), 3) == [1, 1, 1]
    assert chosen(router, Still(**{signal: [3, 5, 3, 0]}), 4) == [0, 2, 0, 2]
    assert chosen(router, Still(ready=(0, 1, 2, 3)), 5) == [0, 1, 2, 3, 0]


def test_a_die_is_fair() -> None:
    counts = np.bincount(chosen(RandomSplit(), Still(), 9000))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_choices_are_a_fair_sample_without_replacement() -> None:
    """The longest queue of three is never taken of two, and the other of each pair follows from who was drawn."""
    view = Still(queue=[2, 1, 0, 0])
    counts = np.bincount(chosen(PowerOfChoices(2), view, 9000), minlength=3)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], [3000, 6000]).pvalue > 1e-3
    assert set(chosen(PowerOfChoices(3), view, 50)) == {2}
    assert set(chosen(PowerOfChoices(9), view, 50)) == {2}
    assert stats.chisquare(np.bincount(chosen(PowerOfChoices(1), view, 9000))).pvalue > 1e-3


def test_sessions_stay_and_only_those_of_a_replica_that_goes_move() -> None:
    sessions = [str(row % 300) for row in range(900)]
    homes = chosen(SessionAffinity(), Still(), 900, session=sessions)
    assert homes[:300] == homes[300:600] == homes[600:]
    assert stats.chisquare(np.bincount(homes[:300])).pvalue > 1e-3
    fewer = chosen(SessionAffinity(), Still(ready=(0, 2)), 300, session=sessions)
    assert all(now == before for before, now in zip(homes[:300], fewer, strict=True) if before != 1)


def test_a_session_whose_home_is_too_far_ahead_goes_to_the_least() -> None:
    router = SessionAffinity(by="client", max_ahead=2)
    [home] = chosen(router, Still(), 1, client=["a"])
    other = [replica for replica in (0, 1, 2) if replica != home]
    outstanding = [3, 3, 3, 0]
    outstanding[home], outstanding[other[1]] = 4, 2
    assert chosen(router, Still(outstanding=outstanding), 1, client=["a"]) == [home]
    outstanding[home] = 5
    assert chosen(router, Still(outstanding=outstanding), 1, client=["a"]) == [other[1]]


def test_the_longest_prefix_decides_then_the_least() -> None:
    prompts = ["1 2 3", "7 8", "1 2 9", "7", "5", "1 4", ""]
    # The first goes to 0; nobody has had "7": the next in turn; "1 2" has been at 0, "7" at 1; "5" is new.
    assert chosen(PrefixAffinity(), Still(), 7, hash_ids=prompts)[:6] == [0, 1, 0, 1, 2, 0]


def test_a_prefix_too_far_ahead_is_left() -> None:
    router, prompts = PrefixAffinity(max_ahead=1), ["1", "1"]
    asked = Asked(4, {"hash_ids": np.array(prompts, object)}, np.random.default_rng(1))
    chooser = router.chooser(asked)
    assert chooser.choose(0, Still()) == 0
    assert chooser.choose(1, Still(outstanding=[2, 1, 1, 0])) == 0
    assert chooser.choose(1, Still(outstanding=[3, 1, 1, 0])) == 1


def test_expected_tokens_are_what_can_be_known() -> None:
    columns = {"prompt_tokens": np.array([5, 6])}
    assert expected_tokens(columns).tolist() == [5, 6]
    columns["max_output_tokens"] = np.array([10, 20])
    assert expected_tokens(columns).tolist() == [15, 26]
    columns["predicted_output_tokens"] = np.array([1, 2])
    assert expected_tokens(columns).tolist() == [6, 8]


@pytest.mark.parametrize("router", [router() for router in ROUTERS], ids=lambda router: type(router).__name__)
def test_no_router_sees_how_long_answers_will_be(router: Router) -> None:
    """Requests that all come before the first answer: other lengths, the same choices."""
    count = 40
    known = {"session": [str(i % 7) for i in range(count)], "hash_ids": [f"{i % 3} {i}" for i in range(count)]}
    replicas = []
    for outputs in (np.arange(1, count + 1), np.full(count, 3)):
        workload = Workload.from_columns(np.arange(count) / 100, np.arange(count) % 9 + 1, outputs, **known)
        system = PAGED if router.counts == "kv_use" else SYSTEM
        replicas.append(simulate_cluster(workload, Cluster.of(3, system, router), seed=4).replica.tolist())
    assert replicas[0] == replicas[1]


def test_a_board_that_is_never_renewed_shows_an_empty_cluster() -> None:
    """So that the shortest queue is any, in turn."""
    workload = Workload.from_columns(np.arange(30) * 0.9, np.ones(30, int), np.arange(30) % 4 + 1)
    result = simulate_cluster(workload, Cluster.of(3, SYSTEM, ShortestQueue(signal_age_s=1e3)))
    assert result.replica.tolist() == [row % 3 for row in range(30)]


def test_old_signals_make_a_herd() -> None:
    """All that come between two renewals go to the queue that was the shortest (here: the only empty one)."""
    system = System(policy=NoBatching(), cost=Affine(base_s=10.0))
    workload = Workload.from_columns([0.0, 0.1, 1.1, 1.2, 1.3, 2.1], np.ones(6, int), np.ones(6, int))
    result = simulate_cluster(workload, Cluster.of(3, system, LeastRequests(signal_age_s=1.0)))
    assert result.replica.tolist() == [0, 1, 2, 2, 2, 0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PowerOfChoices(choices=0), "router power-of-choices: choices = 0 must be at least 1"),
        (lambda: LeastRequests(signal_age_s=-1.0), "router least-requests: signal_age_s = -1.0"),
        (lambda: SessionAffinity(max_ahead=-1), "router session-affinity: max_ahead = -1"),
        (lambda: chosen(PrefixAffinity(), Still(), 1, prompt_tokens=[1]), "no column 'hash_ids', only prompt_tokens"),
        (lambda: Cluster.of(0, SYSTEM, RoundRobin()), "cluster: replicas = 0 must be at least 1"),
        (lambda: Cluster((), RoundRobin()), "cluster: there is no system"),
    ],
)
def test_refusals(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        make()
