"""What trials at several rates have shown: on which side of the answer each lies, and how steep figures are there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Effort, Trial

_SPAN, _OF_PLACE = 0.1, 0.25


def span(place: float) -> float:
    """So far is near by: less where rates are low, since places are about their loads there. Trials that are half as
    far apart tell a slope."""
    return min(_SPAN, max(0.0, _OF_PLACE * place))


class Axis(NamedTuple):
    """Places are ``-log(1 - load)``: times grow like 1 / (1 - load), so that their logarithm is nearly straight."""

    saturation_rps: float

    def place(self, rate: float) -> float:
        """Of a rate below saturation."""
        return -math.log1p(-rate / self.saturation_rps)

    def rate(self, place: float) -> float:
        """The other way."""
        return -self.saturation_rps * math.expm1(-place)

    def share(self, place: float, other: float) -> float:
        """How far two places are apart, as a share of the rate at the other."""
        return abs(self.rate(place) / self.rate(other) - 1)


class Seen(NamedTuple):
    """A trial at a place, with the margins of its figures as they are and at the farther ends of their intervals."""

    place: float
    effort: Effort
    trial: Trial
    margins: list[float]
    worst: list[float]

    @classmethod
    def of(cls, place: float, effort: Effort, trial: Trial, limits: Sequence[Limit]) -> Seen:
        """The trial, looked at by these limits."""
        margins = [limit.margin(trial.told[limit].of.value) for limit in limits]
        return cls(place, effort, trial, margins, [limit.worst(trial.told[limit].of) for limit in limits])

    @property
    def holds(self) -> bool:
        """By the figures as they are."""
        return not self.trial.unstable and min(self.margins) >= 0


class Path:
    """All that was seen, and the slopes of margins where the answer is: of each limit, by place.

    Args:
        limits: that all shall hold.
        top: the last place.

    Attributes:
        seen: every trial, in order; those from number ``looked`` on are near the answer.
        slopes: see `learn`; ``sound``: whether they may be believed.
    """

    def __init__(self, limits: Sequence[Limit], top: float) -> None:
        self.limits, self.top = limits, top
        self.seen: list[Seen] = []
        self.looked = 0
        self.slopes: list[float] = []
        self.sound = False

    def learn(self, last: Seen) -> None:
        """Slopes between two trials with the same draws: of the longest runs that have a pair near the root, as it is
        known by now, the nearest pair; if there is none, of the longest that have a pair. They are sound if that is
        near and as long as the last trial, or long enough anyway: those of short runs may be off by a half."""
        root = self.between(last.effort, self.root(last)[0])
        closer = [one for one in self.seen[self.looked :] if not one.trial.unstable]
        efforts = dict.fromkeys(seen.effort for seen in reversed(closer))
        found = [pair for effort in efforts if (pair := _nearest_pair(root, closer, effort))]
        near = next((pair for pair in found if pair.near), None)
        if pair := near or (found[0] if found else None):
            self.slopes = slopes_of(pair.low, pair.high)
        self.sound = near is not None and (
            near.low.effort == last.effort or not (self.few(near.low) or self.few(near.high))
        )

    def root(self, seen: Seen) -> tuple[float, Limit | None]:
        """Where, by the slopes, the first figure is at its limit, and whose it is; else the top."""
        return self._reached(seen.place, seen.margins, self.slopes)

    def safe(self, seen: Seen) -> tuple[float, Limit | None]:
        """The same of the farther ends of intervals."""
        return self._reached(seen.place, seen.worst, self.slopes)

    def few(self, seen: Seen) -> bool:
        """Whether the runs are too short to say how much what tells the limit that binds varies."""
        _, binds = self.safe(seen)
        return binds is not None and seen.trial.told[binds].few

    def _reached(self, place: float, margins: Sequence[float], slopes: Sequence[float]) -> tuple[float, Limit | None]:
        triples = zip(margins, slopes, self.limits, strict=True)
        roots = [(place - margin / slope, limit) for margin, slope, limit in triples if slope < 0]
        return min([*roots, (self.top, None)], key=lambda root: root[0])

    def between(self, effort: Effort, root: float) -> float:
        """The root, if it is between the nearest trials on either side; otherwise where a line between these crosses.
        With this effort, or another where there is none on that side."""
        low, high = self._nearest(effort)
        if low is None or high is None or low.place < root < high.place:
            return root
        if high.trial.unstable or not min(high.margins) < 0:
            return (low.place + high.place) / 2
        share = min(low.margins) / (min(low.margins) - min(high.margins))
        return low.place + share * (high.place - low.place)

    def _nearest(self, effort: Effort) -> tuple[Seen | None, Seen | None]:
        mine = [seen for seen in self.seen if seen.effort == effort]
        low = max((seen for seen in mine if seen.holds), key=_place, default=None)
        high = min((seen for seen in mine if not seen.holds), key=_place, default=None)
        # What shorter runs say of nearly the same place is overruled.
        if low is None and high is not None:
            below = (seen for seen in self.seen if seen.holds and seen.place < high.place - span(high.place))
            low = max(below, key=_place, default=None)
        elif high is None and low is not None:
            above = (seen for seen in self.seen if not seen.holds and seen.place > low.place + span(low.place))
            high = min(above, key=_place, default=None)
        return low, high

    def last_met(self, place: float) -> float:
        """The highest place below this one where limits hold, as figures are."""
        return max((seen.place for seen in self.seen if seen.holds and seen.place < place), default=0.0)

    def met(self) -> list[Seen]:
        """Where limits are met with 95 % confidence, and longer runs have not shown otherwise there or near by."""
        return [
            seen
            for seen in self.seen
            if seen.trial.meets(self.limits)
            and not any(
                one.place <= seen.place + span(seen.place) and not one.holds and _longer(one, seen) for one in self.seen
            )
        ]

    def within_what_is_sure(self, place: float) -> float:
        """Not far from where limits are met, or broken, with 95 % confidence: a slope may be wrong."""
        low = max((seen.place for seen in self.met()), default=0.0)
        broken = (
            seen.place
            for seen in self.seen
            if seen.trial.breaks(self.limits)
            and seen.place > low
            and not any(
                one.place >= seen.place - span(seen.place) and one.holds and _longer(one, seen) for one in self.seen
            )
        )
        high = min(broken, default=self.top)
        return place if low - span(low) <= place <= high + span(high) else (low + high) / 2


def slopes_of(before: Seen, after: Seen) -> list[float]:
    """Of each margin, by place."""
    pairs = zip(before.margins, after.margins, strict=True)
    return [(new - old) / (after.place - before.place) for old, new in pairs]


def _place(seen: Seen) -> float:
    return seen.place


def _longer(one: Seen, other: Seen) -> bool:
    return one.trial.requests > other.trial.requests


class _Pair(NamedTuple):
    """Two trials of one effort, and how far the root is from what lies between them."""

    away: float
    width: float
    low: Seen
    high: Seen

    @property
    def near(self) -> bool:
        return self.away <= max(self.width, span(self.high.place))


def _nearest_pair(root: float, seen: Sequence[Seen], effort: Effort) -> _Pair | None:
    known = sorted((one for one in seen if one.effort == effort), key=_place)
    pairs = [
        _Pair(max(low.place - root, root - high.place, 0.0), high.place - low.place, low, high)
        for low, high in combinations(known, 2)
        if high.place - low.place >= span(high.place) / 2
    ]
    return min(pairs, default=None, key=lambda pair: (pair.away, pair.width))
