"""`replicate`: independent runs of one scenario, as many as their intervals ask for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from simqueue.analysis.effort import further
from simqueue.analysis.replicated import GAPS, Part, Precision, Replicated, response_of, sectioned
from simqueue.analysis.server import AnyResult, Server, at_rate, run, with_capacity, without_capacity, without_gaps
from simqueue.analysis.warmup import Warmup, averaged, mser5
from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.pool import pool, submit
from simqueue.workload import (
    MMPP,
    Batches,
    Constant,
    Gamma,
    Poisson,
    Sessions,
    Trace,
    TraceWarning,
    Users,
    WorkloadSpec,
    make_workload,
)

REPLICATIONS = 10
AUTO = "auto"
# Keeps the seeds of replications apart from everything else that follows from a scenario's.
_REPLICATION = 1 << 20
# Of runs that were made longer, one in so many requests finds the system empty, and is left out.
_LEFT_OUT = 20
# Processes take longer to start than so many requests to simulate.
_WORTH_PROCESSES = 100_000
_STATIONARY = (Constant, Poisson, Gamma, MMPP, Sessions)
# A closed loop begins with everybody thinking at once; after so many requests of each user that is forgotten.
_ROUNDS = 20


class _Task(NamedTuple):
    """One replication; ``warmup`` is None where all of them have yet to tell. See `replicate` for the rest."""

    spec: WorkloadSpec
    server: Server
    base: Path | None
    seed: int
    warmup: int | None
    rate: float | None = None
    saturation_rps: float | None = None
    gapless: bool = False


def replicate(
    spec: WorkloadSpec,
    server: Server,
    *,
    seed: int = 0,
    replications: int | None = None,
    warmup: int | str | None = None,
    precision: Precision | None = None,
    workers: int = 1,
    base: Path | None = None,
    rate: float | None = None,
    saturation_rps: float | None = None,
) -> Replicated:
    """Run a scenario several times, each with draws of its own.

    The first run is that of `simqueue.simulate` with ``seed``; the seed of each further one follows from ``seed`` and
    its number alone. So scenarios that are compared at one ``seed`` meet the same customers in every replication.

    Where a ``precision`` is asked for, and not reached, further runs are added, or longer ones take the place of all so
    far (`further`), up to as many requests in all as ``max_replications`` of the first length have. Of longer ones the
    first twentieth is left out, or ``warmup`` if that is a number. ITL stays that of the first runs, unless it is asked
    for: to look at all gaps between tokens takes longer than all else. Where runs have a length of their own, as where
    the rate follows the clock, none are longer.

    Stopping as soon as an interval happens to be narrow makes intervals cover too seldom; to look only a few times, and
    never before there are ``replications``, keeps that small (Chow and Robbins, Annals of Mathematical Statistics 36,
    1965; Law, "Simulation Modeling and Analysis", 2015, section 9.4.1).

    Args:
        spec: what arrives.
        server: what serves it: a `System`, `Cluster` or `Disaggregation`.
        seed: of every draw.
        replications: how many runs; 10 if not given, or 1 of a recorded trace. The intervals of a single run, and where
            nothing in the scenario is random, are from its sections.
        warmup: how many requests to leave out of every run; ``"auto"``: as `mser5` says of their response times,
            averaged over all runs by arrival. If not given "auto" where the workload is stationary, otherwise 0.
        precision: how narrow intervals shall be, and of what.
        workers: processes. Results do not depend on it. They are spawned: a script that asks for several needs its
            ``if __name__ == "__main__"``.
        base: the folder that a trace's relative path starts from.
        rate: brings every run's workload to so many requests per second (`simqueue.Workload.at_rate`).
        saturation_rps: the saturation throughput, where that is known; else it is looked for once.

    Raises:
        ConfigError, ProfileError, WorkloadError, InvariantError: as `simqueue.simulate` has them.
    """
    count = _count(spec, replications, precision)
    task = _Task(spec, server, base, seed, _warmup(spec, warmup), rate, saturation_rps)
    most = precision.max_replications if precision else count
    worth = (spec.requests or _WORTH_PROCESSES) * (most - 1) >= _WORTH_PROCESSES
    try:
        with pool(min(workers, most - 1) if worth else 1) as processes:
            found = _first(processes, task, count, precision)
            if precision is None or found.replications == 1:
                return found
            return _until_precise(processes, task, found, precision)
    except BrokenProcessPool:
        raise ConfigError(
            "run: a process was ended before its replication was over, most likely for want of memory: ask for fewer "
            "requests"
        ) from None


def seed_of(seed: int, replication: int) -> int:
    """The seed of a replication: the scenario's own for number 0."""
    if not replication:
        return seed
    child = np.random.SeedSequence(seed, spawn_key=(_REPLICATION, replication))
    return int(child.generate_state(1, np.uint64)[0]) >> 1


def is_stationary(spec: WorkloadSpec) -> bool:
    """Whether requests come by one law from the beginning to the end, so that there is a steady state to wait for."""
    for part in spec.parts:
        arrivals = part.arrivals.of if isinstance(part.arrivals, Batches) else part.arrivals
        lasts = isinstance(arrivals, Users) and (spec.requests or 0) >= _ROUNDS * arrivals.users
        if not lasts and not isinstance(arrivals, _STATIONARY):
            return False
    return True


