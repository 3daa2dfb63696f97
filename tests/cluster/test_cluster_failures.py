"""Replicas that fail: nobody is lost or served twice but by rule, and leaping is stepping all the same."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from clusters import LOOKING, Small, clusters, ties
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenarios import PS

from simqueue import Affine, Continuous, Static, System, Workload
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.failures import Failures, Outage
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED
from simqueue.errors import ConfigError

THEN = st.sampled_from(["lost", "retried", "resumed"])
TIMES = ("arrival", "scheduled", "first_token", "finished", "replica", "sent", "completed")


def run(small: Small, failures: Failures, **how: Any) -> ClusterResult:
    cluster = Cluster(small.cluster.systems, small.router, failures)
    return simulate_cluster(small.workload, cluster, seed=small.seed, **how)


def outcome(small: Small, failures: Failures, **how: Any) -> dict[str, list[int]] | None:
    """None where nobody was answered, which is refused."""
    with suppress(ConfigError):
        result = run(small, failures, **how)
        return {name: getattr(result, name).tolist() for name in TIMES}
    return None


@st.composite
def failing(draw: st.DrawFn) -> tuple[Small, Failures]:
    """Small clusters whose replicas fail some times, often at the very instant at which a step ends."""
    small = draw(st.one_of(ties(LOOKING, ("static", "dynamic", "continuous", "chunked")), clusters(LOOKING, most=12)))
    outages = []
    for replica in range(len(small.parts)):
        at = 0
        for _ in range(draw(st.integers(0, 3))):
            at += draw(st.sampled_from([3, 5, 10, 20, 37]))
            away = draw(st.sampled_from([0, 2, 5, 10]))
            outages.append(Outage(replica, at * PS, away * PS))
            at += away + 5
    if not outages:
        outages.append(Outage(0, 5 * PS, 1 * PS))
    return small, Failures(draw(THEN), tuple(outages), start_s=draw(st.sampled_from([0, 4])) * PS)


@settings(max_examples=60)
@given(failing(), st.integers(2, 7))
def test_leaping_is_stepping(case: tuple[Small, Failures], some: int) -> None:
    small, failures = case
    stepping = outcome(small, failures, longest_leap=1)
    for longest_leap in (UNLIMITED, some):
        assert outcome(small, failures, longest_leap=longest_leap) == stepping


@settings(max_examples=50)
@given(failing())
def test_everybody_is_served_once_or_lost_by_rule(case: tuple[Small, Failures]) -> None:
    small, failures = case
    assume(outcome(small, failures) is not None)
    result = run(small, failures)
    served: Counter[int] = Counter()
    sent: Counter[int] = Counter()
    for share in result.shares:
        fates = share.result.fates
        done = np.ones(len(share.rows), bool) if fates is None else fates.completed
        served.update(share.rows[done].tolist())
        sent.update(share.rows.tolist())
        if failures.then == "resumed":
            tokens = share.result.workload
            known = tokens.prompt_tokens + tokens.output_tokens
            planned = small.workload.prompt_tokens + small.workload.output_tokens
            assert known.tolist() == planned[share.rows].tolist()
    assert set(served.values()) <= {1}
    assert [served[row] for row in range(len(result.arrival))] == result.completed.astype(int).tolist()
    assert [sent[row] for row in range(len(result.arrival))] == result.sent.tolist()
    if failures.then != "lost":
        assert result.completed.all()
    assert (result.arrival <= result.scheduled).all()
    assert (result.scheduled <= result.first_token).all()
    assert (result.first_token <= result.finished).all()


@settings(max_examples=50)
@given(failing())
def test_an_outage_after_the_end_changes_nothing(case: tuple[Small, Failures]) -> None:
    small, failures = case
    late = replace_outages(failures, (Outage(0, 1.0, 1.0),))
    result, plain = run(small, late), small.run()
    for name in TIMES:
        assert getattr(result, name).tolist() == getattr(plain, name).tolist(), name


def replace_outages(failures: Failures, outages: tuple[Outage, ...]) -> Failures:
    return Failures(failures.then, outages, start_s=failures.start_s)


LONE = System(policy=Continuous(1), cost=Affine(base_s=1.0))
ONE = Workload.from_columns([0.0], [3], [10])


@pytest.mark.parametrize(
    ("then", "at_s", "finished_s", "first_token_s"),
    [
        # A step a second and a second more for each prompt token: 4 s, then nine steps of 2 s.
        ("retried", 9.0, 12.0 + 22.0, 12.0 + 4.0),
        # Two more tokens have left at 6 and 8 s: a prompt of 6 tokens, then six steps.
        ("resumed", 9.0, 12.0 + 7.0 + 6 * 2.0, 4.0),
        # At 8 s itself the third has not.
        ("resumed", 8.0, 11.0 + 6.0 + 7 * 2.0, 4.0),
        ("resumed", 3.0, 6.0 + 22.0, 6.0 + 4.0),
    ],
)
def test_one_request_by_hand(then: Any, at_s: float, finished_s: float, first_token_s: float) -> None:
    system = System(policy=Continuous(4), cost=Affine(base_s=1.0, per_new_token_s=1.0))
    cluster = Cluster.of(1, system, ShortestQueue(), Failures(then, (Outage(0, at_s, 2.0),), start_s=1.0))
    result = simulate_cluster(ONE, cluster)
    assert result.grid.seconds(result.finished).tolist() == [finished_s]
    assert result.grid.seconds(result.first_token).tolist() == [first_token_s]
    assert result.sent.tolist() == [2]


def test_a_batch_keeps_the_tokens_that_left_before() -> None:
    """A second a step: four tokens at 5 s, for the fifth has not left at that very instant; six from 6 s on."""
    system = System(policy=Static(1, release="request"), cost=Affine(base_s=1.0))
    cluster = Cluster.of(1, system, ShortestQueue(), Failures("resumed", (Outage(0, 5.0, 1.0),)))
    result = simulate_cluster(ONE, cluster)
    assert result.grid.seconds(result.finished).tolist() == [12.0]
    assert result.shares[1].result.workload.prompt_tokens.tolist() == [7]


def test_who_comes_at_the_instant_of_a_failure_is_there_already() -> None:
    workload = Workload.from_columns([0.0, 5.5, 7.0], [1, 1, 1], [3, 2, 1])
    cluster = Cluster.of(1, LONE, ShortestQueue(), Failures("retried", (Outage(0, 5.5, 2.0),)))
    result = simulate_cluster(workload, cluster)
    assert result.sent.tolist() == [1, 2, 1]
    assert result.grid.seconds(result.scheduled).tolist() == [0.0, 7.5, 9.5]


def test_answers_that_leave_with_their_batch_have_no_tokens_to_keep() -> None:
    system = System(policy=Static(1), cost=Affine(base_s=1.0))
    cluster = Cluster.of(1, system, RoundRobin(), Failures("resumed", (Outage(0, 5.5, 0.5),)))
    result = simulate_cluster(ONE, cluster)
    assert result.grid.seconds(result.finished).tolist() == [16.0]


def test_drawn_failures_are_as_often_as_they_should_be() -> None:
    """Up a mean 30 s, away a mean 8 s and 2 s to start: a quarter of the time away, so that a stream which keeps one
    replica busy for as long as it is there is served in 4 / 3 of the time."""
    count = 2000
    workload = Workload.from_columns(np.zeros(count), np.ones(count, int), np.ones(count, int))
    system = System(policy=Continuous(1), cost=Affine(base_s=1.0))
    failures = Failures("resumed", mean_up_s=30.0, mean_down_s=8.0, start_s=2.0)
    result = simulate_cluster(workload, Cluster.of(1, system, ShortestQueue(), failures), seed=3)
    failed = int((result.sent - 1).max())
    # Half a second of work under way is lost in each failure.
    work_s = count + 0.5 * failed
    assert float(result.grid.seconds(result.finished).max()) == pytest.approx(work_s * 40 / 30, rel=0.12)
    assert failed == pytest.approx(work_s / 30, rel=0.3)


ALL_LOST = Cluster.of(1, LONE, RoundRobin(), Failures("lost", (Outage(0, 5.5, 0.5),)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Failures(), "give outages = [...], or both mean_up_s and mean_down_s"),
        (lambda: Failures(mean_up_s=1.0), "both mean_up_s and mean_down_s"),
        (lambda: Failures(mean_up_s=0.0, mean_down_s=1.0), "mean_up_s = 0.0 must be a positive"),
        (lambda: Failures(outages=(Outage(0, 1, 1),), mean_up_s=1.0, mean_down_s=1.0), "leave one or the others out"),
        (lambda: Failures(outages=(Outage(0, 1, 5), Outage(0, 3, 1))), "replica 0 fails at 3 s, before"),
        (lambda: Outage(0, -1.0, 1.0), "at_s = -1.0"),
        (lambda: Cluster.of(2, LONE, RoundRobin(), Failures(outages=(Outage(2, 1, 1),))), "must be at most 1"),
        (lambda: simulate_cluster(ONE, ALL_LOST), "no request was answered"),
    ],
)
def test_refusals(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        make()


def test_tokens_add_up_over_two_failures() -> None:
    """A second a step, and one for each token. Four tokens have left at 4, 6, 8 and 10 s; then, from 13 s on with a
    prompt of 7, three at 21, 23 and 25 s; then, from 29 s on with a prompt of 10, the last three from 40 s on."""
    system = System(policy=Continuous(4), cost=Affine(base_s=1.0, per_new_token_s=1.0))
    outages = (Outage(0, 10.5, 2.5), Outage(0, 26.0, 3.0))
    result = simulate_cluster(ONE, Cluster.of(1, system, ShortestQueue(), Failures("resumed", outages)))
    assert [share.result.workload.prompt_tokens.tolist() for share in result.shares] == [[3], [7], [10]]
    assert [share.result.workload.output_tokens.tolist() for share in result.shares] == [[10], [6], [3]]
    assert result.grid.seconds(result.finished).tolist() == [44.0]
    assert result.grid.seconds(result.first_token).tolist() == [4.0]


def test_what_is_paid_for_and_what_one_gets_through() -> None:
    """Replicas are away for as long as they are there: half of the saturation. One that is away is paid for once."""
    workload = Workload.from_columns(np.arange(200) * 1.0, np.ones(200, int), np.ones(200, int))
    failures = Failures("retried", mean_up_s=3.0, mean_down_s=2.0, start_s=1.0)
    result = simulate_cluster(workload, Cluster.of(4, LONE, ShortestQueue(), failures))
    assert result.saturation_rps() == pytest.approx(2.0)
    end = max(share.result.finished.max() for share in result.shares)
    assert result.replica_ticks <= 4 * end
    assert result.provenance["cluster"]["failures"]["mean_up_s"] == 3.0
    assert 0 < result.summary()["utilisation"] < 1
