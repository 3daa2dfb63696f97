"""The highest arrival rate at which limits hold: stochastic root finding that spends its effort near the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simqueue.capacity.seen import Axis, Path, Seen, slopes_of, span
from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Case, Effort, Trial
from simqueue.capacity.trials import Trials

# The first look, over all loads, with so many replications; the precision says which is the last.
_LOADS = (0.01, 0.3, 0.6, 0.8, 0.92)
_SCANNED = 4
_CLOSER = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
# How much more a stage may have than the one before, and at which part of the precision it aims.
_LEAST_GROWTH, _MOST_GROWTH, _AIM = 2.0, 8.0, 0.85
# Intervals get narrower faster than by the root of the length: short runs have theirs widened. Found by trying.
_SHRINKING = 1.7
# A root is at most so many half-widths of its interval away from the trial that tells it; one narrower than a tenth of
# the precision counts as that: over longer ways figures are not straight.
_REACH, _NARROW = 2.0, 0.1
# Places nearer than this are the same.
_SAME = 1e-4
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
    where queues are long, since it grows like ``1 / (1 - load)``; so are the log odds of a time being above a bound,
    by which percentiles are told (`Limit.told_by`), also where the percentile itself has a knee. The answer is where
    the farther end of the interval meets the limit: there the limit holds with 95 % confidence. It is found from a
    trial near by, by the slope. Loads above ``1 - precision`` are not tried.

    Args:
        case: what is asked about; it must have a rate.
        limits: of figures that it has.
        trials: where they are made.
        precision: how far below the root the answer may be, as a share of it.

    Raises:
        SimqueueError: a trial cannot be run.
    """
    return _Search(case, limits, trials, precision).found()


