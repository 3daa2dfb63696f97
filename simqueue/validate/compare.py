"""Predicted against live: errors, the noise floor beside them, and what was to be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from simqueue.units import digits
from simqueue.validate.measure import Figures
from simqueue.validate.record import Figure, Verdict

SATURATION = "saturation_rps"
JUDGED = ("response_s", "ttft_s")
CENTRE, TAIL = ("mean", "p50"), ("p95", "p99")
# Repeats that give a noise floor, and requests that a tail is a figure of.
ENOUGH_REPEATS = 2
ENOUGH = {"p95": 400, "p99": 2_000}
# A noise floor of so many targets says nothing of whether a target is reached.
TOO_WIDE = 5.0
# Loads and rates are ratios of computed numbers.
_ROUNDING = 1e-9


class Target(NamedTuple):
    """Up to this load, how large an error of mean and p50, and of p95 and p99, may be."""

    load: float
    centre: float
    tail: float


TARGETS = (Target(0.8, 0.03, 0.05), Target(0.9, 0.05, 0.08))
SATURATION_TARGET = 0.01


def compare(live: Sequence[Figures], simulated: Sequence[Figures]) -> dict[str, dict[str, Figure]]:
    """Every figure that both sides have a name for: each live repeat against the mean over the simulations."""
    return {
        metric: {name: _figure([f[metric][name] for f in live], [f[metric][name] for f in simulated]) for name in names}
        for metric, names in simulated[0].items()
    }


def _figure(live: Sequence[float | None], simulated: Sequence[float | None]) -> Figure:
    mean, spread = _mean_and_spread(live)
    predicted, deviation = _mean_and_spread(simulated)
    error = predicted / mean - 1 if predicted is not None and mean else None
    return Figure(
        live=tuple(map(_digits, live)),
        simulated=_digits(predicted),
        deviation=_digits(deviation),
        error=_digits(error),
        spread=_digits(spread / abs(mean) if mean and spread is not None else None),
    )


def _digits(value: float | None) -> float | None:
    return None if value is None else digits(value)


def _mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation; the second None of a single value, both where one is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None, None
    return float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None


def judge(
    figures: Mapping[str, Mapping[str, Figure]], load: float | None, counted: int, unfit: str = ""
) -> dict[str, dict[str, Figure]]:
    """The same figures with their verdicts.

    Args:
        figures: of a cell.
        load: of the predicted saturation; above 1 only the saturation is judged, below only latencies.
        counted: requests that the percentiles are of.
        unfit: why nothing can be judged, if so.
    """
    return {
        metric: {name: _judged(figure, metric, name, load, counted, unfit) for name, figure in statistics.items()}
        for metric, statistics in figures.items()
    }


def _judged(figure: Figure, metric: str, statistic: str, load: float | None, counted: int, unfit: str) -> Figure:
    if metric not in (SATURATION, *JUDGED) or statistic not in (*CENTRE, *TAIL):
        return figure
    if why := unfit or _why_not(figure, metric, statistic, load, counted):
        return msgspec.structs.replace(figure, why=why)
    target = SATURATION_TARGET if metric == SATURATION else target_of(metric, statistic, load)
    aimed = msgspec.structs.replace(figure, target=target)
    return msgspec.structs.replace(aimed, verdict=_verdict(aimed))


def _verdict(aimed: Figure) -> Verdict:
    assert aimed.error is not None
    assert aimed.target is not None
    assert aimed.allowed is not None
    if abs(aimed.error) > aimed.allowed:
        return "MISSED"
    return "not told apart" if aimed.allowed > TOO_WIDE * aimed.target else "reached"


def _why_not(figure: Figure, metric: str, statistic: str, load: float | None, counted: int) -> str:
    if figure.error is None:
        return "one side has no such figure"
    if len(figure.live) < ENOUGH_REPEATS:
        return "a single live run"
    if metric == SATURATION:
        return ""
    if load is None:
        return "closed loop"
    if load > 1:
        return "above saturation"
    if target_of(metric, statistic, load) is None:
        return f"load above {TARGETS[-1].load:g}"
    if counted < (enough := ENOUGH.get(statistic, 0)):
        return f"{statistic} of fewer than {enough:,} requests"
    return ""


def target_of(metric: str, statistic: str, load: float | None) -> float | None:
    """How large an error may be at that load, the noise floor aside; None where nothing is asked."""
    within = next((target for target in TARGETS if load is not None and load <= target.load + _ROUNDING), None)
    if within is None or metric not in JUDGED:
        return None
    return within.centre if statistic in CENTRE else within.tail if statistic in TAIL else None
