"""Trials: a scenario run several times at one rate, and whether its figures keep their limits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from simqueue.analysis.figures import at
from simqueue.analysis.interval import Interval
from simqueue.analysis.replicated import GAPS, Part, Replicated, response_of, sectioned
from simqueue.analysis.replications import REPLICATIONS, is_stationary, seed_of
from simqueue.analysis.server import AnyResult, Server, run, without_capacity, without_gaps
from simqueue.analysis.warmup import Warmup, averaged, mser5
from simqueue.capacity.slo import Limit
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.disaggregated import saturation as saturation_by_part
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cluster.saturation import cluster_saturation_rps
from simqueue.errors import ConfigError
from simqueue.pool import submit
from simqueue.sim.simulate import fitted, saturation_rps
from simqueue.system import System
from simqueue.workload import Trace, TraceWarning, Users, Workload, WorkloadSpec, make_workload

# Of each run, the share of its first requests that find the system empty, and are left out.
_LEFT_OUT = 0.1
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
        """See `simqueue.saturation_rps`, of whatever serves it."""
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
        unstable: whether the number in the system beyond doubt went on growing.
        doubts: by figure, why the runs are too short to believe its interval.
    """

    value: float | None
    rate: float | None
    requests: int
    replications: int
    figures: Mapping[str, Interval]
    unstable: bool
    doubts: Mapping[str, str]

    def meets(self, limits: Sequence[Limit]) -> bool:
        """Every limit, with 95 % confidence."""
        return not self.unstable and all(limit.worst(self.figures[limit.figure]) >= 0 for limit in limits)

    def breaks(self, limits: Sequence[Limit]) -> bool:
        """Some limit, with 95 % confidence."""
        return self.unstable or any(limit.best(self.figures[limit.figure]) < 0 for limit in limits)

    def margin(self, limits: Sequence[Limit]) -> float:
        """The least of the margins of figures as they are: the nearest to 0 or the farthest below it."""
        return min(limit.margin(self.figures[limit.figure].value) for limit in limits)

    def binding(self, limits: Sequence[Limit]) -> Limit:
        """The limit with the least margin."""
        return min(limits, key=lambda limit: limit.margin(self.figures[limit.figure].value))

    def precise(self, limits: Sequence[Limit], relative: float) -> bool:
        """Whether the interval of the figure with the least margin is as narrow as that, and to be believed."""
        figure = self.binding(limits).figure
        return self.figures[figure].relative <= relative and figure not in self.doubts


class _Task(NamedTuple):
    """One run."""

    case: Case
    rate: float | None
    effort: Effort
    seed: int
    samples: frozenset[str]


class Trials:
    """Makes trials, one after the other, each in all processes.

    Attributes:
        done: every trial, in order.
    """

    def __init__(
        self,
        limits: Sequence[Limit],
        processes: Executor | None,
        max_requests: int,
        told: Callable[[Trial, int], None] = lambda trial, spent: None,
    ) -> None:
        self._limits, self._processes, self._most, self._told = limits, processes, max_requests, told
        self._samples = frozenset(_sample_of(limit) for limit in limits) | {"response_s"}
        self.done: list[Trial] = []

    @property
    def spent(self) -> int:
        """Requests simulated so far."""
        return sum(trial.requests for trial in self.done)

    @property
    def left(self) -> int:
        """Requests that may still be simulated."""
        return self._most - self.spent

    def affords(self, case: Case, effort: Effort, rate: float | None = None) -> bool:
        """Whether one more such trial is among them."""
        return (effort.requests or 0) * effort.replications * case.times(rate) <= self.left

    def run(self, case: Case, effort: Effort, rate: float | None = None, value: float | None = None) -> Trial:
        """One trial, at this rate or else the scenario's own.

        Raises:
            ConfigError: the runs have no such figure.
            SimqueueError: whatever else is wrong with the scenario.
        """
        seeds = (seed_of(case.seed, number) for number in range(effort.replications))
        found = _replicated(self._processes, [_Task(case, rate, effort, seed, self._samples) for seed in seeds])
        figures = {limit.figure: _interval(found, limit) for limit in self._limits}
        doubts = {limit.figure: found.doubt(limit.path) for limit in self._limits}
        trial = Trial(
            value,
            rate
            if rate is not None
            else None
            if isinstance(case.spec.arrivals, Users)
            else found.figures["offered_rps"],
            len(found.averaged_s) * effort.replications,
            effort.replications,
            figures,
            found.figures["unstable"],
            {figure: reason for figure, reason in doubts.items() if reason},
        )
        self.done.append(trial)
        self._told(trial, self.spent)
        return trial

    def decided(self, case: Case, precision: float, rate: float | None = None, value: float | None = None) -> Trial:
        """Trials at one place, each of four times as many requests, until it is clear whether the limits hold, or the
        figure is within ``precision`` of its limit, or there is no more to be had."""
        effort = case.first_effort
        while True:
            trial = self.run(case, effort, rate, value)
            more = case.more(effort, 4)
            clear = trial.meets(self._limits) or trial.breaks(self._limits) or trial.precise(self._limits, precision)
            if clear or more == effort or not self.affords(case, more, rate):
                return trial
            effort = more


def _sample_of(limit: Limit) -> str:
    """The times that tell how far to trust a figure."""
    return "queueing_s" if limit.path[0] == "waiting" else ".".join(limit.path[:-1])


def _interval(found: Replicated, limit: Limit) -> Interval:
    value = at(found.figures, limit.path)
    if not isinstance(value, float):
        promise = "goodput" in limit.figure or "slo_attainment" in limit.figure
        why = "requests are promised nothing: give the workload ttft_slo_s or tpot_slo_s" if promise else "name another"
        raise ConfigError(f"--slo: these runs have no {limit.figure}: {why}")
    return found.interval(limit.path)


def _replicated(processes: Executor | None, tasks: Sequence[_Task]) -> Replicated:
    """All runs together. The first is run here, the others elsewhere at the same time."""
    futures = submit(processes, _part, tasks[1:]) if processes else []
    first = _result(tasks[0])
    if len(tasks) == 1:
        parts = sectioned(first)
    else:
        others = [future.result() for future in futures] if processes else [_part(task) for task in tasks[1:]]
        parts = [_trimmed(first, tasks[0]), *others]
    series = averaged([response_of(first)] if len(tasks) == 1 else [part.response_s for part in parts])
    warmup = Warmup(first.warmup, mser5(series[first.warmup :]).found)
    return Replicated(first, parts, len(tasks), warmup, series)


def _part(task: _Task) -> Part:
    return _trimmed(_result(task), task)


def _trimmed(result: AnyResult, task: _Task) -> Part:
    """Only what the figures that have limits need: it goes from process to process."""
    part = Part.of(result)
    return replace(part, samples={name: sample for name, sample in part.samples.items() if name in task.samples})


def _result(task: _Task) -> AnyResult:
    """One run, at its rate. What is to be said of a trace was said when it was first read."""
    case, rate, requests = task.case, task.rate, task.effort.requests
    warmup = int(_LEFT_OUT * (requests or 0)) if case.any_length else case.warmup
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TraceWarning)
        if rate is not None and requests is not None and not case.any_length:
            requests, warmup = (max(1, round(count * case.times(rate))) if count else 0 for count in (requests, warmup))
        workload = case.workload(task.seed, requests)
        if rate is not None:
            workload = workload.at_rate(rate)
        result = without_capacity(run(case.server, workload, seed=task.seed, warmup=warmup))
        return result if GAPS in task.samples else without_gaps(result)
