"""Does the number of requests in a system go on growing? A test on one run, from arrivals and departures alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.student import student

Column = NDArray[np.int64]

_BATCHES = 20
# Student's t beyond which one in 200 is on either side.
_CRITICAL = student(_BATCHES - 1, 0.99)
# One in 1,000: what is steady is rarely to be called uneven.
_EXTREME = student(_BATCHES - 1, 0.998)
# So many arrivals are needed to tell anything.
_LEAST = 200
# Numbers of arrivals in a batch that vary more than this, relative to their mean, are too uneven for the run's length.
_UNEVEN = 0.25


@dataclass(frozen=True)
class Drift:
    """How fast the number in the system grew while requests came. Requests per second.

    The increments of the number in the system over 20 equal parts of the time are taken as independent, which they are
    where a queue never empties: ``growth_rps`` is their mean and ``standard_error_rps`` its standard error. Where a
    queue is stable the increments take each other back, and the mean is much nearer to 0 than the standard error says.
    Between the two, at load 1, the number in the system behaves as a Brownian motion reflected at 0 (Whitt,
    Stochastic-Process Limits, 2002, chapter 9), whose growth is distributed as the absolute value of a normal variable.
    So `grows` errs in one of 100 runs at load 1, and more rarely below; docs/design.md has a table of how rarely. That
    arrivals and departures are all that is looked at is as in Wieland, Pasupathy and Schmeiser, "Queueing-network
    stability: simulation-based checking" (Winter Simulation Conference 2003).

    Attributes:
        growth_rps: by how much the number in the system grew in a second.
        standard_error_rps: of that.
        steady: whether the arrivals themselves were steady, so that the growth says something of the system: their
            numbers in the parts vary by a quarter of their mean at most, with no trend, and around the nominal rate.
    """

    growth_rps: float
    standard_error_rps: float
    steady: bool

    @property
    def grows(self) -> bool:
        """Whether growth is beyond doubt."""
        return self.steady and self.growth_rps > _CRITICAL * self.standard_error_rps

    def rules_out(self, growth_rps: float) -> bool:
        """Whether it is beyond doubt that the number in the system grew by less than half of that."""
        return self.steady and self.growth_rps + _CRITICAL * self.standard_error_rps < growth_rps / 2


def drift(arrival: Column, left: Column, ticks_per_s: int, rate: float | None = None) -> Drift | None:
    """The growth between the filling of the system and the last arrival.

    The first 20th of the time is left out, and at least twice as long as the first 20th of the requests stayed (their
    median): until then a system fills, stable or not.

    Args:
        arrival: int64 ``(requests,)``, ticks, in order.
        left: int64 ``(requests,)``, ticks: when each was gone, answered or not.
        ticks_per_s: of the grid.
        rate: what should come in a second, if anybody knows.

    Returns:
        None where the run is too short to tell: fewer than 200 arrivals are left, or less than half of the time.
    """
    instants = _instants(arrival, left)
    if instants is None:
        return None
    came = np.searchsorted(arrival, instants, "right")
    gone = np.cumsum(np.bincount(np.searchsorted(instants, left), minlength=_BATCHES + 1)[: _BATCHES + 1])
    part_s = float(instants[-1] - instants[0]) / _BATCHES / ticks_per_s
    expected = None if rate is None else rate * part_s
    growth, error = _mean(np.diff(came - gone))
    return Drift(growth / part_s, error / part_s, steady=_steady(np.diff(came), expected))


def _instants(arrival: Column, left: Column) -> NDArray[np.int64] | None:
    """The bounds of the parts, in ticks."""
    first, last = int(arrival[0]), int(arrival[-1])
    early = slice(max(1, len(arrival) // _BATCHES))
    filled = max((last - first) / _BATCHES, 2 * float(np.median(left[early] - arrival[early])))
    begin = first + int(filled)
    if 2 * filled > last - first or len(arrival) - np.searchsorted(arrival, begin) < _LEAST:
        return None
    return np.asarray(begin + np.linspace(0, last - begin, _BATCHES + 1).astype(np.int64))


def _mean(values: NDArray[np.int64]) -> tuple[float, float]:
    """With its standard error."""
    return float(values.mean()), float(values.std(ddof=1)) / _BATCHES**0.5


def _steady(came: NDArray[np.int64], expected: float | None) -> bool:
    """By numbers of arrivals: see `Drift`. One request more or less is nothing."""
    mean, error = _mean(came)
    if error * _BATCHES**0.5 > _UNEVEN * mean:
        return False
    if expected is not None and abs(mean - expected) > _EXTREME * error + 1:
        return False
    age = np.arange(_BATCHES) - (_BATCHES - 1) / 2
    trend = age @ came / (age @ age)
    rest = came - mean - trend * age
    doubt = (rest @ rest / (_BATCHES - 2) / (age @ age)) ** 0.5
    return bool(abs(trend) * _BATCHES <= _EXTREME * doubt * _BATCHES + 1)