class _Search:
    """One question, on the `Axis`."""

    def __init__(self, case: Case, limits: Sequence[Limit], trials: Trials, precision: float) -> None:
        self._case, self._limits, self._trials, self._precision = case, limits, trials, precision
        self._axis = Axis(case.saturation_rps())
        self._path = Path(limits, self._axis.place((1 - precision) * self._axis.saturation_rps))

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

    def _scanned(self, loads: Sequence[float], effort: Effort) -> list[Seen]:
        kept = [*(load for load in loads if load < 1 - self._precision), 1 - self._precision]
        return [self._try(self._axis.place(load * self._axis.saturation_rps), effort) for load in kept]

    def _try(self, place: float, effort: Effort) -> Seen:
        trial = self._trials.run(self._case, effort, self._axis.rate(place))
        self._path.seen.append(Seen.of(place, effort, trial, self._limits))
        return self._path.seen[-1]

    def _begin(self, scanned: Sequence[Seen]) -> float | None:
        """About where the highest place is; None if limits hold at none. Straight lines between what was scanned."""
        places = [seen.place for seen in scanned]
        margins = np.array([self._margins(seen.trial) for seen in scanned])
        grid = np.linspace(places[0], places[-1], _GRID)
        with np.errstate(invalid="ignore"):
            least = np.min([np.interp(grid, places, column) for column in margins.T], axis=0)
        kept = np.flatnonzero(least >= 0)
        if not len(kept):
            return None
        place = float(grid[kept[-1]])
        right = min(int(np.searchsorted(places, place, "right")), len(places) - 1)
        self._path.slopes = slopes_of(scanned[right - 1], scanned[right])
        return place

    def _margins(self, trial: Trial) -> list[float]:
        """Of figures, since where runs are short none of their times may be above the bound."""
        if trial.unstable:
            return [-math.inf] * len(self._limits)
        return [limit.margin_of_figure(trial.figures[limit.figure].value) for limit in self._limits]

    def _nowhere(self, scanned: Sequence[Seen]) -> Highest:
        """As the scan has it; made sure of where limits are nearest."""
        nearest = max(scanned, key=lambda seen: (not seen.trial.unstable, min(seen.margins)))
        trial = self._trials.decided(self._case, self._precision, nearest.trial.rate)
        rate = trial.rate if trial.meets(self._limits) else None
        why = (
            None
            if rate is None
            else "limits hold hardly anywhere, and between here and the next rate nothing was tried"
        )
        return Highest(rate, trial.binding(self._limits), None, None, trial, self._axis.saturation_rps, why)

    # Near the answer.

    def _narrowed(self, place: float, effort: Effort) -> Highest:
        self._path.looked = len(self._path.seen)
        self._try(place - span(place), effort)
        place = min(place + span(place), self._path.top)
        while True:
            seen = self._try(place, effort)
            self._path.learn(seen)
            why = self._why_not(seen)
            if why is None:
                return self._answer(seen, None)
            there, more = self._next(seen)
            there = self._path.within_what_is_sure(there)
            if not self._trials.affords(self._case, more, self._axis.rate(there)):
                return self._answer(seen, f"{why}, and more requests than --max-requests would be needed")
            # More replications do not mend that each is too short.
            stuck = (more == effort and abs(there - place) < _SAME) or (
                why == self._doubt(seen) and not self._case.any_length
            )
            if stuck or self._hopeless(seen) or len(self._path.seen) >= _MOST_TRIALS:
                return self._answer(seen, why)
            place, effort = there, more

    def _why_not(self, seen: Seen) -> str | None:
        """Why this trial does not answer the question."""
        (root, _), (safe, _), trial = self._path.root(seen), self._path.safe(seen), seen.trial
        if trial.unstable:
            return f"the system is not stable at {trial.rate:.4g} requests/s"
        if (known := self._axis.share(safe, root)) > self._precision:
            return f"the rate is known to {100 * known:.2g} %" if known < 1 else "the rate is hardly known at all"
        if not self._near(seen) or not self._path.sound:
            return "no trial is near"
        for limit, slope, worst in zip(self._limits, self._path.slopes, seen.worst, strict=True):
            if worst < 0 and not slope < 0:
                return f"{limit} is not met with 95 % confidence there"
        return self._doubt(seen) or self._few(seen)

    def _near(self, seen: Seen) -> bool:
        """Whether the root is near enough to this trial to be told from it."""
        (root, _), (safe, _) = self._path.root(seen), self._path.safe(seen)
        reach = _REACH * max(self._axis.share(safe, root), _NARROW * self._precision)
        return self._axis.share(seen.place, root) <= reach

    def _doubt(self, seen: Seen) -> str | None:
        """Why the interval that matters is not to be believed, however many runs there are."""
        _, binds = self._path.safe(seen)
        return seen.trial.doubts.get(binds.figure) if binds else None

    def _few(self, seen: Seen) -> str | None:
        """Why it takes more runs, or longer ones, to know how wide it is."""
        _, binds = self._path.safe(seen)
        return f"{binds} was broken too seldom to say how often" if binds and seen.trial.told[binds].few else None

    def _hopeless(self, seen: Seen) -> bool:
        """Whether a figure that rises with the rate is beyond doubt too low where others forbid more."""
        pairs = zip(self._limits, self._path.slopes, strict=True)
        rising = [limit for limit, slope in pairs if not slope < 0]
        return any(limit.best(seen.trial.told[limit].of) < 0 for limit in rising)

    def _next(self, seen: Seen) -> tuple[float, Effort]:
        """Where to go, and with which effort: nearer to the root first, then to longer runs."""
        if seen.trial.unstable:
            return (self._path.last_met(seen.place) + seen.place) / 2, seen.effort
        (root, _), (safe, _) = self._path.root(seen), self._path.safe(seen)
        nearer = self._path.between(seen.effort, root)
        # Farther away it is gone to before runs get longer.
        if abs(nearer - seen.place) > span(seen.place) / 2:
            return nearer, seen.effort
        if not self._path.sound and not self._path.few(seen):
            # To the other side of the root: two trials with the same draws tell the slope.
            return min(self._path.top, root + math.copysign(span(root), root - seen.place)), seen.effort
        wanted = self._axis.share(safe, root) / (_AIM * self._precision)
        if wanted <= 1 / _AIM and not self._near(seen):
            return nearer, seen.effort
        growth = max(_LEAST_GROWTH, min(_MOST_GROWTH, wanted**_SHRINKING, self._trials.left / seen.trial.requests))
        # At the root itself: below it, where queues are rare, intervals can be narrower than they are there.
        return nearer, self._case.more(seen.effort, growth)

    def _answer(self, seen: Seen, why: str | None) -> Highest:
        """From the last trial; if that is not near the root, the highest rate that met the limits."""
        (root, _), (safe, binds) = self._path.root(seen), self._path.safe(seen)
        rate: float | None = self._axis.rate(safe)
        told = not seen.trial.unstable and self._near(seen)
        if not told:
            met = [one for one in self._path.met() if one.place <= root or not self._path.sound]
            seen = max(met, key=lambda one: one.place, default=seen)
            rate = seen.trial.rate if met else None
        elif any(worst < 0 and not slope < 0 for worst, slope in zip(seen.worst, self._path.slopes, strict=True)):
            rate = None
        saturation = self._axis.saturation_rps
        if binds is None or not told:
            return Highest(rate, binds, None, None, seen.trial, saturation, why)
        crossing = self._axis.rate(root)
        if safe <= 0:
            return Highest(
                None, binds, None, None, seen.trial, saturation, why or "the interval reaches down to no load"
            )
        return Highest(rate, binds, crossing, crossing - self._axis.rate(safe), seen.trial, saturation, why)
