"""`Ranking`: which of several scenarios is best, by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simqueue.analysis.figures import Path, at, estimates
from simqueue.analysis.interval import LEVEL, Interval
from simqueue.analysis.replicated import Replicated
from simqueue.ranking.criterion import Criterion
from simqueue.ranking.paired import Deviations, Difference, difference
from simqueue.ranking.runs import Runs
from simqueue.ranking.selection import Gap, Selection

# Of logarithms; so much is any amount.
_LARGEST = 100.0


class Worse(NamedTuple):
    """How much worse one is than the best: ``value`` than the one that looks best, and with 95 % confidence ``least``
    to ``most`` than the one that is. Shares of the best's figure, 0 or more; infinite where one is unstable."""

    value: float
    least: float
    most: float


@dataclass(frozen=True)
class Contest:
    """The replications so far, and how they are compared.

    Attributes:
        criterion: the figure that decides.
        runs: of each competitor.
        level: of every single interval (`simqueue.ranking.selection.level_each`).
    """

    criterion: Criterion
    runs: Sequence[Runs]
    level: float
    _known: dict[tuple[Path, int, int], Deviations | None] = field(default_factory=dict, repr=False, compare=False)

    def difference(self, path: Path, first: int, second: int, count: int) -> Difference | None:
        """By how much a figure is larger in the second, judged by so many replications; None if one has none."""
        one, other = (self._deviations(path, number, count) for number in (first, second))
        return None if one is None or other is None else difference(one, other, self.level)

    def gap(self, one: int, other: int, count: int) -> Gap:
        """How much worse one is than the other. An unstable one has no steady state: its times are worse than any."""
        unstable, stable = (self.runs[number].found(count).figures["unstable"] for number in (one, other))
        if unstable != stable and not self.criterion.more_is_better:
            return Gap(math.inf if unstable else -math.inf, 0.0)
        found = self.difference(self.criterion.path, other, one, count)
        assert found is not None
        sign, half = -1 if self.criterion.more_is_better else 1, found.log_half_width
        return Gap(sign * found.log_ratio, math.inf if half is None or math.isnan(half) else half)

    def _deviations(self, path: Path, number: int, count: int) -> Deviations | None:
        """Each is asked for once with every other competitor."""
        key = path, number, count
        if key not in self._known:
            self._known[key] = Deviations.of(path, self.runs[number].found(count))
        return self._known[key]


