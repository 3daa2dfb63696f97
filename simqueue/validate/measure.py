"""What is compared of one run, live or simulated: figures of merit, distributions, the queue over time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.policy.base import BatchingPolicy
from simqueue.result import Result

Array = NDArray[np.float64]
Figures = dict[str, dict[str, float | None]]
LEVELS = (np.arange(100) + 0.5) / 100
TIMES = ("queueing_s", "service_s", "response_s", "ttft_s", "tpot_s", "itl_s")
STATISTICS = ("mean", *(f"p{p}" for p in metrics.PERCENTILES))
DRAWN = ("response_s", "ttft_s")
PARTS = 120


class Measures(NamedTuple):
    """Of one run: figures by metric and statistic; quantiles of `DRAWN` at `LEVELS`; waiting in `PARTS` of the time;
    requests per second while everybody waited, if everybody did."""

    figures: Figures
    quantiles: dict[str, Array]
    waiting: Array
    saturation_rps: float


def measure(result: Result, policy: BatchingPolicy, span_s: float) -> Measures:
    """What is compared of a run, its queue over the first ``span_s`` seconds."""
    counted = slice(result.warmup, None)
    drawn = {"response_s": result.response[counted], "ttft_s": result.ttft[counted]}
    return Measures(
        figures(result),
        {name: result.grid.seconds(metrics.quantiles(np.sort(column), LEVELS)) for name, column in drawn.items()},
        waiting(result, np.linspace(0.0, span_s, PARTS + 1)),
        metrics.saturation_rps(
            result.scheduled,
            result.finished,
            result.grid,
            whole_batches=not getattr(policy, "iteration_level", True),
        ),
    )


def figures(result: Result) -> Figures:
    """By metric and statistic; times in seconds, None where a run has none."""
    # Not a figure of the run, and dear.
    summary = replace(result, saturation_rps=lambda: np.inf).summary()
    found: Figures = {name: _stats(summary[name]) for name in TIMES}
    found["batch_size"] = dict(summary["batch_size"])
    found |= {name: {"mean": summary[name]} for name in ("throughput_rps", "utilisation")}
    return found


def _stats(stats: dict[str, Any] | None) -> dict[str, float | None]:
    return {name: stats[name] if stats else None for name in STATISTICS}


def waiting(result: Result, edges: Array) -> Array:
    """Mean number of waiting requests between each two edges (seconds)."""
    at, count = result.waiting()
    at, count = np.concatenate(([0.0], at)), np.concatenate(([0], count))
    area = np.concatenate(([0.0], np.cumsum(np.diff(at) * count[:-1])))
    return np.asarray(np.diff(np.interp(edges, at, area)) / np.diff(edges))


def span_s(results: list[Result]) -> float:
    """Seconds until the last request of the longest run starts."""
    return max(float(result.grid.seconds(result.scheduled.max())) for result in results)
