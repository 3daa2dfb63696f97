"""The saturation throughput of a cluster: how much its replicas get through, dealt to as they are."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.dealing import chooser_of, dealt
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.round_robin import RoundRobin
from simqueue.sim.simulate import saturation_rps
from simqueue.workload import Workload


def cluster_saturation_rps(workload: Workload, cluster: Cluster) -> float:
    """Requests per second from which on some replica gets more than it gets through (`simqueue.saturation_rps`), for
    the share of the time for which replicas are there.

    A router that sees all replicas fills all of them. One that looks at nothing gives each its part, whether it is
    fast or slow: the first that has too much decides. Sessions and clients that stay where they are have the parts that
    they have in this workload. See `among` for power of d choices.
    """
    each = {id(system): saturation_rps(workload, system) for system in cluster.distinct}
    capacities = [each[id(system)] for system in cluster.systems]
    there, router = cluster.failures.availability if cluster.failures else 1.0, cluster.router
    if isinstance(router, RoundRobin | RandomSplit):
        return there * among(capacities, 1)
    if isinstance(router, PowerOfChoices):
        return there * among(capacities, min(router.choices, len(capacities)))
    return there * (_of_parts(capacities, workload, cluster) if router.blind else sum(capacities))


def among(capacities: Sequence[float], choices: int) -> float:
    """What replicas of these capacities get through together, each request going to the shortest of the queues of
    ``choices`` of them, drawn at random without replacement.

    Requests all of whose choices lie in a set of replicas can go nowhere else; of the sets of m the slowest binds. So
    it is the minimum over m of their capacities over ``C(m, choices) / C(n, choices)`` (Foss and Chernova, "On the
    stability of a partially accessible multi-station queue with state-dependent routing", Queueing Systems 29, 1998).
    One choice: n times the slowest. All: the sum.
    """
    replicas, ordered = len(capacities), sorted(capacities)
    draws = comb(replicas, choices)
    return min(sum(ordered[:m]) * (draws / comb(m, choices)) for m in range(choices, replicas + 1))


def _of_parts(capacities: Sequence[float], workload: Workload, cluster: Cluster) -> float:
    counts = np.bincount(dealt(chooser_of(workload, cluster, 0), workload, len(capacities)), minlength=len(capacities))
    asked = counts > 0
    return float((np.array(capacities)[asked] * len(workload) / counts[asked]).min())
