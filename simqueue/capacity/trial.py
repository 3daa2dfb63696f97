"""`Case`: what is asked about; `Trial`: what was found at one rate or for one value, and does that keep limits?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec

from simqueue.analysis.interval import Interval
from simqueue.analysis.replications import REPLICATIONS, is_stationary
from simqueue.analysis.server import Server
from simqueue.capacity.slo import Limit, Told
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.disaggregated import saturation as saturation_by_part
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cluster.saturation import cluster_saturation_rps
from simqueue.sim.simulate import fitted, saturation_rps
from simqueue.system import System
from simqueue.workload import Trace, Users, Workload, WorkloadSpec, make_workload

_FIRST_REQUESTS = 1000
_ROUNDS = 40
_SATURATING = 20_000
_UNKNOWN = 2**40


@dataclass(frozen=True)
class Case:
    """What is asked about.

    Attributes:
        spec: what arrives. Where it has one law from the beginning to the end, runs are as long as they need to be.
        server: what serves it.
        base: the folder that a trace's path starts from.
        seed: of every draw; the same at every rate, so that trials meet the same customers.
        warmup: how many first requests to leave out of runs whose length is given.
    """

    spec: WorkloadSpec
    server: Server
    base: Path | None
    seed: int
    warmup: int = 0

    @property
    def recorded(self) -> bool:
        """Whether it happened once, and cannot be drawn again."""
        return isinstance(self.spec.arrivals, Trace)

    @property
    def any_length(self) -> bool:
        """Whether runs may be as long as one likes."""
        return is_stationary(msgspec.structs.replace(self.spec, requests=_UNKNOWN))

    @property
    def systems(self) -> tuple[System, ...]:
        """Those that requests meet, each once."""
        server = self.server
        if isinstance(server, Disaggregation):
            return (*server.prefill.distinct, *server.decode.distinct)
        return server.distinct if isinstance(server, Cluster) else (server,)

    def workload(self, seed: int, requests: int | None = None) -> Workload:
        """At the scenario's own rate, cut to the models' context."""
        spec = self.spec if requests is None else msgspec.structs.replace(self.spec, requests=requests)
        made = make_workload(spec, seed, self.base)
        for system in self.systems:
            made = fitted(made, system)
        return made

    def saturation_rps(self) -> float:
        """See `simqueue.saturation_rps`, of whatever serves it; looked for once."""
        return self._saturation_rps

    @cached_property
    def _saturation_rps(self) -> float:
        workload, server = self.workload(self.seed, _SATURATING if self.any_length else None), self.server
        if isinstance(server, Disaggregation):
            return min(saturation_by_part(workload, server).values())
        return (
            cluster_saturation_rps(workload, server)
            if isinstance(server, Cluster)
            else saturation_rps(workload, server)
        )

    def times(self, rate: float | None) -> float:
        """How many times as long runs are at another rate, in requests: where the rate follows the clock a day is a
        day at any rate."""
        own = self.spec.mean_rate
        return 1.0 if rate is None or own is None or self.any_length else rate / own

    @property
    def first_effort(self) -> Effort:
        """Enough to see where the answer is not."""
        if self.recorded:
            return Effort(None, 1)
        if not self.any_length:
            return Effort(self.spec.requests, REPLICATIONS)
        users = self.spec.arrivals.users if isinstance(self.spec.arrivals, Users) else 0
        replicas = len(self.server.systems) if isinstance(self.server, Cluster) else 1
        return Effort(max(_FIRST_REQUESTS * min(replicas, 20), _ROUNDS * users), REPLICATIONS)

    def more(self, effort: Effort, factor: float) -> Effort:
        """So many times as much: longer runs, or more of them where their length is given; of a recording the same."""
        if self.recorded:
            return effort
        if self.any_length and effort.requests is not None:
            return effort._replace(requests=math.ceil(effort.requests * factor))
        return effort._replace(replications=math.ceil(effort.replications * factor))


class Effort(NamedTuple):
    """So many requests a run (of a recording all), and so many runs."""

    requests: int | None
    replications: int


@dataclass(frozen=True)
class Trial:
    """What was found at one rate, or for one value.

    Attributes:
        value: of what is varied; None if that is the rate.
        rate: requests per second that came; None in a closed loop.
        requests: simulated in all, those that were left out too.
        replications: how many runs.
        figures: those that have limits, by name, with their intervals.
        told: by limit, what tells whether it is kept (`Limit.told_by`).
        unstable: whether the number in the system beyond doubt went on growing.
        doubts: by figure, why the runs are too short to believe its interval.
    """

    value: float | None
    rate: float | None
    requests: int
    replications: int
    figures: Mapping[str, Interval]
    told: Mapping[Limit, Told]
    unstable: bool
    doubts: Mapping[str, str]

    def meets(self, limits: Sequence[Limit]) -> bool:
        """Every limit, with 95 % confidence."""
        return not self.unstable and all(limit.worst(self.told[limit].of) >= 0 for limit in limits)

    def breaks(self, limits: Sequence[Limit]) -> bool:
        """Some limit, with 95 % confidence."""
        return self.unstable or any(limit.best(self.told[limit].of) < 0 for limit in limits)

    def margin(self, limits: Sequence[Limit]) -> float:
        """The least of the margins of figures as they are: the nearest to 0 or the farthest below it."""
        return min(limit.margin_of_figure(self.figures[limit.figure].value) for limit in limits)

    def binding(self, limits: Sequence[Limit]) -> Limit:
        """The limit with the least margin."""
        return min(limits, key=lambda limit: limit.margin_of_figure(self.figures[limit.figure].value))

    def precise(self, limits: Sequence[Limit], relative: float) -> bool:
        """Whether the interval of the figure with the least margin is as narrow as that, and to be believed."""
        figure = self.binding(limits).figure
        return self.figures[figure].relative <= relative and figure not in self.doubts
