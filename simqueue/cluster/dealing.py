"""What a router is told before a run, and whom one that looks at nothing gives what."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simqueue.cluster.cluster import Cluster
from simqueue.cluster.fleet import Asked, Chooser
from simqueue.cluster.signals import Signals
from simqueue.workload import Workload

# The random stream of the router, apart from those of the workload and of the noise of each replica.
_ROUTER = 1 << 17
_HIDDEN = "output_tokens"


def chooser_of(workload: Workload, cluster: Cluster, seed: int) -> Chooser:
    """A fresh one. Raises ConfigError where the workload lacks a column that the router needs."""
    columns = {name: column for name, column in workload.columns.items() if name != _HIDDEN}
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ROUTER,)))
    return cluster.router.chooser(Asked(len(cluster.systems), columns, rng))


def dealt(chooser: Chooser, workload: Workload, replicas: int) -> NDArray[np.int64]:
    """int64 ``(requests,)``: the replica of each, by a router that looks at nothing."""
    signals = Signals(replicas)
    return np.array([chooser.choose(row, signals) for row in range(len(workload))])
