"""Confidence intervals from parts that are as good as independent: replications, or sections of one run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from simqueue.analysis.student import student

LEVEL = 0.95


class Interval(NamedTuple):
    """A figure, and half the width of its confidence interval: NaN where one part tells nothing of spread, infinite
    where the parts leave it open."""

    value: float
    half_width: float

    @property
    def relative(self) -> float:
        """Half-width over value."""
        if self.value:
            return self.half_width / abs(self.value)
        return math.inf if self.half_width else 0.0


def interval(
    parts: Sequence[float],
    whole: float,
    weights: Sequence[float] | None = None,
    level: float = LEVEL,
    reciprocal: bool = True,
) -> Interval:
    """Around the estimate from all data together, from those of ``b`` parts.

    The deviations ``d`` of the parts from the whole give ``h = t(b - 1) sqrt(sum d^2 / (b (b - 1)))``: sectioning
    (Asmussen and Glynn, "Stochastic Simulation", 2007, III.5; Nakayama, ACM TOMACS 24(4), 2014, for quantiles). An
    estimate that is biased in small samples, as a high percentile is, has less bias from the whole than from the mean
    of its parts. Deviations of parts that have more data weigh more, in proportion to ``weights`` (the ratio estimator:
    Law, 2015, section 9.5.3).

    Positive figures are compared by their reciprocals, ``d = whole / part - 1``, since near saturation times go like
    1 / (1 - load): there a part is far more often a little too low than much too high, but its reciprocal is nearly
    normal. Turned back the interval reaches from ``whole / (1 + h)`` to ``whole / (1 - h)``; the half-width is that
    of its longer side, ``whole h / (1 - h)``. Where intervals are narrow that is the usual one. (M/M/1 at load 0.9,
    10 replications of 2,000 requests: it covers the p99 in 81 % of cases, deviations as they are in 61 %.)

    Args:
        parts: the estimate from each part; NaN where a part has none.
        whole: the estimate from all of them, which is not their mean where it is a quantile or a ratio.
        weights: how much data each part has, for instance requests or seconds; all the same if not given.
        level: how often it shall cover.
        reciprocal: whether positive figures are compared so.
    """
    count = len(parts)
    if count < 2 or not all(map(math.isfinite, (whole, *parts))):
        return Interval(whole, math.nan)
    mean = math.fsum(weights) / count if weights else 1.0
    shares = [weight / mean for weight in weights] if weights else [1.0] * count
    t = student(count - 1, level)
    reciprocal = reciprocal and min(whole, *parts) > 0
    deviations = [whole / part - 1 if reciprocal else part - whole for part in parts]
    spread = math.fsum((share * d) ** 2 for share, d in zip(shares, deviations, strict=True)) / (count * (count - 1))
    half = t * math.sqrt(spread)
    if reciprocal:
        half = whole * half / (1 - half) if half < 1 else math.inf
    return Interval(whole, half)


def sections(begin: int, end: int, count: int) -> list[tuple[int, int]]:
    """``count`` stretches from ``begin`` to ``end``, one after the other, that differ by one in length at most."""
    cuts = [begin + (end - begin) * i // count for i in range(count + 1)]
    return list(pairwise(cuts))
