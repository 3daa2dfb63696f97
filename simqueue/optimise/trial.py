"""A point tried: several runs with the seeds that all points have in common, and what they say."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from simqueue.analysis.figures import at
from simqueue.analysis.interval import Interval
from simqueue.analysis.replicated import Part, Replicated, sectioned
from simqueue.analysis.replications import seed_of
from simqueue.analysis.server import AnyResult, run, with_capacity, without_capacity
from simqueue.analysis.warmup import Warmup, averaged, mser5
from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Case, Effort
from simqueue.capacity.trial import Trial as Held
from simqueue.config import Scenario, scenario_from
from simqueue.errors import ConfigError, SimqueueError
from simqueue.optimise.goal import Goal
from simqueue.optimise.space import LOAD, RATE, Point
from simqueue.workload import Trace, Users

GROWTH = 4
"""Each length of runs is so many times the one before it."""
_LEFT_OUT = 0.1
_SATURATING = 20_000
# Replications from this number on are kept for the end: nobody has chosen anything by them.
_FRESH = 1_000_000


class Task(NamedTuple):
    """A point to try.

    Attributes:
        number: of the trial.
        table, path: the scenario before anything is chosen.
        length: how long runs are: 0 for the shortest, each further one `GROWTH` times as long.
        fresh: whether they have seeds that no search has seen.
        saturation_rps: of this point, where that is known.
    """

    number: int
    point: Point
    table: Mapping[str, Any]
    path: Path
    goal: Goal
    length: int = 0
    fresh: bool = False
    saturation_rps: float | None = None


@dataclass(frozen=True)
class Trial(Held):
    """What was found at a point. Its figures are those of the goal.

    Attributes:
        number: which trial it is, from 0.
        point: what was chosen.
        length: see `Task`.
        fresh: see `Task`.
        replicas: how many were paid for in the mean.
        saturation_rps: the saturation throughput; None where it was not needed.
        by_run: by figure, what each replication says of the objective and of the latency.
        more: whether longer runs would tell more: a recording has no others.
    """

    number: int
    point: Point
    length: int
    fresh: bool
    replicas: float
    saturation_rps: float | None
    by_run: Mapping[str, tuple[float, ...]]
    more: bool

    @property
    def load(self) -> float | None:
        """The rate over the saturation throughput."""
        return self.rate / self.saturation_rps if self.rate and self.saturation_rps else None

    def keeps(self, limits: tuple[Limit, ...]) -> bool:
        """Every limit, by the figures as they are."""
        return not self.unstable and (not limits or self.margin(limits) >= 0)

    def violation(self, limits: tuple[Limit, ...]) -> float:
        """How far beyond its limits it is: 0 if it keeps them, as much as the farthest for each if it is unstable."""
        over = [max(0.0, -limit.margin_of_figure(self.figures[limit.figure].value)) for limit in limits]
        return sum(over) + (3.0 if self.unstable else 0.0)


@dataclass(frozen=True)
class Failure:
    """Why a point cannot be run, in one line."""

    number: int
    point: Point
    reason: str


def tried(task: Task) -> Trial | Failure:
    """Try a point."""
    try:
        with warnings.catch_warnings():
            # What is to be said of the scenario was said when it was first read.
            warnings.simplefilter("ignore")
            return _tried(task)
    except SimqueueError as error:
        return Failure(task.number, task.point, str(error).partition("\n")[0])


def scenario_of(point: Point, table: Mapping[str, Any], path: Path) -> Scenario:
    """The scenario of a point, still at its own rate. Raises SimqueueError where that is none."""
    return scenario_from(point.put(table), path)


def case_of(scenario: Scenario) -> Case:
    """What a scenario asks about, as `simqueue capacity` has it."""
    warmup = scenario.run.warmup if isinstance(scenario.run.warmup, int) else 0
    server, base = scenario.cluster or scenario.system, scenario.path.parent
    return Case(scenario.workload, server, base, scenario.run.seed, warmup)


def at_rate(case: Case, rate: float) -> Case:
    """The same at another rate, in requests per second. Where the rate follows the clock runs last as long as they did.

    Raises:
        SimqueueError: it has no rate that could be set.
    """
    spec, arrivals = case.spec, case.spec.arrivals
    if isinstance(arrivals, Users):
        raise ConfigError("users send as fast as they are answered and have no rate: vary workload.arrivals.users")
    if isinstance(arrivals, Trace):
        speed = arrivals.speed * rate / case.workload(case.seed).rate
        faster = msgspec.structs.replace(spec, arrivals=msgspec.structs.replace(arrivals, speed=speed))
        return replace(case, spec=faster)
    # All other arrivals have both.
    assert spec.mean_rate is not None
    assert spec.requests is not None
    factor = rate / spec.mean_rate
    requests = spec.requests if case.any_length else max(1, round(spec.requests * factor))
    return replace(case, spec=msgspec.structs.replace(spec.scaled(factor), requests=requests))


def case_at(
    point: Point, table: Mapping[str, Any], path: Path, saturation_rps: float | None
) -> tuple[Case, float | None]:
    """What a point asks about, at the rate that it says; and its saturation throughput, if the rate follows from that.

    Raises:
        SimqueueError: it is no scenario, or one without a rate.
    """
    case, rate, load = case_of(scenario_of(point, table, path)), point.of(RATE), point.of(LOAD)
    if load is not None:
        saturation_rps = saturation_rps or case.saturation_rps()
        rate = load * saturation_rps
    return (case if rate is None else at_rate(case, rate)), saturation_rps


def _tried(task: Task) -> Trial:
    case, saturation = case_at(task.point, task.table, task.path, task.saturation_rps)
    if task.length and saturation is None and not isinstance(case.spec.arrivals, Users):
        saturation = case.saturation_rps()
    effort, goal = case.more(case.first_effort, GROWTH**task.length), task.goal
    found, replicas = _replicated(case, effort, task, saturation)
    figures = {name: _interval(found, name) for name in goal.figures}
    doubts = {name: found.doubt(path_of(name)) for name in goal.figures}
    by_run = {
        name: tuple(float(at(part.summary, path_of(name))) for part in found.parts)
        for name in (goal.objective, goal.latency)
    }
    sought = _SATURATING if saturation is not None and task.saturation_rps is None else 0
    return Trial(
        value=None,
        rate=None if isinstance(case.spec.arrivals, Users) else found.figures["offered_rps"],
        requests=len(found.averaged_s) * effort.replications + sought,
        replications=effort.replications,
        figures=figures,
        told={limit: limit.told_by(found) for limit in goal.limits},
        unstable=found.figures["unstable"],
        doubts={name: reason for name, reason in doubts.items() if reason},
        number=task.number,
        point=task.point,
        length=task.length,
        fresh=task.fresh,
        replicas=replicas,
        saturation_rps=saturation,
        by_run=by_run,
        more=not case.recorded,
    )


def path_of(figure: str) -> tuple[str, ...]:
    """Where a summary has it."""
    return Limit(figure, True, 1.0).path


def _interval(found: Replicated, figure: str) -> Interval:
    if not isinstance(at(found.figures, path_of(figure)), float):
        raise ConfigError(f"these runs have no {figure}: name another figure, or give requests limits of their own")
    return found.interval(path_of(figure))


def _replicated(case: Case, effort: Effort, task: Task, saturation: float | None) -> tuple[Replicated, float]:
    """All runs together, with the figures of the goal; and how many replicas were paid for."""
    begin = _FRESH if task.fresh else 0
    seeds = [seed_of(case.seed, begin + i) for i in range(effort.replications)]
    first = _run(case, effort, seeds[0])
    first = without_capacity(first) if saturation is None else with_capacity(first, saturation)
    others = (without_capacity(_run(case, effort, seed)) for seed in seeds[1:])
    parts, replicas = list[Part](), list[float]()
    for result in itertools.chain([first], others):
        made, paid = _parts(case, result, task.goal)
        parts += made
        replicas.append(paid)
    if len(parts) == 1:
        raise ConfigError(f"{len(parts[0].response_s)} requests are too few to tell anything: give more of them")
    series = averaged([part.response_s for part in parts])
    warmup = Warmup(first.warmup, mser5(series[first.warmup :]).found)
    return Replicated(first, parts, len(parts), warmup, [series]), sum(replicas) / len(replicas)


def _run(case: Case, effort: Effort, seed: int) -> AnyResult:
    warmup = int(_LEFT_OUT * (effort.requests or 0)) if case.any_length else case.warmup
    return run(case.server, case.workload(seed, effort.requests), seed=seed, warmup=warmup)


def _parts(case: Case, result: AnyResult, goal: Goal) -> tuple[list[Part], float]:
    """What one run says: it is one part, or several sections where there is no other run; and the replicas paid for."""
    rates, parts = goal.rates(result, case.server), [Part.of(result)]
    if case.recorded:
        # A section ends when the next one begins.
        rates, parts = replace(rates, tail=1.0), sectioned(result)
    kept = {"response_s", *(".".join(path_of(name)[:-1]) for name in goal.figures)}
    return [
        Part(
            {**part.summary, **goal.figured(rates, dict(part.summary))},
            {name: sample for name, sample in part.samples.items() if name in kept},
            part.response_s,
        )
        for part in parts
    ], rates.replicas
