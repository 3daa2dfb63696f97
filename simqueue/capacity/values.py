"""For which values of a setting do limits hold? And the fewest replicas that keep them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Case, Trial
from simqueue.capacity.trials import Trials
from simqueue.cluster.cluster import MOST_REPLICAS
from simqueue.workload import Users

Value = int | float
_SCANNED = 9
# A range that spans more than this is looked through in ratios.
WIDE = 10.0


@dataclass(frozen=True)
class Holding:
    """The answer.

    Attributes:
        ranges: from which value to which the limits hold with 95 % confidence; between them they do not, as far as was
            looked.
        monotone: whether they hold up to some value or from it on, as far as was looked.
        best: the trial with the widest margin, or that is the least over a limit.
        trials: those that decided, by value.
    """

    ranges: tuple[tuple[Value, Value], ...]
    monotone: bool
    best: Trial
    trials: tuple[Trial, ...]


class _Found:
    """Trials by value, each made once."""

    def __init__(
        self, case: Callable[[Value], Case], limits: Sequence[Limit], trials: Trials, precision: float
    ) -> None:
        self._case, self._limits, self._trials, self._precision = case, limits, trials, precision
        self.made: dict[Value, Trial] = {}

    def holds(self, value: Value) -> bool:
        """Whether the limits do, with 95 % confidence."""
        if value not in self.made:
            self.made[value] = self._trials.decided(self._case(value), self._precision, value=value)
        return self.made[value].meets(self._limits)

    def boundary(self, a: Value, b: Value) -> tuple[Value, Value]:
        """Two neighbours between two values of which one holds and one does not."""
        first = self.holds(a)
        while (middle := _between(a, b, self._precision)) is not None:
            a, b = (middle, b) if self.holds(middle) == first else (a, middle)
        return a, b


def values_that_hold(
    case: Callable[[Value], Case], limits: Sequence[Limit], trials: Trials, low: Value, high: Value, precision: float
) -> Holding:
    """A coarse look through the range, which finds out whether limits hold up to a value or from one on; then, between
    neighbours that differ, bisection: to ``precision`` of the value, or to the next whole number. What holds
    between two values of the coarse look that both do not is not found.

    Args:
        case: what is asked about, by value.
        limits: of figures that it has.
        trials: where they are made.
        low, high: the range, both included; whole numbers if both are.
        precision: see above; also how near to its limit a figure need not be told from it.
    """
    found = _Found(case, limits, trials, precision)
    for value in _spread(low, high):
        found.holds(value)
    for a, b in pairwise(sorted(found.made)):
        if found.holds(a) != found.holds(b):
            found.boundary(a, b)
    values = sorted(found.made)
    kept = [found.holds(value) for value in values]
    made = tuple(found.made[value] for value in values)
    changes = sum(a != b for a, b in pairwise(kept))
    return Holding(_ranges(values, kept), changes <= 1, max(made, key=lambda one: _comfort(one, limits)), made)


def fewest_replicas(
    case: Callable[[Value], Case], limits: Sequence[Limit], trials: Trials, precision: float
) -> Holding:
    """From as many replicas as are stable at all, on in steps that double until limits hold; then back by bisection.
    More replicas are taken to be no worse.

    Args: see `values_that_hold`.
    """
    found = _Found(case, limits, trials, precision)
    least, step = _fewest_stable(case(1)), 1
    last, at = least, least
    while not found.holds(at) and at < MOST_REPLICAS and trials.left > 0:
        last, at, step = at, min(at + step, MOST_REPLICAS), 2 * step
    if at > least and found.holds(at):
        found.boundary(last, at)
    values = sorted(found.made)
    kept = [value for value in values if found.holds(value)]
    made = tuple(found.made[value] for value in values)
    best = found.made[kept[0]] if kept else max(made, key=lambda one: _comfort(one, limits))
    return Holding(((kept[0], MOST_REPLICAS),) if kept else (), True, best, made)


def _fewest_stable(one: Case) -> int:
    """By the saturation throughput of one replica; 1 where users wait for their answers."""
    if isinstance(one.spec.arrivals, Users):
        return 1
    load = one.workload(one.seed).rate / one.saturation_rps()
    return min(MOST_REPLICAS, max(1, math.floor(load) + 1))


def _comfort(trial: Trial, limits: Sequence[Limit]) -> tuple[bool, float]:
    return not trial.unstable, trial.margin(limits)


def _spread(low: Value, high: Value) -> list[Value]:
    """Some values of the range, its ends among them."""
    steps = _SCANNED - 1
    ratios = low > 0 and high > WIDE * low
    places = [low * (high / low) ** (i / steps) if ratios else low + (high - low) * i / steps for i in range(steps + 1)]
    places[0], places[-1] = low, high
    whole = isinstance(low, int) and isinstance(high, int)
    return sorted({round(place) if whole else place for place in places})


def _between(a: Value, b: Value, precision: float) -> Value | None:
    """The middle; None if the two are neighbours, or as near as was asked."""
    if abs(a - b) <= precision * max(abs(a), abs(b)):
        return None
    if isinstance(a, int) and isinstance(b, int):
        return (a + b) // 2 if abs(a - b) > 1 else None
    return (a + b) / 2


def _ranges(values: Sequence[Value], kept: Sequence[bool]) -> tuple[tuple[Value, Value], ...]:
    """Stretches of values that are kept."""
    ranges: list[tuple[Value, Value]] = []
    for value, keeps, before in zip(values, kept, [False, *kept], strict=False):
        if keeps:
            ranges.append((ranges.pop()[0], value) if before else (value, value))
    return tuple(ranges)
