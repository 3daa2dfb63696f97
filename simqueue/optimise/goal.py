"""`Goal`: what is wanted of a point, and what a run says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from simqueue import metrics
from simqueue.analysis.server import AnyResult, Server
from simqueue.capacity.slo import Limit
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.result import Result

PER_REPLICA, COST = "per_replica_rps", "cost_per_million_tokens"
_SLOS = ("ttft_slo_s", "tpot_slo_s")
_HOUR_S, _MILLION = 3600.0, 1e6


@dataclass(frozen=True)
class Goal:
    """The most requests per second and replica or, with a price, the least cost of output tokens, among points that
    keep limits; of those that are as good, the one with the least latency.

    Attributes:
        limits: that all shall hold.
        latency: the figure that is set against it, such as ``response_s.p99``.
        price: of a GPU, for an hour; None: cost is not asked for.
        gpus: how many a replica takes.
        precision: what differs by no more than this share counts as the same.
    """

    limits: tuple[Limit, ...]
    latency: str
    price: float | None = None
    gpus: int = 1
    precision: float = 0.01

    @property
    def objective(self) -> str:
        """The figure that decides."""
        return PER_REPLICA if self.price is None else COST

    @property
    def figures(self) -> tuple[str, ...]:
        """Every figure that is looked at: what decides, what it is set against, what has limits."""
        named = (PER_REPLICA, self.objective, self.latency, *(limit.figure for limit in self.limits))
        return tuple(dict.fromkeys(named))

    def score(self, objective: float) -> float:
        """The larger the better, and by how much: the logarithm of requests, or of one over cost."""
        logarithm = math.log(min(max(objective, 1e-300), 1e300))
        return logarithm if self.price is None else -logarithm

    def rates(self, result: AnyResult, server: Server) -> Rates:
        """What makes the figures of this whole run."""
        good = _good(result)
        tokens = result.workload.output_tokens[result.counted][good]
        mean = float(tokens.mean()) if len(tokens) else math.nan
        return Rates(_replicas(result, server), mean, _tail(result))

    def figured(self, rates: Rates, summary: dict[str, Any]) -> dict[str, float]:
        """Requests per second and replica, while requests come: those that met their own limits or, where they have
        none, all that were answered. And with a price the cost of a million of their output tokens: the price of all
        GPUs for an hour over the tokens of an hour. Of several runs it is the mean over the runs."""
        good_rps = rates.tail * summary.get("goodput_rps", summary["throughput_rps"])
        figures = {PER_REPLICA: good_rps / rates.replicas}
        if self.price is not None:
            tokens = good_rps * rates.tokens * _HOUR_S
            figures[COST] = self.price * self.gpus * rates.replicas / tokens * _MILLION if tokens > 0 else math.inf
        return figures


@dataclass(frozen=True)
class Rates:
    """Of a run: how many ``replicas`` were paid for in the mean, the mean output ``tokens`` of good requests, and
    ``tail``: how many times as long as requests came it lasted. When no more come less and less is done, which says
    nothing of what serves them."""

    replicas: float
    tokens: float
    tail: float = 1.0


def _good(result: AnyResult) -> Any:
    """bool ``(requests counted,)``: whether each met every limit of its own; all where there are none."""
    extra, unit = result.workload.extra, result.grid.ticks_per_s
    slos = {name: extra[name][result.counted] * unit for name in _SLOS if name in extra}
    if not slos:
        return np.ones(len(result.arrival[result.counted]), bool)
    times = [getattr(result, name.removesuffix("_slo_s"))[result.counted] for name in slos]
    return metrics.within(times, list(slos.values()))


def _tail(result: AnyResult) -> float:
    """By the gaps between requests, of which there is one fewer; 1 where all came at once."""
    came, (begin, end) = result.arrival[result.came], result.window
    gaps, span = len(came) - 1, int(came[-1] - came[0])
    return (end - begin) / span * gaps / (gaps + 1) if span else 1.0


def _replicas(result: AnyResult, server: Server) -> float:
    """Where they come and go the time that is paid for over that of the run, from its beginning to its last answer."""
    if isinstance(result, Result):
        return 1.0
    summary = result.summary()
    if not _scaled(server):
        return float(summary["replicas"])
    return float(summary["replica_seconds"] / (int(result.finished.max()) / result.grid.ticks_per_s))


def _scaled(server: Server) -> bool:
    pools = (server.prefill, server.decode) if isinstance(server, Disaggregation) else (server,)
    return any(isinstance(pool, Cluster) and pool.autoscaling is not None for pool in pools)