def _warmup(spec: WorkloadSpec, warmup: int | str | None) -> int | None:
    """None where it is to be found."""
    if warmup == AUTO or (warmup is None and is_stationary(spec)):
        return None
    if isinstance(warmup, str):
        raise ConfigError(f'run: warmup = {warmup!r} is neither "auto" nor a number of requests')
    at_least("run", "warmup", warmup or 0, 0)
    return warmup or 0


def _count(spec: WorkloadSpec, replications: int | None, precision: Precision | None) -> int:
    recorded = isinstance(spec.arrivals, Trace)
    count = (1 if recorded else REPLICATIONS) if replications is None else replications
    at_least("run", "replications", count, 1)
    if precision and count == 1:
        said = "a recorded trace is run once" if replications is None else "replications = 1"
        raise ConfigError(f"run: precision = {precision.relative}, but {said}: give replications = 10, or no precision")
    if precision and precision.max_replications < count:
        raise ConfigError(
            f"run: max_replications = {precision.max_replications} is less than the {count} to begin with: raise it"
        )
    return count


def _first(processes: Executor | None, task: _Task, count: int, precision: Precision | None) -> Replicated:
    """The first so many replications; the very first is run here."""
    others = _others(processes, task, range(1, count))
    first = _run(task)
    if task.saturation_rps is not None:
        first = with_capacity(first, task.saturation_rps)
    results: list[AnyResult | Part] = [first, *others()]
    series = [one.response_s if isinstance(one, Part) else response_of(one) for one in results]
    cut = mser5(averaged(series)) if task.warmup is None else Warmup(task.warmup, found=True)
    first = first.cut(cut.requests)
    parts = [Part.of(first), *(one if isinstance(one, Part) else Part.of(one.cut(cut.requests)) for one in results[1:])]
    found = Replicated(first, parts, count, cut, series, precision)
    if count == 1 or np.array_equal(parts[0].response_s, parts[1].response_s, equal_nan=True):
        return _one_run(found, count)
    return found


def _one_run(found: Replicated, asked: int) -> Replicated:
    note = None if asked == 1 else "nothing here is random: all replications are one run, intervals are of its sections"
    return replace(found, parts=sectioned(found.first), replications=1, note=note)


def _until_precise(processes: Executor | None, task: _Task, found: Replicated, precision: Precision) -> Replicated:
    """Further runs until they are precise."""
    gapless = not any(figure.startswith(GAPS) for figure in precision.of)
    one = task._replace(warmup=found.warmup.requests, gapless=gapless)
    first, any_length = found, is_stationary(task.spec)
    number, requests = found.replications, len(found.series[0])
    left = requests * (precision.max_replications - number)
    while more := further(found, requests, left, any_length=any_length):
        if anew := more.requests > requests:
            one = _longer(one, more.requests, task.warmup)
        runs = range(number, number + more.runs)
        parts = [part for part in _others(processes, one, runs)() if isinstance(part, Part)]
        found = _anew(found, parts, task.warmup) if anew else _added(found, parts)
        found = replace(found, short=first if gapless else None)
        number, requests, left = runs.stop, more.requests, left - more.runs * more.requests
    return found


def _longer(task: _Task, requests: int, warmup: int | None) -> _Task:
    spec = msgspec.structs.replace(task.spec, requests=requests)
    return task._replace(spec=spec, warmup=requests // _LEFT_OUT if warmup is None else warmup)


def _added(found: Replicated, parts: Sequence[Part]) -> Replicated:
    """With further runs of the same length."""
    parts = [*found.parts, *parts]
    return replace(found, parts=parts, replications=len(parts), series=[part.response_s for part in parts])


def _anew(found: Replicated, parts: Sequence[Part], warmup: int | None) -> Replicated:
    """Of longer runs in place of those that there were, which say little beside them and have more bias."""
    parts = [parts[0].after(found.parts[0]), *parts[1:]]
    series = [part.response_s for part in parts]
    cut = len(series[0]) // _LEFT_OUT
    known = Warmup(cut, mser5(averaged(series)[cut:]).found) if warmup is None else found.warmup
    return replace(found, parts=parts, replications=len(parts), series=series, warmup=known)


def _others(processes: Executor | None, task: _Task, numbers: Iterable[int]) -> Callable[[], list[AnyResult | Part]]:
    """Replications of these numbers, under way where there are processes; calling what comes waits for them."""
    tasks = [task._replace(seed=seed_of(task.seed, number)) for number in numbers]
    if processes is None:
        return lambda: [_replication(each) for each in tasks]
    futures = submit(processes, _replication, tasks)
    return lambda: [future.result() for future in futures]


def _replication(task: _Task) -> AnyResult | Part:
    """What goes back to the first process: the whole run only where the warm-up is still to be found. What is to be
    said of a trace the first run has said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TraceWarning)
        result = without_capacity(_run(task))
    if task.gapless:
        result = without_gaps(result)
    return result if task.warmup is None else Part.of(result)


def _run(task: _Task) -> AnyResult:
    workload = make_workload(task.spec, task.seed, task.base)
    if task.rate is not None:
        workload = at_rate(task.server, workload, task.rate)
    return run(task.server, workload, seed=task.seed, warmup=task.warmup or 0)
