"""How far to trust the figures of runs: their intervals, and for which of them the runs are too short."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.figures import LEVELS, Path, Summary, at, estimates, interval_of
from simqueue.analysis.interval import Interval
from simqueue.analysis.warmup import Warmup

# Excursions are counted at percentiles from the first to the second; a mean depends on the tail as the third does.
_BULK, _HIGH, _TAIL = 0.75, 0.9, 0.95
# Both found by trying: docs/intervals.md.
_WIDENING, _FEWER = 9.0, 3
_WITH_WAITS = (("response_s",), ("ttft_s",))
# For every so many parts each has to last a relaxation time.
_PARTS_PER_RELAXATION = 10
# Values beyond a percentile, which a part needs to have that percentile at all.
_BEYOND = 10


@dataclass(frozen=True)
class Excursions:
    """How often times rose to a level, and came back to their median before they rose again.

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
    def of(cls, runs: Sequence[NDArray[Any]], levels: Sequence[float], parts: int) -> Excursions:
        """Count them. ``runs``: times of each run in order of arrival; ``levels``: the values at `LEVELS` of them all;
        ``parts``: how many parts these are."""
        tops = np.concatenate([_tops(run, levels[0]) for run in runs])
        above = {share: int(np.count_nonzero(tops >= level)) for share, level in zip(LEVELS, levels, strict=True)}
        return cls(parts, above, varied=len(tops) > 0)

    def widening(self, percentile: float | None) -> float:
        """By how much to widen the interval of this percentile (a share) or, with None, of a mean: for the few
        excursions that it rests on ``1 + c sqrt(parts) / excursions``.

        They are counted at the percentile itself, but at the 75th at least and the 90th at most: farther out they get
        too few to be a measure. Where less than a third of them reach the percentile, three times those that do are
        taken; a mean depends on the tail as the 95th does."""
        if not self.varied:
            return 1.0
        share = _TAIL if percentile is None else percentile
        count = self.above[min(max(share, _BULK), _HIGH)]
        if share > _HIGH:
            count = min(count, _FEWER * self.above[share])
        return 1 + _WIDENING * math.sqrt(self.parts) / count if count else math.inf


def _tops(run: NDArray[Any], base: float) -> NDArray[Any]:
    """The largest value of every stretch above ``base``."""
    if not len(run):
        return run
    above = run > base
    turns = np.flatnonzero(above[1:] != above[:-1]) + 1
    tops = np.maximum.reduceat(run, np.concatenate(([0], turns)))
    return np.asarray(tops[tops > base])


class Trust:
    """What several parts say of the figures of the whole.

    Args:
        whole: the figures.
        parts: the same of each replication or section.
        excursions: those of the times that requests have, by their place in the summary; None where there are none.
        warmup: what was left out at the beginning of each run, and whether that was found to be enough.
    """

    def __init__(
        self,
        whole: Summary,
        parts: Sequence[Summary],
        excursions: Callable[[str], Excursions | None],
        warmup: Warmup,
    ) -> None:
        self._whole, self._parts, self._excursions, self._warmup = whole, parts, excursions, warmup

    def intervals(self) -> dict[Path, Interval]:
        """Of every figure that is an estimate."""
        return {path: self.interval(path, value) for path, value in estimates(self._whole)}

    def interval(self, path: Path, value: float) -> Interval:
        """Of one figure, wider where the parts are short (`Excursions.widening`)."""
        found = interval_of(path, value, self._parts)
        if not found.half_width:
            return found
        return found._replace(half_width=found.half_width * self.widening(path))

    def widening(self, path: Path) -> float:
        """By how much to widen the interval of this figure, where the parts are short.

        Response times and TTFT are waits and more. Where requests are served side by side, long answers hide how seldom
        queues rise and fall: so what a figure has of waiting is as wide as that of waiting alone."""
        percentile = _percentile(path)
        own = self._series(path).widening(percentile)
        if path[-2:-1] not in _WITH_WAITS or (queue := self._excursions("queueing_s")) is None:
            return own
        waits = at(self._whole, ("queueing_s", path[-1]))
        if not waits:
            return own
        share = min(1.0, float(waits / at(self._whole, path)))
        return max(own, 1 + share * (queue.widening(percentile) - 1))

    def too_short(self, intervals: Mapping[Path, Interval]) -> list[dict[str, str]]:
        """``figure`` and ``reason`` of every figure whose interval is not to be believed, or tells nothing."""
        reasons = {path: self._reason(path, found) for path, found in intervals.items()}
        return [{"figure": ".".join(path), "reason": reason} for path, reason in reasons.items() if reason]

    def _reason(self, path: Path, found: Interval) -> str | None:
        # Where all parts agree to the last digit there is nothing to doubt.
        if not found.half_width:
            return None
        if not self._warmup.found:
            return "no end of the warm-up was found"
        if math.isnan(found.half_width):
            return "some part has no such figure, or there is one part only"
        percentile, parts = _percentile(path), self._series(path).parts
        requests = at(self._whole, (*path[:2], "completed") if path[0] == "by_client" else ("requests",))
        beyond = requests * (1 - (percentile or 0)) / parts
        if beyond < _BEYOND:
            return f"{beyond:.3g} requests of a part are beyond it, of {_BEYOND} that it takes"
        endless = "parts are so far apart that the interval has no end" if math.isinf(found.half_width) else None
        return self._near_saturation(parts) or endless

    def _near_saturation(self, parts: int) -> str | None:
        """Why at this load, which is known before any run, parts are too short; None if they are not.

        A queue forgets where it was in about ``1 / (1 - load)^2`` requests, times a variability of the arrivals and
        services that is 1 or 2 where they are not bursty (Whitt, "Planning queueing simulations", Management Science
        35(11), 1989). What a part is off by, since it is not much longer than that, falls with its length; what the
        interval is wide falls with the root of all lengths together: so the more parts, the longer each."""
        whole = self._whole
        saturation = whole.get("saturation_rps")
        # Users who wait for their answers are no load, and what is beyond saturation is another matter: `unstable`.
        if not saturation or whole.get("users") or (load := whole["offered_rps"] / saturation) >= 1:
            return None
        # With those that were left out: how many these are depends on what happened.
        relaxations = (whole["requests"] / parts + self._warmup.requests) * (1 - load) ** 2
        needed = parts / _PARTS_PER_RELAXATION
        if relaxations >= needed:
            return None
        return f"at load {load:.4g} a part is {relaxations:.2g} relaxation times long, of {needed:.3g} that it takes"

    def _series(self, path: Path) -> Excursions:
        """Those of the figure's own times; of all else those of response times."""
        found = self._excursions(".".join(path[:-1])) or self._excursions(
            "queueing_s" if path[0] == "waiting" else "response_s"
        )
        assert found is not None
        return found


def _percentile(path: Path) -> float | None:
    name = path[-1]
    return int(name[1:]) / 100 if name[1:].isdigit() else None
