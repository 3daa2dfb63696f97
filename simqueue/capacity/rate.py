"""The highest arrival rate at which limits hold: stochastic root finding that spends its effort near the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Case, Effort, Trial, Trials

# The first look, over all loads, with so many replications; the precision says which is the last.
_LOADS = (0.01, 0.3, 0.6, 0.8, 0.92)
_SCANNED = 4
_CLOSER = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
# How much more a stage may have than the one before, and at which part of the precision it aims.
_LEAST_GROWTH, _MOST_GROWTH, _AIM = 1.5, 8.0, 0.85
# Intervals get narrower faster than by the root of the length: short runs have theirs widened. Found by trying.
_SHRINKING = 1.7
# Roots farther away than this, in half-widths or on the axis, are gone to before runs get longer.
_FAR, _NEAR = 2.0, 0.05
# Answers are at most so many times the precision away from a trial.
_REACH = 2.0
# Trials at least so far apart on the axis tell a slope; the first two are a span to either side; nearer ones are the
# same.
_APART, _SPAN, _SAME = 0.01, 0.1, 1e-4
_MOST_TRIALS = 40
_GRID = 2000


@dataclass(frozen=True)
class Highest:
    """The answer.

    Attributes:
        rate: the highest at which every limit is met with 95 % confidence, requests per second; None if there is none.
        binds: the limit that forbids more; None where only saturation does.
        root_rps, half_width_rps: where the figure that binds is at its limit, and half of the 95 % interval of that.
        trial: the nearest to the rate or, where there is none, to the limits.
        saturation_rps: the rate from which on nothing is stable.
        why: why the rate is not as near to the root as was asked; None if it is.
    """

    rate: float | None
    binds: Limit | None
    root_rps: float | None
    half_width_rps: float | None
    trial: Trial
    saturation_rps: float
    why: str | None


def highest_rate(case: Case, limits: Sequence[Limit], trials: Trials, precision: float) -> Highest:
    """Retrospective approximation (Chen and Schmeiser, "Stochastic root finding via retrospective approximation", IIE
    Transactions 33, 2001; Pasupathy, "On choosing parameters in retrospective-approximation algorithms for stochastic
    root finding and simulation optimization", Operations Research 58, 2010).

    Trials at all rates have the same seeds: requests are the same, and so are their gaps but for the scale, so that
    figures are smooth functions of the rate. The root of that function is looked for by secant steps, with runs that
    get longer the nearer they are. On the axis ``-log(1 - load)`` the logarithm of a time is nearly a straight line
    where queues are long, since it grows like ``1 / (1 - load)``. The answer is where the farther end of the interval
    meets the limit: there the limit holds with 95 % confidence. It is found from a trial near by, by the slope. Loads
    above ``1 - precision`` are not tried.

    Args:
        case: what is asked about; it must have a rate.
        limits: of figures that it has.
        trials: where they are made.
        precision: how far below the root the answer may be, as a share of it.

    Raises:
        SimqueueError: a trial cannot be run.
    """
    return _Search(case, limits, trials, precision).found()


class _Seen(NamedTuple):
    """A trial at a place, with the margins of its figures as they are and at the farther ends of their intervals."""

    place: float
    effort: Effort
    trial: Trial
    margins: list[float]
    worst: list[float]

    @property
    def holds(self) -> bool:
        """By the figures as they are."""
        return not self.trial.unstable and min(self.margins) >= 0


class _Search:
    """One question. Places are on the axis ``-log(1 - load)``."""

    def __init__(self, case: Case, limits: Sequence[Limit], trials: Trials, precision: float) -> None:
        self._case, self._limits, self._trials, self._precision = case, limits, trials, precision
        self._saturation_rps = case.saturation_rps()
        self._top = self._place((1 - precision) * self._saturation_rps)
        self._seen: list[_Seen] = []
        self._slopes: list[float] = []

    def found(self) -> Highest:
        """The answer."""
        effort = self._case.first_effort
        scanned = self._scanned(_LOADS, effort._replace(replications=min(_SCANNED, effort.replications)))
        begin = self._begin(scanned)
        if begin is None and any(
            max(margins) > margins[0] for margins in zip(*(seen.margins for seen in scanned), strict=True)
        ):
            # They may hold between two rates, one of which is too low.
            scanned = self._scanned(_CLOSER, effort)
            begin = self._begin(scanned)
        return self._nowhere(scanned) if begin is None else self._narrowed(begin, self._case.more(effort, 4))

    def _scanned(self, loads: Sequence[float], effort: Effort) -> list[_Seen]:
        kept = [*(load for load in loads if load < 1 - self._precision), 1 - self._precision]
        return [self._try(self._place(load * self._saturation_rps), effort) for load in kept]

    # The axis, and what is seen on it.

    def _place(self, rate: float) -> float:
        return -math.log1p(-rate / self._saturation_rps)

    def _rate(self, place: float) -> float:
        return -self._saturation_rps * math.expm1(-place)

    def _try(self, place: float, effort: Effort) -> _Seen:
        trial = self._trials.run(self._case, effort, self._rate(place))
        margins = [limit.margin(trial.figures[limit.figure].value) for limit in self._limits]
        worst = [limit.worst(trial.figures[limit.figure]) for limit in self._limits]
        self._seen.append(_Seen(place, effort, trial, margins, worst))
        return self._seen[-1]

    def _begin(self, scanned: Sequence[_Seen]) -> float | None:
        """About where the highest place is; None if limits hold at none. Straight lines between what was scanned."""
        places = [seen.place for seen in scanned]
        margins = np.array(
            [[-math.inf] * len(self._limits) if seen.trial.unstable else seen.margins for seen in scanned]
        )
        grid = np.linspace(places[0], places[-1], _GRID)
        with np.errstate(invalid="ignore"):
            least = np.min([np.interp(grid, places, column) for column in margins.T], axis=0)
        kept = np.flatnonzero(least >= 0)
        if not len(kept):
            return None
        place = float(grid[kept[-1]])
        right = min(int(np.searchsorted(places, place, "right")), len(places) - 1)
        self._slopes = _slopes(scanned[right - 1], scanned[right])
        return place

    def _nowhere(self, scanned: Sequence[_Seen]) -> Highest:
        """As the scan has it; made sure of where limits are nearest."""
        nearest = max(scanned, key=lambda seen: (not seen.trial.unstable, min(seen.margins)))
        trial = self._trials.decided(self._case, self._precision, nearest.trial.rate)
        rate = trial.rate if trial.meets(self._limits) else None
        why = (
            None
            if rate is None
            else "limits hold hardly anywhere, and between here and the next rate nothing was tried"
        )
        return Highest(rate, trial.binding(self._limits), None, None, trial, self._saturation_rps, why)

    # Near the answer.

    def _narrowed(self, place: float, effort: Effort) -> Highest:
        self._try(max(place - _SPAN, 0.5 * place), effort)
        place = min(place + _SPAN, self._top)
        low, high = 0.0, math.inf
        while True:
            seen = self._try(place, effort)
            self._learn()
            low, high = (max(low, place), high) if seen.holds else (low, min(high, place))
            why = self._why_not(seen)
            if why is None:
                return self._answer(seen, None)
            there, more = self._next(seen)
            if more != effort:
                low, high = 0.0, math.inf
            elif not low < there < high:
                there = (max(low, self._last_met(place)) + min(high, self._top)) / 2
            there = self._within_what_is_sure(there)
            if not self._trials.affords(self._case, more, self._rate(there)):
                return self._answer(seen, f"{why}, and more requests than --max-requests would be needed")
            # More replications do not mend that each is too short.
            stuck = (more == effort and abs(there - place) < _SAME) or (
                why == self._doubt(seen) and not self._case.any_length
            )
            if stuck or self._hopeless(seen) or len(self._seen) >= _MOST_TRIALS:
                return self._answer(seen, why)
            place, effort = there, more

    def _learn(self) -> None:
        """Slopes between two trials with the same draws, by the longest runs that have a root between or near them."""
        for effort in dict.fromkeys(seen.effort for seen in reversed(self._seen)):
            known = [seen for seen in self._seen if seen.effort == effort and not seen.trial.unstable]
            for before, after in pairwise(sorted(known, key=lambda seen: seen.place)):
                apart = after.place - before.place
                if apart < _APART:
                    continue
                slopes = _slopes(before, after)
                root, _ = self._reached(after.place, after.margins, slopes)
                if before.place - apart <= root <= after.place + apart and root < self._top:
                    self._slopes = slopes
                    return

    def _reached(
        self, place: float, margins: Sequence[float], slopes: Sequence[float] | None = None
    ) -> tuple[float, Limit | None]:
        """Where the first of falling margins is 0, and whose it is; else the top."""
        triples = zip(margins, slopes or self._slopes, self._limits, strict=True)
        roots = [(place - margin / slope, limit) for margin, slope, limit in triples if slope < 0]
        return min([*roots, (self._top, None)], key=lambda root: root[0])

    def _root(self, seen: _Seen) -> float:
        return self._reached(seen.place, seen.margins)[0]

    def _safe(self, seen: _Seen) -> float:
        return self._reached(seen.place, seen.worst)[0]

    def _share(self, place: float, other: float) -> float:
        """How far two places are apart, as a share of the rate."""
        return abs(self._rate(place) / self._rate(other) - 1)

    def _last_met(self, place: float) -> float:
        return max((seen.place for seen in self._seen if seen.holds and seen.place < place), default=0.0)

    def _within_what_is_sure(self, place: float) -> float:
        """Not far from where limits are met, or broken, with 95 % confidence: a slope may be wrong."""
        low = max((seen.place for seen in self._seen if seen.trial.meets(self._limits)), default=0.0)
        broken = (seen.place for seen in self._seen if seen.trial.breaks(self._limits) and seen.place > low)
        high = min(broken, default=self._top)
        return place if low - _SPAN <= place <= high + _SPAN else (low + high) / 2

    def _why_not(self, seen: _Seen) -> str | None:
        """Why this trial does not answer the question."""
        root, safe, trial = self._root(seen), self._safe(seen), seen.trial
        if trial.unstable:
            return f"the system is not stable at {trial.rate:.4g} requests/s"
        if self._share(safe, root) > self._precision:
            return f"the rate is known to {100 * self._share(safe, root):.2g} %"
        if self._share(seen.place, safe) > _REACH * self._precision:
            return "no trial is near"
        for limit, slope, worst in zip(self._limits, self._slopes, seen.worst, strict=True):
            if worst < 0 and not slope < 0:
                return f"{limit} is not met with 95 % confidence there"
        return self._doubt(seen)

    def _doubt(self, seen: _Seen) -> str | None:
        """Why the interval that matters is not to be believed."""
        _, binds = self._reached(seen.place, seen.worst)
        return seen.trial.doubts.get(binds.figure) if binds else None

    def _hopeless(self, seen: _Seen) -> bool:
        """Whether a figure that rises with the rate is beyond doubt too low where others forbid more."""
        pairs = zip(self._limits, self._slopes, strict=True)
        rising = [limit for limit, slope in pairs if not slope < 0]
        return any(limit.best(seen.trial.figures[limit.figure]) < 0 for limit in rising)

    def _next(self, seen: _Seen) -> tuple[float, Effort]:
        """Where to go, and with which effort: nearer to the root first, then to longer runs."""
        if seen.trial.unstable:
            return (self._last_met(seen.place) + seen.place) / 2, seen.effort
        root, safe = self._root(seen), self._safe(seen)
        wanted = self._share(safe, root) / (_AIM * self._precision)
        far = abs(root - seen.place) > max(_NEAR, _FAR * (root - safe))
        near = self._share(seen.place, safe) <= _REACH * self._precision
        if far or (wanted <= 1 / _AIM and not near):
            return safe, seen.effort
        growth = max(_LEAST_GROWTH, min(_MOST_GROWTH, wanted**_SHRINKING, self._trials.left / seen.trial.requests))
        more = self._case.more(seen.effort, growth)
        # Longer runs will show an answer nearer to the root.
        below = self._place((1 - self._precision) * self._rate(root))
        return (safe, more) if more == seen.effort else (max(safe, below), more)

    def _answer(self, seen: _Seen, why: str | None) -> Highest:
        """From the last trial; if that is not near the limit, the highest rate that met it."""
        (root, _), (safe, binds) = self._reached(seen.place, seen.margins), self._reached(seen.place, seen.worst)
        rate: float | None = self._rate(safe)
        reach = max(_REACH * self._precision, self._share(safe, root))
        if seen.trial.unstable or self._share(seen.place, safe) > reach:
            met = [one for one in self._seen if one.trial.meets(self._limits) and one.place <= root]
            seen = max(met, key=lambda one: one.place, default=seen)
            rate = seen.trial.rate if met else None
        elif any(worst < 0 and not slope < 0 for worst, slope in zip(seen.worst, self._slopes, strict=True)):
            rate = None
        if binds is None:
            return Highest(rate, None, None, None, seen.trial, self._saturation_rps, why)
        crossing = self._rate(root)
        return Highest(rate, binds, crossing, crossing - self._rate(safe), seen.trial, self._saturation_rps, why)


def _slopes(before: _Seen, after: _Seen) -> list[float]:
    pairs = zip(before.margins, after.margins, strict=True)
    return [(new - old) / (after.place - before.place) for old, new in pairs]
