"""simqueue: what latency an LLM service will have, before it is deployed.

The public names below are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simqueue.analysis.replicated import Precision, Replicated
    from simqueue.analysis.replications import replicate
    from simqueue.cluster.cluster import Cluster
    from simqueue.cluster.disaggregated import simulate_disaggregated
    from simqueue.cluster.disaggregated_result import DisaggregatedResult
    from simqueue.cluster.disaggregation import Disaggregation
    from simqueue.cluster.result import ClusterResult
    from simqueue.cluster.simulate import simulate_cluster
    from simqueue.cluster.transfer import Transfer
    from simqueue.cost.linear import Affine
    from simqueue.cost.noise import EmpiricalNoise, ErlangNoise, ExponentialNoise, LognormalNoise, NoNoise, ServingNoise
    from simqueue.cost.profile import Measured
    from simqueue.errors import SimqueueError
    from simqueue.policy import Continuous, Dynamic, NoBatching, Static
    from simqueue.ranking.rank import rank
    from simqueue.ranking.ranking import Ranking
    from simqueue.ranking.runs import Competitor
    from simqueue.result import Result
    from simqueue.sim.simulate import saturation_rps, simulate
    from simqueue.system import Admission, Memory, Overheads, System
    from simqueue.workload import Workload, WorkloadSpec, make_workload

_HOMES = {
    "simqueue.analysis.replicated": ("Precision", "Replicated"),
    "simqueue.analysis.replications": ("replicate",),
    "simqueue.cluster.cluster": ("Cluster",),
    "simqueue.cluster.disaggregated": ("simulate_disaggregated",),
    "simqueue.cluster.disaggregated_result": ("DisaggregatedResult",),
    "simqueue.cluster.disaggregation": ("Disaggregation",),
    "simqueue.cluster.result": ("ClusterResult",),
    "simqueue.cluster.simulate": ("simulate_cluster",),
    "simqueue.cluster.transfer": ("Transfer",),
    "simqueue.cost.linear": ("Affine",),
    "simqueue.cost.noise": (
        "EmpiricalNoise",
        "ErlangNoise",
        "ExponentialNoise",
        "LognormalNoise",
        "NoNoise",
        "ServingNoise",
    ),
    "simqueue.cost.profile": ("Measured",),
    "simqueue.errors": ("SimqueueError",),
    "simqueue.policy": ("Continuous", "Dynamic", "NoBatching", "Static"),
    "simqueue.ranking.rank": ("rank",),
    "simqueue.ranking.ranking": ("Ranking",),
    "simqueue.ranking.runs": ("Competitor",),
    "simqueue.result": ("Result",),
    "simqueue.sim": ("saturation_rps", "simulate"),
    "simqueue.system": ("Admission", "Memory", "Overheads", "System"),
    "simqueue.workload": ("Workload", "WorkloadSpec", "make_workload"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Admission",
    "Affine",
    "Cluster",
    "ClusterResult",
    "Competitor",
    "Continuous",
    "DisaggregatedResult",
    "Disaggregation",
    "Dynamic",
    "EmpiricalNoise",
    "ErlangNoise",
    "ExponentialNoise",
    "LognormalNoise",
    "Measured",
    "Memory",
    "NoBatching",
    "NoNoise",
    "Overheads",
    "Precision",
    "Ranking",
    "Replicated",
    "Result",
    "ServingNoise",
    "SimqueueError",
    "Static",
    "System",
    "Transfer",
    "Workload",
    "WorkloadSpec",
    "make_workload",
    "rank",
    "replicate",
    "saturation_rps",
    "simulate",
    "simulate_cluster",
    "simulate_disaggregated",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'simqueue' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
