"""`Tool`: a load generator, its metrics and its percentiles, as it defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simqueue.measured.seen import Seen
from simqueue.metrics import Sample

MEAN, MEDIAN = "mean", "p50"
USUAL = (MEAN, MEDIAN, "p90", "p95", "p99")
SECONDS, REQUESTS_PER_S, TOKENS_PER_S = "s", "requests/s", "tokens/s"


class Figure(NamedTuple):
    """A statistic (``"mean"`` or ``"p99"``) of a metric, by its key."""

    metric: str
    statistic: str


class Metric(NamedTuple):
    """What is measured of a run.

    Attributes:
        key: what the tool's files call it.
        name: what people call it.
        unit: of its values here, whatever the files have.
        definition: how the tool computes it.
        of: its values in a run, and how much each weighs; None where the run does not have it.
        single: one value a run, such as a throughput, which has a mean only.
    """

    key: str
    name: str
    unit: str
    definition: str
    of: Callable[[Seen], Sample | None]
    single: bool = False

    @property
    def usual(self) -> tuple[Figure, ...]:
        """The figures that most people look at."""
        return tuple(Figure(self.key, statistic) for statistic in ((MEAN,) if self.single else USUAL))


@dataclass(frozen=True)
class Tool:
    """A load generator.

    Attributes:
        name: the command.
        metrics: in the order in which they are shown.
        percentile: of a sample, at a share from 0 to 1.
        percentiles: how it does that, in words.
    """

    name: str
    metrics: tuple[Metric, ...]
    percentile: Callable[[Sample, float], float]
    percentiles: str

    @property
    def usual(self) -> tuple[Figure, ...]:
        """The usual figures of every metric."""
        return tuple(figure for metric in self.metrics for figure in metric.usual)

    def metric(self, key: str) -> Metric:
        """The metric of that key."""
        return next(metric for metric in self.metrics if metric.key == key)

    def value(self, seen: Seen, figure: Figure) -> float | None:
        """What the tool would have said of this run; None where it could not say."""
        sample = self.metric(figure.metric).of(seen)
        if sample is None or not len(sample.values) or (sample.weights is not None and not sample.weights.any()):
            return None
        if figure.statistic == MEAN:
            return float(np.average(sample.values, weights=sample.weights))
        return self.percentile(sample, float(figure.statistic.removeprefix("p")) / 100)


def linear(sample: Sample, share: float) -> float:
    """Between the two nearest ranks, linearly: type 7 of Hyndman and Fan (1996), the default of ``numpy.percentile``.
    A value that weighs ``w`` occurs that often."""
    values, weights = sample
    if weights is None:
        return float(np.quantile(values, share))
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    rank = share * (int(reached[-1]) - 1)
    below, above = (
        float(values[order[np.searchsorted(reached, place, "right")]]) for place in (np.floor(rank), np.ceil(rank))
    )
    return below + (above - below) * float(rank - np.floor(rank))


def inverted(sample: Sample, share: float) -> float:
    """The least value up to which lies a share of all weight: type 1 of Hyndman and Fan (1996). Computed as GuideLLM
    does it, in floating point, since a share may be met exactly or just not."""
    values, places = np.unique(sample.values, return_inverse=True)
    weights = np.bincount(places, weights=sample.weights, minlength=len(values))
    values, weights = values[weights > 0], weights[weights > 0]
    reached = np.cumsum(weights / weights.sum())
    return float(values[min(int(np.searchsorted(reached, share)), len(values) - 1)])
