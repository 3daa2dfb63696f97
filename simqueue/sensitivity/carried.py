"""The error of a calibration, carried into the figures of a scenario: a second interval beside that of the runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simqueue.analysis.figures import Path as Place
from simqueue.analysis.figures import estimates, in_place
from simqueue.analysis.interval import LEVEL
from simqueue.analysis.replicated import Replicated
from simqueue.config import Scenario, load, named
from simqueue.errors import ConfigError
from simqueue.sensitivity.calibration import Coefficient, as_table, coefficients, not_known
from simqueue.sensitivity.effect import standard_errors
from simqueue.sensitivity.runs import Effort, Outcome, Point, outcomes


@dataclass(frozen=True)
class Carried:
    """What the error of the calibration does to every figure.

    Attributes:
        coefficients: that were moved to both ends of their intervals.
        shares: by figure, what each of them does to it: half of the difference between its ends, in the unit of the
            figure; NaN where the system is unstable at an end, infinite in `half_width`.
        noise: of the same shape: their standard errors.
        unstable: coefficients with which it is.
        not_known: kinds of step whose error their profile does not tell.
    """

    coefficients: tuple[Coefficient, ...]
    shares: dict[Place, tuple[float, ...]]
    noise: dict[Place, tuple[float, ...]]
    unstable: tuple[str, ...]
    not_known: tuple[str, ...]

    def half_width(self, figure: Place) -> float:
        """Of the 95 % interval of a figure that is due to the calibration; infinite where an end is unstable.

        The squares of what coefficients do add up, since they were measured apart. The square of what chance does to
        each is taken off, for it would be there without any effect.
        """
        if self.unstable:
            return math.inf
        squares = (
            max(0.0, share**2 - (0.0 if math.isnan(error) else error) ** 2)
            for share, error in zip(self.shares[figure], self.noise[figure], strict=True)
        )
        return math.sqrt(math.fsum(squares))

    def told(self, whole: Any) -> dict[str, Any]:
        """In JSON's types; half-widths in the shape of the summary ``whole``."""
        widths = {figure: self.half_width(figure) for figure in self.shares}
        by_coefficient = {
            one.keys[0]: in_place({figure: shares[i] for figure, shares in self.shares.items()}, whole)
            for i, one in enumerate(self.coefficients)
        }
        return {
            "level": LEVEL,
            "coefficients": as_table(list(self.coefficients)),
            "half_width": in_place(widths, whole),
            "due_to": by_coefficient,
            "unstable_at": list(self.unstable),
            "error_not_known": list(self.not_known),
        }


def carried(
    scenario: Scenario,
    overrides: Sequence[str],
    found: Replicated,
    workers: int = 1,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Carried:
    """Move each coefficient to both ends of its 95 % interval, all else as it is, and run the scenario there.

    The customers are the same as in ``found``, in every replication, so that differences are hardly due to chance. Half
    of the difference is the derivative times the half-width where figures are about linear between the ends: the delta
    method for input uncertainty (Cheng and Holland, "Sensitivity of computer simulation experiments to errors in input
    data", Journal of Statistical Computation and Simulation 57, 1997; Barton, Nelson and Xie, INFORMS Journal on
    Computing 26, 2014, carry input uncertainty by a metamodel where there are many coefficients). Near saturation the
    relative error of the steps comes out multiplied by about 1 / (1 - load).

    Args:
        scenario: from a file.
        overrides: that it was read with.
        found: what its own runs said; the others are as many and as long.
        workers: processes; figures do not depend on them.
        told: hears how many of how many points are done.

    Raises:
        ConfigError: its costs were not measured, or no profile tells its error.
        SimqueueError: it cannot be run with a coefficient at its end.
    """
    known = movable(scenario)
    points = [_point(scenario.path, overrides, one, end) for one in known for end in one.ends]
    figures = [path for path, _ in estimates(found.figures)]
    # Where a precision was asked for runs may have become longer.
    requests = len(found.averaged_s) if found.precision else scenario.workload.requests
    effort = Effort(requests, found.warmup.requests, found.replications)
    with named(scenario.path):
        ends = outcomes(points, effort, figures, workers, lambda done: told(done, len(points)))
    pairs = list(zip(ends[::2], ends[1::2], strict=True))
    moved = [_moved(low, high) for low, high in pairs]
    return Carried(
        known,
        {figure: tuple(float(shares[i]) for shares, _ in moved) for i, figure in enumerate(figures)},
        {figure: tuple(float(errors[i]) for _, errors in moved) for i, figure in enumerate(figures)},
        tuple(
            one.keys[0]
            for one, pair in zip(known, pairs, strict=True)
            if not found.figures["unstable"] and any(end.unstable for end in pair)
        ),
        tuple(not_known(coefficients(scenario))),
    )


def movable(scenario: Scenario) -> tuple[Coefficient, ...]:
    """The coefficients whose error is known. Raises ConfigError if there is none."""
    every = coefficients(scenario)
    known = tuple(one for one in every if one.half_width)
    if not known:
        raise ConfigError(f"{scenario.path}: --calibration-uncertainty: {_why_none(every)}")
    return known


def _why_none(every: Sequence[Coefficient]) -> str:
    if not every:
        return "its costs were not measured, or belong to replicas that differ: use one cost of kind profile"
    return f"profile {every[0].profile} does not tell its error: it has no held-out steps"


def _point(path: Path, overrides: Sequence[str], one: Coefficient, value: float) -> Point:
    set_to = [f"{key}={value!r}" for key in one.keys]
    return Point(load(path, [*overrides, *set_to]), None, set_to[0])


def _moved(low: Outcome, high: Outcome) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Half of the difference between two ends, of every figure, and its standard error from the replications."""
    whole = (np.array(high.values) - np.array(low.values)) / 2
    parts = (np.array(high.parts) - np.array(low.parts)) / 2
    return whole, standard_errors(parts.T)
