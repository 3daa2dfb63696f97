"""`compare`: what a scenario predicts beside what a load generator measured, each figure as that tool defines it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simqueue.analysis.interval import LEVEL
from simqueue.analysis.replications import REPLICATIONS, seed_of
from simqueue.analysis.server import AnyResult, Server, run
from simqueue.analysis.student import student
from simqueue.errors import ConfigError
from simqueue.measured.report import Offered, Report
from simqueue.measured.seen import Seen
from simqueue.measured.tool import MEAN, Figure, Metric
from simqueue.metrics import Sample
from simqueue.workload import Trace, WorkloadSpec, make_workload

# Loads that differ by more are different loads, unless few requests make that by chance: means of n of them have a
# relative standard error of at most about 1 / sqrt(n).
_ALIKE, _CHANCE = 0.05, 2.0
_ROUNDING = 1e-9
_WORDS = {"rate_rps": "requests/s", "prompt_tokens": "mean prompt tokens", "output_tokens": "mean output tokens"}


class Row(NamedTuple):
    """One figure.

    Attributes:
        metric: of the tool.
        statistic: of it, ``"mean"`` or a percentile.
        predicted: by each replication, in the unit of the metric; none where the scenario does not have it.
        measured: in the same unit.
    """

    metric: Metric
    statistic: str
    predicted: tuple[float, ...]
    measured: float

    @property
    def expected(self) -> float | None:
        """The mean of what was predicted."""
        return float(np.mean(self.predicted)) if self.predicted else None

    @property
    def range(self) -> tuple[float, float] | None:
        """Where the figure of one more run lies in 95 of 100 cases. None of a single replication.

        The prediction interval (Hahn and Meeker, "Statistical Intervals", 1991, section 4.4) of logarithms,
        ``m +- t(b - 1) s sqrt(1 + 1/b)`` of ``b`` replications with mean ``m`` and standard deviation ``s``: near
        saturation a run is most often a little faster than expected, and now and then far slower. (TTFT, E2EL and
        throughput of 200 requests to 8 seats at four loads up to 1: 2 to 9 of 100 runs lie outside.)
        """
        runs = len(self.predicted)
        if runs < 2 or min(self.predicted) <= 0:
            return None
        logs = np.log(self.predicted)
        half = student(runs - 1, LEVEL) * float(np.std(logs, ddof=1)) * math.sqrt(1 + 1 / runs)
        centre = float(np.mean(logs))
        return math.exp(centre - half), math.exp(centre + half)

    @property
    def error(self) -> float | None:
        """Predicted / measured - 1."""
        return None if self.expected is None else self.expected / self.measured - 1

    @property
    def outside(self) -> bool | None:
        """Whether what was measured lies outside the range."""
        if self.range is None:
            return None
        # Where nothing is random the range is a point, and both sides are rounded.
        low, high = self.range
        return not low * (1 - _ROUNDING) <= self.measured <= high * (1 + _ROUNDING)


@dataclass(frozen=True)
class Comparison:
    """A prediction beside a measurement.

    Attributes:
        report: what was measured.
        rows: figure by figure.
        replications: how many runs the prediction is of.
        offered: what the server was asked in them.
        lost: requests of all of them that were not completed.
    """

    report: Report
    rows: Sequence[Row]
    replications: int
    offered: Offered
    lost: int

    @cached_property
    def differences(self) -> list[str]:
        """In what the scenario's load is another than the measured one, in sentences."""
        ours, theirs = self.offered, self.report.offered
        found = [] if ours.requests == theirs.requests else [_said("requests", ours.requests, theirs.requests)]
        for key, words in _WORDS.items():
            one, other = getattr(ours, key), getattr(theirs, key)
            if one and other and abs(one / other - 1) > max(_ALIKE, _CHANCE / math.sqrt(theirs.requests)):
                found.append(_said(words, one, other))
        return found

    @property
    def notes(self) -> list[str]:
        """What else to know."""
        report, notes = self.report, list(self.report.notes)
        if report.failed:
            notes.append(f"{report.failed} of {report.offered.requests} measured requests failed; no figure is of them")
        if self.lost:
            notes.append(
                f"{self.lost} of {self.replications * self.offered.requests} simulated requests were not served"
            )
        return notes

    def summary(self) -> dict[str, Any]:
        """All of it in JSON's types; durations are in seconds."""
        tool = self.report.tool
        return {
            "tool": tool.name,
            "completed": self.report.completed,
            "failed": self.report.failed,
            "replications": self.replications,
            "level": LEVEL,
            "figures": [_plain(row) for row in self.rows],
            "definitions": {row.metric.key: row.metric.definition for row in self.rows},
            "percentiles": tool.percentiles,
            "offered": {"scenario": self.offered._asdict(), "measured": self.report.offered._asdict()},
            "differences": self.differences,
            "notes": self.notes,
        }


