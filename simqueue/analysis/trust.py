"""How far to trust the figures of runs: their intervals, and for which of them the runs are too short."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.figures import Path, Summary, at, estimates, interval_of
from simqueue.analysis.interval import Interval
from simqueue.metrics import quantiles

_BULK, _TAIL, _LAST = 0.75, 0.95, 0.99
_LEVELS = (0.5, _BULK, 0.9, _TAIL, _LAST)
# By the level above which excursions are counted. Found by trying: docs/intervals.md.
_WIDENING = {_BULK: 80.0, _TAIL: 50.0}
# Levels farther out have fewer excursions: up to so many times fewer in queues whose times have exponential tails.
_FEWER = 8
# Further replications narrow an interval, but not the bias that each has from being short.
_UNBIASED = 10
# Values beyond a percentile, which a part needs to have that percentile at all.
_BEYOND = 10


@dataclass(frozen=True)
class Excursions:
    """How often times rose above a level, and came back to their median before they rose again.

    Neighbours in a queue are much alike, so that many values tell little; excursions are as good as independent. (In
    the statistics of extremes such clusters are counted in place of values: Leadbetter, Lindgren and Rootzen, "Extremes
    and Related Properties of Random Sequences and Processes", 1983, section 3.7.)

    Attributes:
        parts: how many replications or sections there are.
        above: by level (the share of values below it), the count in all parts.
        varied: whether any value is above the median.
    """

    parts: int
    above: Mapping[float, int]
    varied: bool = True

    @classmethod
    def of(cls, runs: Sequence[NDArray[Any]], parts: int) -> Excursions:
        """Count them. ``runs``: times of each run in order of arrival; ``parts``: how many parts these are."""
        ordered = np.sort(np.concatenate(runs))
        levels = quantiles(ordered, np.array(_LEVELS))
        count = [sum(_count(run, level, levels[0]) for run in runs) for level in levels]
        return cls(parts, dict(zip(_LEVELS, count, strict=True)), bool(ordered[-1] > levels[0]))

    def widening(self, percentile: float | None) -> float:
        """By how much to widen the interval of this percentile (a share) or, with None, of a mean: for the few
        excursions that it rests on ``1 + c / excursions``. They are counted above a level nearer to the median, where
        they are more, unless those at the percentile itself are far fewer still."""
        if not self.varied:
            return 1.0
        near, far = self._levels(percentile)
        count = min(self.above[near], _FEWER * self.above[far])
        return 1 + _WIDENING[near] / count if count else math.inf

    def too_few(self, percentile: float | None) -> str | None:
        """Why parts are too short for as many as there are; None if they are not."""
        each = self.above[self._levels(percentile)[0]] / self.parts
        if self.parts <= _UNBIASED or each >= self.parts or not self.varied:
            return None
        return f"{each:.3g} separate busy spells in a part, of {self.parts} that so many parts take"

    @staticmethod
    def _levels(percentile: float | None) -> tuple[float, float]:
        if percentile is None:
            return _BULK, _TAIL
        return (_TAIL, percentile) if percentile > _TAIL else (_BULK, percentile)


def _count(run: NDArray[Any], level: float, base: float) -> int:
    where = np.where(run <= base, -1, np.where(run >= level, 1, 0))
    sides = where[where != 0]
    return int((sides[:1] > 0).sum() + ((sides[1:] > 0) & (sides[:-1] < 0)).sum())


class Trust:
    """What several parts say of the figures of the whole.

    Args:
        whole: the figures.
        parts: the same of each replication or section.
        excursions: of the times that requests have, by their place in the summary.
        warmup_found: whether the runs were long enough to tell their warm-up.
    """

    def __init__(
        self, whole: Summary, parts: Sequence[Summary], excursions: Mapping[str, Excursions], *, warmup_found: bool
    ) -> None:
        self._whole, self._parts, self._excursions, self._warmup_found = whole, parts, excursions, warmup_found

    def intervals(self) -> dict[Path, Interval]:
        """Of every figure that is an estimate."""
        return {path: self.interval(path, value) for path, value in estimates(self._whole)}

    def interval(self, path: Path, value: float) -> Interval:
        """Of one figure, wider where the parts are short (`Excursions.widening`)."""
        found = interval_of(path, value, self._parts)
        if not found.half_width:
            return found
        return found._replace(half_width=found.half_width * self._series(path).widening(_percentile(path)))

    def too_short(self, intervals: Mapping[Path, Interval]) -> list[dict[str, str]]:
        """``figure`` and ``reason`` of every figure whose interval is not to be believed, or tells nothing."""
        reasons = {path: self._reason(path, found) for path, found in intervals.items()}
        return [{"figure": ".".join(path), "reason": reason} for path, reason in reasons.items() if reason]

    def _reason(self, path: Path, found: Interval) -> str | None:
        # Where all parts agree to the last digit there is nothing to doubt.
        if not found.half_width:
            return None
        if not self._warmup_found:
            return "no end of the warm-up was found"
        if math.isnan(found.half_width):
            return "some part has no such figure, or there is one part only"
        percentile, series = _percentile(path), self._series(path)
        requests = at(self._whole, (*path[:2], "completed") if path[0] == "by_client" else ("requests",))
        beyond = requests * (1 - (percentile or 0)) / series.parts
        if beyond < _BEYOND:
            return f"{beyond:.3g} requests of a part are beyond it, of {_BEYOND} that it takes"
        if found.relative >= 1:
            return "the interval is as wide as the figure"
        return series.too_few(percentile)

    def _series(self, path: Path) -> Excursions:
        """Those of the figure's own times; of all else those of response times."""
        known = self._excursions
        return known.get(".".join(path[:-1])) or known["queueing_s" if path[0] == "waiting" else "response_s"]


def _percentile(path: Path) -> float | None:
    name = path[-1]
    return int(name[1:]) / 100 if name[1:].isdigit() else None