@dataclass(frozen=True)
class Ranking:
    """The answer, and what it rests on. Competitors are numbered from 0, as they were given.

    Attributes:
        contest: the replications.
        selection: who is best, and who may be.
        indifference: up to which share differences do not matter.
        looks: numbers of replications at which was looked, or would have been.
    """

    contest: Contest
    selection: Selection
    indifference: float
    looks: Sequence[int]

    @property
    def names(self) -> list[str]:
        """Of the competitors."""
        return [each.competitor.name for each in self.contest.runs]

    @property
    def best(self) -> str:
        """The name of the one that looks best."""
        return self.names[self.selection.best]

    @property
    def decided(self) -> bool:
        """Whether it is best with 95 % confidence, or worse than the best by the indifference at most."""
        return self.selection.most <= math.log1p(self.indifference)

    def found(self, number: int) -> Replicated:
        """All replications of a competitor."""
        return self.contest.runs[number].found(self.selection.replications[number])

    def figure(self, number: int) -> Interval:
        """What decides, of one competitor; with half of its own 95 % interval, which is no paired one."""
        return self.found(number).interval(self.contest.criterion.path)

    def unstable(self, number: int) -> bool:
        """Whether a competitor has no steady state."""
        return bool(self.found(number).figures["unstable"])

    def doubt(self, number: int) -> str | None:
        """Why the runs of a competitor are too short to believe the interval of its figure; None if they are not."""
        return self.found(number).doubt(self.contest.criterion.path)

    def worse(self, number: int) -> Worse:
        """By how much one is worse than the best, whichever of those that are left that is."""
        left, best = self.selection.open, self.selection.best
        gaps = {other: self._gap(number, other) for other in left if other != number}
        value = gaps[best].value if number != best else 0.0
        least = min((gap.least for gap in gaps.values()), default=0.0)
        most = max((gap.most for gap in gaps.values()), default=0.0)
        # Nobody is better than the best.
        return Worse(*(self._share(max(0.0, each)) for each in (value, least, most)))

    def difference(self, figure: str | Path, first: int, second: int) -> Difference | None:
        """By how much a figure (``response_s.mean``) is larger in the second; None if one of them does not have it."""
        path = tuple(figure.split(".")) if isinstance(figure, str) else figure
        return self.contest.difference(path, first, second, self._common(first, second))

    def differences(self, first: int, second: int) -> dict[str, Difference]:
        """The same of every figure that both have."""
        paths = (path for path, _ in estimates(self.found(first).figures))
        found = {".".join(path): self.difference(path, first, second) for path in paths}
        return {name: each for name, each in found.items() if each is not None}

    @property
    def variance_ratio(self) -> float | None:
        """How many times as many independent replications it would take to tell the best from others as well: the
        least over the others; None where nothing varies."""
        best, path = self.selection.best, self.contest.criterion.path
        others = (i for i in range(len(self.names)) if i != best and self.unstable(i) == self.unstable(best))
        found = (self.difference(path, best, other) for other in others)
        return min((each.variance_ratio for each in found if each and each.variance_ratio is not None), default=None)

    def summary(self) -> dict[str, Any]:
        """All of it in JSON's types; differences are from the first of two, or from the best of several."""
        numbers = range(len(self.names))
        first = 0 if len(numbers) == 2 else self.selection.best
        return {
            "by": self.contest.criterion.name,
            "best": self.best,
            "decided": self.decided,
            "may_be_best": [self.names[i] for i in self.selection.open],
            "worse_than_best_at_most": self.worse(self.selection.best).most,
            "indifference": self.indifference,
            "level": LEVEL,
            "level_of_each_interval": self.contest.level,
            "looks": list(self.looks),
            "variance_ratio": self.variance_ratio,
            "competitors": [self._row(i) for i in numbers],
            "differences": [row for i in numbers if i != first for row in self._differences(first, i)],
        }

    def _gap(self, one: int, other: int) -> Gap:
        return self.contest.gap(one, other, self._common(one, other))

    def _common(self, one: int, other: int) -> int:
        return min(self.selection.replications[one], self.selection.replications[other])

    def _row(self, number: int) -> dict[str, Any]:
        figure, found = self.figure(number), self.found(number)
        return {
            "name": self.names[number],
            "figure": figure.value,
            "half_width": figure.half_width,
            "worse_than_best": self.worse(number)._asdict(),
            "may_be_best": number in self.selection.open,
            "replications": found.replications,
            "sections": len(found.parts) if found.replications == 1 else None,
            "warmup": found.warmup.requests,
            "unstable": self.unstable(number),
            "too_short": self.doubt(number),
            "offered_rps": at(found.figures, ("offered_rps",)),
        }

    def _differences(self, first: int, second: int) -> list[dict[str, Any]]:
        return [
            {
                "figure": name,
                "of": self.names[second],
                "from": self.names[first],
                "values": [each.second, each.first],
                "difference": each.value,
                "half_width": each.half_width,
                "relative": each.relative,
                "relative_interval": each.relative_ends,
                "apart": each.apart,
                "variance_ratio": each.variance_ratio,
            }
            for name, each in self.differences(first, second).items()
        ]

    def _share(self, gap: float) -> float:
        """Of the best's figure: so much more than that, or less of what should be much."""
        if self.contest.criterion.more_is_better:
            return -math.expm1(-gap)
        return math.expm1(gap) if gap < _LARGEST else math.inf
