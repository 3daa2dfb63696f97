"""Replicas whose policy turns requests away."""

from __future__ import annotations

import numpy as np
import pytest

import simqueue as sq
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.errors import ConfigError
from simqueue.policy import Triton
from simqueue.policy.triton_queue import QueuePolicy

POLICY = Triton(4, default_queue_policy=QueuePolicy("REJECT", 30_000, max_queue_size=6))
SYSTEM = sq.System(POLICY, sq.Affine(base_s=0.02))


def workload(arrival_s: np.ndarray) -> sq.Workload:
    return sq.Workload.from_columns(arrival_s, [1] * len(arrival_s), [1] * len(arrival_s))


def test_each_replica_turns_away_whom_it_would_alone() -> None:
    arrival_s = np.cumsum(np.random.default_rng(1).exponential(1 / 600, 400))
    whole = sq.simulate_cluster(workload(arrival_s), sq.Cluster.of(2, SYSTEM, RoundRobin()))
    alone = [sq.simulate(workload(arrival_s[first::2]), SYSTEM) for first in (0, 1)]
    for first, one in enumerate(alone):
        assert one.fates is not None
        assert 0 < one.fates.completed.sum() < 200
        assert whole.completed[first::2].tolist() == one.fates.completed.tolist()
        assert whole.finished[first::2].tolist() == one.finished.tolist()


def test_a_router_that_looks_refuses_it() -> None:
    with pytest.raises(ConfigError, match=r"whom a policy turns away .* use the router round-robin or random"):
        sq.simulate_cluster(workload(np.arange(9.0)), sq.Cluster.of(2, SYSTEM, ShortestQueue()))
