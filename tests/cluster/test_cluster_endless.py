"""Clusters that would never end, or of which nothing could come, are told so in a line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simqueue import Affine, Continuous, Memory, NoBatching, System, Workload, WorkloadSpec, make_workload
from simqueue.cluster.autoscaling import Autoscaling
from simqueue.cluster.cluster import MOST_REPLICAS, Cluster
from simqueue.cluster.disaggregated import simulate_disaggregated
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cluster.failures import Failures
from simqueue.cluster.fleet import Router
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cluster.transfer import Transfer
from simqueue.config import load
from simqueue.errors import ConfigError
from simqueue.policy import Vllm
from simqueue.workload import Fixed, Users

SYSTEM = System(Continuous(8), Affine(base_s=0.01))
COUNT = 100
EVEN = Workload.from_columns(np.arange(COUNT) * 0.1, np.full(COUNT, 5), np.full(COUNT, 10))


def users(think_s: float) -> Workload:
    lengths = {"prompt_tokens": Fixed(5), "output_tokens": Fixed(10)}
    return make_workload(WorkloadSpec(requests=20, arrivals=Users(users=4, think_s=think_s), **lengths), seed=1)


def refused(run: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        run()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def failing(up_s: float, down_s: float, then: Any = "retried", workload: Workload = EVEN) -> str:
    failures = Failures(then, mean_up_s=up_s, mean_down_s=down_s)
    return refused(lambda: simulate_cluster(workload, Cluster.of(2, SYSTEM, ShortestQueue(), failures)))


def test_failures_without_number_are_refused_before_anything_runs() -> None:
    said = failing(1e-6, 1e-6)
    assert said == (
        "failures: mean_up_s = 1e-06 and mean_down_s = 1e-06 make 9.9e+06 failures in the 9.9 s in which requests "
        "come, more than 50,000: give longer times"
    )
    assert failing(1e-30, 1e-30, "lost").startswith("failures: mean_up_s = 1e-30")


@pytest.mark.parametrize("then", ["retried", "resumed"])
def test_work_that_is_lost_faster_than_it_is_done_is_refused(then: Any) -> None:
    """A step takes 10 ms, and no replica is there for that long."""
    for up_s, down_s in ((1e-6, 10.0), (1e-4, 0.01)):
        said = failing(up_s, down_s, then)
        assert re.match(r"failures: requests have been sent again 11,\d\d\d times after [\d,]+ failures, for", said)
        assert 'give a longer mean_up_s, or then = "lost"' in said


def test_who_is_resumed_goes_on_where_who_is_retried_never_ends() -> None:
    """Ten steps of 10 ms between failures after 30 ms in the mean: a token now and then is enough for the one, and who
    needs 40 in a row never gets them."""
    long = Workload.from_columns(np.arange(20) * 0.1, np.full(20, 5), np.full(20, 40))
    assert "sent again" in failing(0.03, 0.001, "retried", long)
    failures = Failures("resumed", mean_up_s=0.03, mean_down_s=0.001)
    result = simulate_cluster(long, Cluster.of(2, SYSTEM, ShortestQueue(), failures))
    assert result.completed.all()


def test_users_who_lose_their_answers_for_ever_are_refused() -> None:
    """They all start at 0, so that no span of time tells how many failures there will be."""
    assert "sent again" in failing(1e-5, 1e-5, "retried", users(0.0))


def test_decisions_without_number_are_refused_before_anything_runs() -> None:
    def scaled(every_s: float, workload: Workload) -> str:
        rule = Autoscaling(target=2.0, every_s=every_s)
        return refused(lambda: simulate_cluster(workload, Cluster.of(2, SYSTEM, RoundRobin(), autoscaling=rule)))

    assert scaled(1e-9, EVEN) == (
        "autoscaling: every_s = 1e-09 makes 9.9e+09 decisions in the 9.9 s in which requests come, more than 110,000 "
        "for 100 requests: give a longer one"
    )
    assert "decisions in the" in scaled(1e-9, users(0.1))
    # Whose arrivals are not known beforehand.
    assert "has made 100,000 decisions" in scaled(1e-9, users(0.0))


def test_a_pool_that_would_not_end_is_named() -> None:
    rule = Autoscaling(target=2.0, every_s=1e-9)
    system = System(Vllm(max_num_seqs=8), Affine(base_s=0.01))
    calm, busy = (Cluster.of(2, system, ShortestQueue(), autoscaling=scaling) for scaling in (None, rule))
    link = Transfer(gib_per_s=1.0, kv_bytes_per_token=1000)
    for name, pools in (
        ("prefill", Disaggregation(busy, calm, link)),
        ("decode", Disaggregation(calm, busy, link)),
    ):
        said = refused(lambda pools=pools: simulate_disaggregated(EVEN, pools))  # type: ignore[misc]
        assert said.startswith(f"{name}: autoscaling: every_s = 1e-09")


@pytest.mark.parametrize("link", [Transfer(1e-300, 0.0, 1000), Transfer(1e-3, 1e300, 1000), Transfer(1e-3, 1e7, 1000)])
def test_caches_that_never_come_are_told_of(link: Transfer) -> None:
    pool = Cluster.of(1, System(Vllm(max_num_seqs=8), Affine(base_s=0.01)), RoundRobin())
    said = refused(lambda: simulate_disaggregated(EVEN, Disaggregation(pool, pool, link)))
    assert said.startswith("transfer: caches may be on their way until ")
    assert said.endswith("give a higher gib_per_s, or a lower latency_s")


def test_more_replicas_than_can_be_simulated_are_refused(tmp_path: Path) -> None:
    said = refused(lambda: Cluster.of(MOST_REPLICAS + 1, SYSTEM, RoundRobin()))
    assert said == "cluster: replicas = 10001 must be at most 10000"
    file = tmp_path / "s.toml"
    file.write_text("""
        [workload]
        requests = 10
        arrivals = { kind = "poisson", rate = 1.0 }
        prompt_tokens = { kind = "fixed", value = 1 }
        output_tokens = { kind = "fixed", value = 1 }
        [system]
        policy = { kind = "none" }
        cost = { kind = "affine", base_s = 0.1 }
        [cluster]
        replicas = 1_000_000_000_000
    """)
    assert "cluster: replicas = 1000000000000 must be at most 10000" in refused(lambda: load(file))


@pytest.mark.parametrize("router", [RoundRobin(), ShortestQueue()], ids=repr)
def test_many_replicas_are_told_of_one_by_one(router: Router) -> None:
    """Against each replica looked for by itself."""
    cluster = Cluster.of(700, System(NoBatching(), Affine(base_s=0.25)), router)
    result = simulate_cluster(EVEN, cluster, warmup=7)
    rows = result.by_replica()
    for number in (0, 1, 50, 99, 699):
        kept = [i for i in range(7, COUNT) if result.replica[i] == number]
        assert rows[number]["requests"] == len(kept)
        response = np.mean([result.response[i] for i in kept]) / result.grid.ticks_per_s if kept else None
        assert rows[number]["response_s"] == response
        begin, end = result.window
        spans = [(int(result.scheduled[i]), int(result.finished[i])) for i in np.flatnonzero(result.replica == number)]
        busy = sum(max(0, min(end, until) - max(begin, since)) for since, until in spans)
        assert rows[number]["utilisation"] == pytest.approx(busy / (end - begin))


@pytest.mark.parametrize("router", [RoundRobin(), ShortestQueue()], ids=repr)
def test_where_nothing_fits_the_memory_it_is_said_what_would(router: Router) -> None:
    small = System(Vllm(), Affine(base_s=0.01), memory=Memory(num_blocks=2, block_size=4))
    said = refused(lambda: simulate_cluster(EVEN, Cluster.of(3, small, router)))
    assert said == "cluster: memory: none of 100 requests ever fits it: give more blocks"
    enough = System(Vllm(), Affine(base_s=0.01), memory=Memory(num_blocks=2, block_size=8))
    assert simulate_cluster(EVEN, Cluster.of(3, enough, router)).completed.all()


def test_a_pool_whose_memory_holds_nothing_is_named() -> None:
    enough = System(Vllm(), Affine(base_s=0.01))
    small = System(Vllm(), Affine(base_s=0.01), memory=Memory(num_blocks=1, block_size=6))
    prefill, decode = (Cluster.of(1, system, RoundRobin()) for system in (enough, small))
    pools = Disaggregation(prefill, decode, Transfer(gib_per_s=1.0, kv_bytes_per_token=1000))
    said = refused(lambda: simulate_disaggregated(EVEN, pools))
    assert said == "decode: cluster: memory: none of 100 requests ever fits it: give more blocks"
