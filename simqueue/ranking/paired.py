"""Paired differences: one figure of two scenarios that met the same customers, replication by replication."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.figures import Path, at, weight
from simqueue.analysis.replicated import Replicated
from simqueue.analysis.student import student

# Of logarithms; so much is any amount.
_LARGEST = 100.0


@dataclass(frozen=True)
class Difference:
    """How much larger a figure is in the second of two scenarios than in the first.

    Attributes:
        first: the figure of the first, of all its replications together.
        second: the same of the second.
        half_width: of the confidence interval of ``second - first``; NaN where it cannot be told, infinite where it has
            no end.
        log_half_width: of that of ``log(second / first)``; None where figures are not all positive.
        variance_ratio: the variance of the logarithm's estimate as it would be of independent runs, over what it is of
            paired ones; None where nothing varies or figures are not all positive, NaN where it cannot be told.
    """

    first: float
    second: float
    half_width: float
    log_half_width: float | None
    variance_ratio: float | None

    @property
    def value(self) -> float:
        """``second - first``."""
        return self.second - self.first

    @property
    def log_ratio(self) -> float:
        """``log(second / first)`` of positive figures."""
        return math.log(self.second / self.first)

    @property
    def relative(self) -> float | None:
        """``second / first - 1``; None where figures are not all positive."""
        return None if self.log_half_width is None else self.second / self.first - 1

    @property
    def relative_ends(self) -> tuple[float, float] | None:
        """Of the interval of `relative`; NaN where it cannot be told."""
        if self.log_half_width is None:
            return None
        low, high = self.log_ratio - self.log_half_width, self.log_ratio + self.log_half_width
        return math.expm1(low), math.expm1(high) if high < _LARGEST else math.inf

    @property
    def apart(self) -> bool:
        """Whether it is beyond doubt which is larger: by the logarithms where there are any, since their deviations
        are nearer to normal."""
        if self.log_half_width is None:
            return abs(self.value) > self.half_width
        return abs(self.log_ratio) > self.log_half_width


class Deviations(NamedTuple):
    """Of the parts of one scenario from its ``whole``, which has this ``widening``: ``each`` in the figure's own unit,
    and ``relative`` to it; None where figures are not all positive."""

    whole: float
    each: NDArray[np.float64]
    relative: NDArray[np.float64] | None
    widening: float

    @classmethod
    def of(cls, path: Path, found: Replicated) -> Deviations | None:
        """Of the figure at this place; None if there is none."""
        whole = at(found.figures, path)
        if whole is None:
            return None
        parts = np.array([at(part.summary, path) for part in found.parts], np.float64)
        weights = np.array([weight(path, part.summary) for part in found.parts])
        shares, widening = weights / weights.mean(), found.widening(path)
        if not (whole > 0 and (parts > 0).all()):
            return cls(whole, shares * (parts - whole), None, widening)
        relative = shares * (1 - whole / parts)
        return cls(whole, whole * relative, relative, widening)


def difference(first: Deviations, second: Deviations, level: float) -> Difference:
    """Of a figure that has an interval in both.

    Sectioning, as in `simqueue.analysis.interval.interval`, of the difference: with the deviations ``d`` of the second
    scenario's ``b`` parts from its whole, less those of the first in the same parts, the half-width is
    ``t(b - 1) sqrt(sum d^2 / (b (b - 1)))``. What both have in common, since they met the same customers, cancels out.
    A part that differs from the whole by a factor deviates by ``whole (1 - whole / part)``, since reciprocals are
    nearly normal near saturation; logarithms by ``1 - whole / part``. Both are widened as the wider of the two
    scenarios' own intervals is, since runs are short (`simqueue.analysis.trust`). tests/bench/bench_selection.py says
    how often that covers, and the textbook interval of the mean of the replications' differences.

    Args:
        first: from which the difference counts.
        second: has as many parts.
        level: how often the interval shall cover.
    """
    parts = min(len(first.each), len(second.each))
    scale = (student(parts - 1, level) if parts > 1 else math.nan) * max(first.widening, second.widening)
    half = _scaled(scale, _error(second.each - first.each))
    if first.relative is None or second.relative is None:
        return Difference(first.whole, second.whole, half, None, None)
    paired = _error(second.relative - first.relative)
    alone = math.hypot(_error(first.relative), _error(second.relative))
    ratio = (alone / paired) ** 2 if paired else None
    return Difference(first.whole, second.whole, half, _scaled(scale, paired), ratio)


def _error(deviations: NDArray[np.float64]) -> float:
    """The standard error of what is a mean of so many."""
    count = len(deviations)
    return float(np.sqrt(np.sum(deviations**2) / (count * (count - 1)))) if count > 1 else math.nan


def _scaled(scale: float, error: float) -> float:
    """0 where parts agree to the last digit, however short they are."""
    return scale * error if error else 0.0
