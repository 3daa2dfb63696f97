"""`simulate_disaggregated`: a workload through replicas that prefill, and then through others that decode."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from simqueue.cluster.cluster import Cluster
from simqueue.cluster.disaggregated_result import DisaggregatedResult
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.saturation import cluster_saturation_rps
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED
from simqueue.errors import ConfigError, SimqueueError
from simqueue.record import Column
from simqueue.sim.given import expect, fits
from simqueue.sim.simulate import fitted
from simqueue.workload import Workload

# What says how long an answer will be.
_OUTPUTS = ("output_tokens", "max_output_tokens", "predicted_output_tokens")
# Random streams of those who decode, apart from those of who prefill.
_DECODE = 1 << 19
# What is over when the first token is there.
_ONCE = ("patience_s", "ttft_slo_s")


def simulate_disaggregated(
    workload: Workload, pools: Disaggregation, *, seed: int = 0, warmup: int = 0, longest_leap: int = UNLIMITED
) -> DisaggregatedResult:
    """Run ``workload`` through ``pools`` until every request has finished.

    Nothing that happens among those who decode is felt by those who prefill, so that the one pool runs after the other,
    each as `simulate_cluster` runs it.

    Args:
        workload: what arrives at the router of those who prefill.
        pools: the replicas.
        seed: of routers and noise, each with a stream of its own.
        warmup: leave the first so many requests by arrival out of every figure.
        longest_leap: at most so many steps an event; 1 steps one by one, with the same result.

    Raises:
        ConfigError, ProfileError, WorkloadError, InvariantError: as `simulate_cluster` has them.
    """
    expect(workload, Workload)
    expect(pools, Disaggregation)
    if workload.waits:
        raise ConfigError("disaggregation: users who wait for their answers are not served yet: use other arrivals")
    for pool in (pools.prefill, pools.decode):
        for system in pool.distinct:
            workload = fitted(workload, system)
    prefill = _run("prefill", prompts(workload), pools.prefill, seed=seed, warmup=warmup, longest_leap=longest_leap)
    rows = np.flatnonzero(prefill.completed & (workload.output_tokens > 1))
    there = _there(prefill, rows, pools)
    order = np.argsort(there, kind="stable")
    rows, there = rows[order], there[order]
    decode = None
    if len(rows):
        rest = answers(workload, rows, prefill.grid.seconds(there))
        decode = _run("decode", rest, pools.decode, seed=_apart(seed), longest_leap=longest_leap)
    with fits(prefill.grid):
        return DisaggregatedResult.of(
            workload, prefill, decode, rows, warmup, cache(lambda: saturation(workload, pools))
        )


def saturation(workload: Workload, pools: Disaggregation) -> dict[str, float]:
    """By part, requests per second that it gets through when it always has work, and links have equal parts of it: the
    least of them is the cluster's."""
    rows = np.flatnonzero(workload.output_tokens > 1)
    system = pools.prefill.systems[0]
    moved_s = float(workload.prompt_tokens[rows].sum()) * pools.transfer.token_s(system) / len(workload)
    by_part = {
        "prefill": cluster_saturation_rps(prompts(workload), pools.prefill),
        "transfer": math.inf,
        "decode": math.inf,
    }
    if len(rows):
        by_part["transfer"] = len(pools.prefill.systems) / moved_s
        rest = answers(workload, rows, workload.arrival_s[rows])
        by_part["decode"] = cluster_saturation_rps(rest, pools.decode) * len(workload) / len(rows)
    return by_part


def _run(pool: str, workload: Workload, cluster: Cluster, **how: int) -> ClusterResult:
    try:
        return simulate_cluster(workload, cluster, **how)
    except SimqueueError as error:
        raise type(error)(f"{pool}: {error}") from None


def _apart(seed: int) -> int:
    return int(np.random.SeedSequence(seed, spawn_key=(_DECODE,)).generate_state(1)[0])


def _there(prefill: ClusterResult, rows: Column, pools: Disaggregation) -> Column:
    """When the caches of these requests are there: they go when the step is over that ended their prompts."""
    ready = np.zeros(len(prefill.arrival), np.int64)
    for share in prefill.shares:
        ready[share.rows] = share.result.finished - share.result.delivery
    tokens, link = prefill.workload.prompt_tokens[rows], prefill.replica[rows]
    return pools.transfer.arrivals(ready[rows], tokens, link, pools.prefill.systems[0], prefill.grid)


def prompts(workload: Workload) -> Workload:
    """What those who prefill see of it: every answer is one token."""
    columns = {name: np.ones_like(column) if name in _OUTPUTS else column for name, column in workload.columns.items()}
    return Workload.of(columns, workload.meta)


def answers(workload: Workload, rows: Column, arrival_s: NDArray[np.float64]) -> Workload:
    """What those who decode see of ``rows``: the first token is a part of the prompt, whose cache has come."""
    columns = {name: column[rows] for name, column in workload.columns.items() if name not in _ONCE}
    columns["arrival_s"] = arrival_s
    columns["prompt_tokens"] = columns["prompt_tokens"] + 1
    for name in set(_OUTPUTS) & columns.keys():
        columns[name] = np.maximum(1, columns[name] - 1)
    return Workload.of(columns, {**workload.meta, "requests": len(rows), "rate": None, "adopted": True})