def compare(
    spec: WorkloadSpec,
    server: Server,
    report: Report,
    *,
    seed: int = 0,
    replications: int | None = None,
    base: Path | None = None,
) -> Comparison:
    """Simulate a scenario and compute of its requests, as the tool does, every figure that was measured.

    Load generators count every request from the first on, in a system that is empty at first, and so does this: there
    is no warm-up. A figure is predicted by its mean over replications, not by that of all requests together, since
    the percentile of a short run is biased, and the measured one is as short.

    Args:
        spec: what arrives; it should be what was measured.
        server: what serves it.
        report: what was measured.
        seed: of every draw. The first replication is the run of `simqueue.simulate` with this seed.
        replications: how many runs; 10 if not given, or 1 of a recorded trace.
        base: the folder that a trace's relative path starts from.

    Raises:
        ConfigError, ProfileError, WorkloadError, InvariantError: as `simqueue.simulate` has them.
    """
    count = replications or (1 if isinstance(spec.arrivals, Trace) else REPLICATIONS)
    figures = _in_order(report)
    runs = [_run(spec, server, seed_of(seed, number), base, report, figures) for number in range(count)]
    rows = [
        Row(report.tool.metric(figure.metric), figure.statistic, _all(values), report.figures[figure])
        for figure, values in zip(figures, zip(*(each.values for each in runs), strict=True), strict=True)
    ]
    lost = sum(each.lost for each in runs)
    return Comparison(report, rows, count, _mean([each.offered for each in runs]), lost)


def seen_of(result: AnyResult) -> Seen:
    """What clients saw of the completed requests of a simulation."""
    unit, counted = float(result.grid.ticks_per_s), result.counted
    columns = (result.arrival, result.response, result.ttft)
    arrival_s, response_s, ttft_s = (column[counted] / unit for column in columns)
    lengths = (result.workload.prompt_tokens[counted], result.workload.output_tokens[counted])
    gaps = result.samples.get("itl_s")
    return Seen.of(arrival_s, response_s, *lengths, ttft_s, gaps and Sample(gaps.values / unit, gaps.weights))


class _Run(NamedTuple):
    """What is kept of one replication: the value of each figure, what the server was asked, and of how many requests
    nothing came."""

    values: tuple[float | None, ...]
    offered: Offered
    lost: int


def _run(
    spec: WorkloadSpec, server: Server, seed: int, base: Path | None, report: Report, figures: Sequence[Figure]
) -> _Run:
    result = run(server, make_workload(spec, seed, base), seed=seed, warmup=0)
    seen, requests = seen_of(result), len(result.workload)
    if not len(seen.arrival_s):
        raise ConfigError("none of the simulated requests is completed: there is nothing to compare with")
    offered, rate = Offered.of(requests, seen), result.offered_rps
    if report.seen is None:
        offered = offered._replace(rate_rps=rate if math.isfinite(rate) else None)
    values = tuple(report.tool.value(seen, figure) for figure in figures)
    return _Run(values, offered, requests - len(seen.arrival_s))


def _in_order(report: Report) -> list[Figure]:
    """Metrics as the tool has them, of each the mean and then percentiles."""
    places = [metric.key for metric in report.tool.metrics]
    return sorted(report.figures, key=lambda figure: (places.index(figure.metric), _place(figure.statistic)))


def _place(statistic: str) -> float:
    return -1.0 if statistic == MEAN else float(statistic.removeprefix("p"))


def _all(values: Sequence[float | None]) -> tuple[float, ...]:
    """The values, or none if one is missing."""
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else ()


def _mean(offered: Sequence[Offered]) -> Offered:
    """Of several replications, which have one number of requests."""

    def mean(key: str) -> float | None:
        known = [value for each in offered if (value := getattr(each, key)) is not None]
        return float(np.mean(known)) if known else None

    return Offered(offered[0].requests, mean("rate_rps"), mean("prompt_tokens"), mean("output_tokens"))


def _said(what: str, ours: float, theirs: float) -> str:
    return f"{what}: {ours:.6g} in the scenario, {theirs:.6g} measured"


def _plain(row: Row) -> dict[str, Any]:
    return {
        "metric": row.metric.key,
        "name": row.metric.name,
        "statistic": row.statistic,
        "unit": row.metric.unit,
        "predicted": row.expected,
        "range": row.range,
        "measured": row.measured,
        "error": row.error,
        "outside": row.outside,
    }
