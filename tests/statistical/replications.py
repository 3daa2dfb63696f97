"""Independent replications of a queue, and the figures that are compared with theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from simqueue import Result, System, WorkloadSpec, make_workload, simulate

REPLICATIONS = 32


@dataclass(frozen=True)
class Run:
    """One replication. The requests of the warm-up are left out of everything."""

    result: Result

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What ``simqueue simulate --json`` prints."""
        return self.result.summary()

    def seconds(self, time: str) -> NDArray[np.float64]:
        """``queueing``, ``service`` or ``response`` of every request."""
        return self.result.grid.seconds(getattr(self.result, time)[self.result.warmup :])

    @cached_property
    def window_s(self) -> tuple[float, float]:
        """From the first counted arrival to the last one: neither the filling nor the draining."""
        arrival_s = self.result.workload.arrival_s
        return float(arrival_s[self.result.warmup]), float(arrival_s[-1])

    @cached_property
    def batch_sizes(self) -> NDArray[np.int64]:
        """Rows of every step that starts in the window."""
        steps, (begin, end) = self.result.steps(), self.window_s
        inside = (steps["start_s"] >= begin) & (steps["start_s"] <= end)
        return np.asarray(steps["batch_size"][inside], np.int64)

    @cached_property
    def mean_waiting(self) -> float:
        """Time average of the number waiting over the window, from the path of that number itself."""
        times, number = self.result.waiting()
        begin, end = self.window_s
        stays = np.diff(np.clip(times, begin, end))
        return float((stays * number[:-1]).sum()) / (end - begin)


Measure = Callable[[Run], float]


@dataclass(frozen=True)
class Figure:
    """One number that a queue has by theory and that a run measures.

    ``rivals`` are the values that it would have if the simulator did something else, by name. ``precision``
    is the largest standard error that is small enough, as a share of ``exact``. ``bound`` is a value that theory
    says is not exceeded. ``controlled``: see `replicate`.
    """

    name: str
    measure: Measure
    exact: float
    rivals: Mapping[str, float] = field(default_factory=dict)
    precision: float = 0.01
    bound: float = math.inf
    controlled: bool = True


@dataclass(frozen=True)
class Control:
    """A mean of what a run draws, whatever its server does, and what it is by definition."""

    measure: Measure
    exact: float


@dataclass(frozen=True)
class Queue:
    """What is simulated, how long, and what theory says about it. ``workload.requests`` includes the warm-up."""

    name: str
    solver: str
    workload: WorkloadSpec
    system: System
    figures: tuple[Figure, ...]
    controls: tuple[Control, ...]
    warmup: int


@dataclass(frozen=True)
class Estimate:
    """Mean over the replications, its standard error, and the degrees of freedom that this was found with."""

    mean: float
    error: float
    freedom: int

    def half_width(self, confidence: float) -> float:
        """Of Student's interval."""
        return float(self.error * stats.t.ppf((1 + confidence) / 2, self.freedom))


def replicate(queue: Queue) -> tuple[Estimate, ...]:
    """Estimates of the queue's figures from independent replications, in their order.

    A run in which requests happen to come faster than their rate has longer queues. So each figure is regressed on the
    run's controls, and the estimate is its value where they are what they should be: a third to a half of the error
    goes. Source: Lavenberg and Welch (1981), "A perspective on the use of control variables to increase the efficiency
    of Monte Carlo simulations", Management Science 27. A figure that follows from the controls but for the ends of a
    run is not ``controlled``: nothing else would be left of it.
    """
    first_seed = crc32(queue.name.encode())  # queues do not share their arrivals
    seen, off = [], []
    for index in range(REPLICATIONS):
        one = _run(queue, first_seed + index)
        seen.append([figure.measure(one) for figure in queue.figures])
        off.append([control.measure(one) - control.exact for control in queue.controls])
    known = {True: np.array(off), False: np.empty((REPLICATIONS, 0))}
    return tuple(
        _at_zero(known[figure.controlled], y) for figure, y in zip(queue.figures, np.array(seen).T, strict=True)
    )


def _at_zero(x: NDArray[np.float64], y: NDArray[np.float64]) -> Estimate:
    """Least squares: what ``y``, ``(runs,)``, is where ``x``, ``(runs, controls)``, is zero."""
    design = np.column_stack([np.ones(len(x)), x])
    fitted = np.linalg.lstsq(design, y, rcond=None)[0]
    freedom = len(design) - design.shape[1]
    variance = float(((y - design @ fitted) ** 2).sum()) / freedom * np.linalg.inv(design.T @ design)[0, 0]
    return Estimate(float(fitted[0]), math.sqrt(variance), freedom)


def _run(queue: Queue, seed: int) -> Run:
    workload = make_workload(queue.workload, seed)
    result = simulate(workload, queue.system, seed=seed, warmup=queue.warmup)
    # Theory says that the queue is stable; looking for its capacity in every replication would take half the time.
    return Run(replace(result, saturation_rps=lambda: math.inf))
