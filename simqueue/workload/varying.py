"""Poisson arrivals whose rate follows the clock: a curve through points, or a day's wave."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.checks import is_number, require_positive, require_within
from simqueue.workload.streams import Streams

Array = NDArray[np.float64]
# Halvings of a bracket, until nothing is left of it in doubles.
_HALVINGS = 64


class _Clocked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"):
    """A Poisson process with a rate of its own at every instant: a unit-rate process seen through the inverse of the
    cumulative intensity (Cinlar, Introduction to Stochastic Processes, chapter 4, section 7)."""

    @property
    def mean_rate(self) -> float:
        """Mean requests per second over a period."""
        raise NotImplementedError

    def times(self, requests: int, streams: Streams) -> Array:
        """The first ``requests`` arrival times in seconds."""
        return self._inverse(np.cumsum(streams.gaps.standard_exponential(requests)))

    def rescale(self, arrival_s: Array, factor: float, streams: Streams) -> Array:
        """What ``arrival_s``, drawn from this process, would be with the rate ``factor`` times as high at every
        instant: the clock is not stretched. Any subset of the arrivals can be rescaled."""
        return self._inverse(self._cumulative(arrival_s) / factor)

    def _cumulative(self, at_s: Array) -> Array:
        """Requests expected until each instant."""
        raise NotImplementedError

    def _inverse(self, expected: Array) -> Array:
        """When so many are expected."""
        raise NotImplementedError


class Varying(_Clocked, frozen=True, tag="varying"):
    """Poisson arrivals at a rate that goes straight from point to point, ``[seconds, requests per second]``, and from
    the start again after the last: ramps, spikes, days.

    Two points at one instant are a jump. The first is at 0 s.
    """

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "points", tuple(map(tuple, self.points)))
        _check_points(self.points)

    @property
    def mean_rate(self) -> float:
        """Mean requests per second from the first point to the last."""
        return float(self._mass[-1] / self.points[-1][0])

    def scaled(self, factor: float) -> Self:
        """The same process with every rate ``factor`` times as high, at the same instants."""
        return msgspec.structs.replace(self, points=tuple((at_s, rate * factor) for at_s, rate in self.points))

    @property
    def _knots(self) -> tuple[Array, Array]:
        at_s, rate = np.array(self.points, np.float64).T
        return at_s, rate

    @property
    def _mass(self) -> Array:
        """Requests expected from the first point to each."""
        at_s, rate = self._knots
        return np.concatenate([[0.0], np.cumsum(np.diff(at_s) * (rate[1:] + rate[:-1]) / 2)])

    def _cumulative(self, at_s: Array) -> Array:
        knot_s, rate = self._knots
        turns, within = np.divmod(at_s, knot_s[-1])
        piece = np.clip(np.searchsorted(knot_s, within, "right") - 1, 0, len(knot_s) - 2)
        width, passed = np.diff(knot_s)[piece], within - knot_s[piece]
        rises = np.diff(rate)[piece] / np.where(width > 0, width, 1.0)
        return np.asarray(turns * self._mass[-1] + self._mass[piece] + passed * (rate[piece] + rises * passed / 2))

    def _inverse(self, expected: Array) -> Array:
        (knot_s, rate), mass = self._knots, self._mass
        turns, within = np.divmod(expected, mass[-1])
        piece = np.clip(np.searchsorted(mass, within, "right") - 1, 0, len(knot_s) - 2)
        width, left, begin = np.diff(knot_s)[piece], within - mass[piece], rate[piece]
        slope = np.diff(rate)[piece] / np.where(width > 0, width, 1.0)
        # left = begin x + slope x^2 / 2, by the form that loses no digits (Numerical Recipes, section 5.6).
        root = begin + np.sqrt(np.maximum(0.0, begin**2 + 2 * slope * left))
        passed = np.divide(2 * left, root, out=np.zeros_like(left), where=root > 0)
        return np.maximum.accumulate(turns * knot_s[-1] + knot_s[piece] + np.minimum(passed, width))


class Sinusoidal(_Clocked, frozen=True, tag="sinusoidal"):
    """Poisson arrivals at ``rate (1 + amplitude cos(2 pi (t - peak_s) / period_s))``: a day's wave, highest at
    ``peak_s``."""

    rate: float
    amplitude: float
    period_s: float
    peak_s: float = 0.0

    def __post_init__(self) -> None:
        what = "sinusoidal arrivals"
        require_positive(what, "rate", self.rate, "give the mean requests per second")
        require_within(what, "amplitude", self.amplitude, 0, 1, "give the share by which the rate rises and falls")
        require_positive(what, "period_s", self.period_s, "give the seconds from one peak to the next")
        if not (is_number(self.peak_s) and math.isfinite(self.peak_s)):
            raise WorkloadError(f"{what}: peak_s = {self.peak_s!r} is no finite number; give the seconds to a peak")

    @property
    def mean_rate(self) -> float:
        """Mean requests per second over a period."""
        return self.rate

    def scaled(self, factor: float) -> Self:
        """The same wave around ``factor`` times the rate."""
        return msgspec.structs.replace(self, rate=self.rate * factor)

    @property
    def _swing(self) -> float:
        """By how many requests the wave leads or lags the mean at most, counted from where it does neither."""
        return self.rate * self.amplitude * self.period_s / (2 * math.pi)

    def _cumulative(self, at_s: Array) -> Array:
        turn = 2 * math.pi / self.period_s
        wave = np.sin(turn * (at_s - self.peak_s)) + math.sin(turn * self.peak_s)
        return np.asarray(self.rate * at_s + self._swing * wave)

    def _inverse(self, expected: Array) -> Array:
        """By halving, for there is no closed form."""
        low = np.maximum(0.0, (expected - 2 * self._swing) / self.rate)
        high = (expected + 2 * self._swing) / self.rate
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            early = self._cumulative(middle) < expected
            low, high = np.where(early, middle, low), np.where(early, high, middle)
        return np.maximum.accumulate(high)


def _check_points(points: tuple[tuple[float, ...], ...]) -> None:
    what = "varying arrivals"
    for index, point in enumerate(points):
        if len(point) != 2 or not all(is_number(value) and 0 <= value <= 1e12 for value in point):
            raise WorkloadError(
                f"{what}: points[{index}] = {list(point)} is no pair of numbers from 0 to 1e12; "
                "give [seconds, requests per second]"
            )
    if len(points) < 2 or points[0][0] != 0 or points[-1][0] == 0:
        raise WorkloadError(f"{what}: points = {[list(p) for p in points]} must begin at 0 s and end later")
    for index, (before, after) in enumerate(pairwise(points)):
        if after[0] < before[0]:
            raise WorkloadError(
                f"{what}: points[{index + 1}] = {list(after)} comes before points[{index}] = {list(before)}; "
                "give them in order of time"
            )
    if not any(rate for _, rate in points):
        raise WorkloadError(f"{what}: every rate is 0, which never sends a request; give one above 0")
