"""Runs of one scenario at many points of its parameters, all with the same seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import msgspec

from simqueue.analysis.figures import Path, at
from simqueue.analysis.replications import replicate
from simqueue.config import Scenario
from simqueue.errors import ConfigError, SimqueueError
from simqueue.pool import pool, submit
from simqueue.workload import TraceWarning

# Processes take longer to start than so many requests to simulate.
_WORTH_PROCESSES = 100_000


class Effort(NamedTuple):
    """So many requests a run (of a recording all), the first of them left out, and so many runs."""

    requests: int | None
    warmup: int
    replications: int


@dataclass(frozen=True)
class Point:
    """One setting of all parameters.

    Attributes:
        scenario: with all of them set but the rate.
        rate: requests per second; the scenario's own if None.
        label: how the command line would say it.
    """

    scenario: Scenario
    rate: float | None
    label: str


class Outcome(NamedTuple):
    """What runs at a point found.

    Attributes:
        values: of each figure, of all runs together; NaN where they have none.
        parts: the same of each replication (of a single run: section), by figure.
        unstable: whether there is no steady state.
        load: rate over saturation throughput; None where nobody can set a rate.
    """

    values: tuple[float, ...]
    parts: tuple[tuple[float, ...], ...]
    unstable: bool
    load: float | None


def outcomes(
    points: Sequence[Point], effort: Effort, figures: Sequence[Path], workers: int, told: Callable[[int], None]
) -> list[Outcome]:
    """What the runs at every point find; the same whatever ``workers``. ``told`` hears how many are done.

    All points have the seeds of their scenario: they meet the same customers (common random numbers), so that a
    difference between two of them is due to what was set, and hardly to chance.

    Raises:
        SimqueueError: one cannot be run; the message says which.
    """
    task = partial(_outcome, effort=effort, figures=tuple(figures))
    worth = (effort.requests or _WORTH_PROCESSES) * effort.replications * len(points) >= _WORTH_PROCESSES
    try:
        with pool(min(workers, len(points)) if worth else 1) as processes:
            if processes is None:
                return [_telling(task(point), told, number) for number, point in enumerate(points, 1)]
            futures = submit(processes, task, points)
            for number, future in enumerate(as_completed(futures), 1):
                future.result()
                told(number)
            return [future.result() for future in futures]
    except BrokenExecutor:
        raise ConfigError(
            "a process was ended before its run was over, most likely for want of memory: ask for fewer requests"
        ) from None


def _telling(outcome: Outcome, told: Callable[[int], None], number: int) -> Outcome:
    told(number)
    return outcome


def _outcome(point: Point, effort: Effort, figures: tuple[Path, ...]) -> Outcome:
    scenario = point.scenario
    spec = scenario.workload
    if effort.requests is not None:
        spec = msgspec.structs.replace(spec, requests=effort.requests)
    try:
        with warnings.catch_warnings():
            # What is to be said of a trace was said when the scenario was first run.
            warnings.simplefilter("ignore", TraceWarning)
            found = replicate(
                spec,
                scenario.cluster or scenario.system,
                seed=scenario.run.seed,
                replications=effort.replications,
                warmup=effort.warmup,
                base=scenario.path.parent,
                rate=point.rate,
            )
            whole, parts = found.figures, [part.summary for part in found.parts]
    except SimqueueError as error:
        raise type(error)(f"{error} (at {point.label})") from None
    offered, saturation = whole.get("offered_rps"), whole.get("saturation_rps")
    return Outcome(
        tuple(_number(at(whole, path)) for path in figures),
        tuple(tuple(_number(at(part, path)) for part in parts) for path in figures),
        bool(whole["unstable"]),
        offered / saturation if offered and saturation and not whole.get("users") else None,
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
