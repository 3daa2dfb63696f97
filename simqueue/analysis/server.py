"""What serves a workload, one replica or many: a run of it, and its result on the way to another process."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from simqueue.cluster.cluster import Cluster
from simqueue.cluster.disaggregated import simulate_disaggregated
from simqueue.cluster.disaggregated_result import DisaggregatedResult
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.simulate import simulate_cluster
from simqueue.result import Result
from simqueue.sim.simulate import fitted, simulate
from simqueue.system import System
from simqueue.workload import Workload

Server = System | Cluster | Disaggregation
AnyResult = Result | ClusterResult | DisaggregatedResult
_UNLIMITED = partial(float, math.inf)


def run(server: Server, workload: Workload, *, seed: int, warmup: int) -> AnyResult:
    """One run of the workload through whatever serves it; see `simqueue.simulate`."""
    if isinstance(server, Cluster):
        return simulate_cluster(workload, server, seed=seed, warmup=warmup)
    if isinstance(server, Disaggregation):
        return simulate_disaggregated(workload, server, seed=seed, warmup=warmup)
    return simulate(workload, server, seed=seed, warmup=warmup)


def without_capacity(result: AnyResult) -> AnyResult:
    """The same run as if there were no limit to what is got through: nothing in it would look for that limit any more
    (another replication has found it), and it can go to another process."""
    if isinstance(result, Result):
        return _replica(result)
    if isinstance(result, ClusterResult):
        return _cluster(result)
    decode = result.decode and _cluster(result.decode)
    return replace(result, prefill=_cluster(result.prefill), decode=decode, saturation=partial(dict, prefill=math.inf))


def without_gaps(result: AnyResult) -> AnyResult:
    """The same run, whose gaps between tokens nobody looks at: they are many."""
    if isinstance(result, Result):
        return replace(result, gapless=True)
    if isinstance(result, ClusterResult):
        return _gapless(result)
    decode = result.decode and _gapless(result.decode)
    return replace(result, prefill=_gapless(result.prefill), decode=decode)


def with_capacity(result: AnyResult, saturation_rps: float) -> AnyResult:
    """The same run, whose saturation throughput is known; of two pools there are two, which they find themselves."""
    if isinstance(result, DisaggregatedResult):
        return result
    return replace(result, saturation_rps=partial(float, saturation_rps))


def at_rate(server: Server, workload: Workload, rate: float) -> Workload:
    """The workload at another mean rate: of those that fit the model's context, for what is left out is no load."""
    return (fitted(workload, server) if isinstance(server, System) else workload).at_rate(rate)


def _gapless(result: ClusterResult) -> ClusterResult:
    return replace(result, shares=[replace(one, result=replace(one.result, gapless=True)) for one in result.shares])


def _cluster(result: ClusterResult) -> ClusterResult:
    shares = [replace(share, result=_replica(share.result)) for share in result.shares]
    return replace(result, shares=shares, saturation_rps=_UNLIMITED)


def _replica(result: Result) -> Result:
    return replace(result, saturation_rps=_UNLIMITED)
