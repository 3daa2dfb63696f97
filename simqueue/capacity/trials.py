"""`Trials`: a scenario run several times at one rate or for one value, here or in all processes."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from simqueue.analysis.figures import at
from simqueue.analysis.interval import Interval
from simqueue.analysis.replicated import GAPS, Part, Replicated, response_of, sectioned
from simqueue.analysis.replications import seed_of
from simqueue.analysis.server import AnyResult, run, with_capacity, without_capacity, without_gaps
from simqueue.analysis.warmup import Warmup, averaged, mser5
from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Case, Effort, Trial
from simqueue.cluster.disaggregated_result import DisaggregatedResult
from simqueue.errors import ConfigError
from simqueue.pool import submit
from simqueue.workload import TraceWarning, Users

# Of each run, the share of its first requests, which find the system empty, and that of its last, during which it
# empties: both are left out.
_LEFT_OUT, _LEFT_OUT_LAST = 0.1, 0.05
# Where a system fills up, and whether figures have waits in them (`simqueue.analysis.trust.Trust.widening`).
_ALWAYS = frozenset(("response_s", "queueing_s"))
# Processes take about as long to start as this.
_WORTH_PROCESSES_S = 2.0


class _Task(NamedTuple):
    """One run."""

    case: Case
    rate: float | None
    effort: Effort
    seed: int
    samples: frozenset[str]
    of_requests: bool


class Trials:
    """Makes trials, one after the other, each in all ``processes`` if it is long enough for that: what comes out does
    not depend on it.

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
        self._samples = frozenset(_sample_of(limit) for limit in limits) | _ALWAYS
        self._of_requests = all(limit.path[0].endswith("_s") for limit in limits)
        self._each_s = 0.0
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
        found = self._replicated([_Task(case, rate, effort, seed, self._samples, self._of_requests) for seed in seeds])
        figures = {limit.figure: _interval(found, limit) for limit in self._limits}
        told = {limit: limit.told_by(found) for limit in self._limits}
        doubts = {limit.figure: found.doubt(limit.path) for limit in self._limits}
        own = None if isinstance(case.spec.arrivals, Users) else found.figures["offered_rps"]
        trial = Trial(
            value,
            own if rate is None else rate,
            len(found.averaged_s) * effort.replications,
            effort.replications,
            figures,
            told,
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
            met = trial.meets(self._limits) and not trial.doubts
            clear = met or trial.breaks(self._limits) or trial.precise(self._limits, precision)
            if clear or more == effort or not self.affords(case, more, rate):
                return trial
            effort = more

    def _replicated(self, tasks: Sequence[_Task]) -> Replicated:
        """All runs together, elsewhere at the same time if the last ones say that it is worth it."""
        requests = sum(task.effort.requests or 0 for task in tasks)
        if self._processes and self._each_s * requests > _WORTH_PROCESSES_S:
            return _replicated(tasks, self._processes)
        begun = time.process_time()
        found = _replicated(tasks)
        self._each_s = (time.process_time() - begun) / (len(found.averaged_s) * len(tasks))
        return found


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


def _replicated(tasks: Sequence[_Task], processes: Executor | None = None) -> Replicated:
    """All runs together. The first is run here, the others elsewhere if there are processes."""
    futures = submit(processes, _part, tasks[1:]) if processes else []
    first = _with_capacity(_result(tasks[0]), tasks[0].case)
    if len(tasks) == 1:
        parts = sectioned(first)
    else:
        others = [future.result() for future in futures] if processes else [_part(task) for task in tasks[1:]]
        parts = [_trimmed(first, tasks[0]), *others]
    series = averaged([response_of(first)] if len(tasks) == 1 else [part.response_s for part in parts])
    warmup = Warmup(first.warmup, mser5(series[first.warmup :]).found)
    return Replicated(first, parts, len(tasks), warmup, [series])


def _with_capacity(result: AnyResult, case: Case) -> AnyResult:
    """The first run, which says at what load all are: that tells whether they are long enough, and stable."""
    if isinstance(case.spec.arrivals, Users):
        return result
    if isinstance(result, DisaggregatedResult):
        return replace(result, saturation=partial(dict, both=case.saturation_rps()))
    return with_capacity(result, case.saturation_rps())


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
        # What is got through in all is another matter: who came last is part of that.
        came = len(result.arrival)
        last = int(_LEFT_OUT_LAST * came) if case.any_length and task.of_requests else 0
        if 0 < last < came - warmup:
            result = result.cut(warmup, came - last)
        return result if GAPS in task.samples else without_gaps(result)
