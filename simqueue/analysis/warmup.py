"""Where the influence of the empty start ends: how many requests to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_BATCH = 5
_FEWEST = 20


class Warmup(NamedTuple):
    """How many ``requests`` to leave out; ``found``: whether the series was long enough to tell."""

    requests: int
    found: bool


def mser5(series: NDArray[Any]) -> Warmup:
    """MSER-5 of a series: of means of 5, leave out as many as make the squared standard error of the rest least.

    Sources: White, "An effective truncation heuristic for bias reduction in simulation output", Simulation 69(6), 1997;
    White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics for simulation", WSC 2000; Franklin
    and White, "Stationarity tests and MSER-5", WSC 2008. Cuts in the last half of a series are not looked at, since few
    values can look steady by chance. If the least is at the end of what is looked at, the series is too short to tell;
    so is one of less than 100 values.

    Args:
        series: ``(requests,)`` in their order in time, such as response times by arrival; NaN where there is none.
    """
    there = np.flatnonzero(~np.isnan(series))
    means = batch_means(series[there], _BATCH)
    if len(means) < _FEWEST:
        return Warmup(0, found=False)
    half = len(means) // 2
    left = np.arange(len(means), 0, -1)
    centred = means - means.mean()
    total, squares = (np.cumsum(part[::-1])[::-1] for part in (centred, centred**2))
    error = np.maximum(squares - total**2 / left, 0.0) / left**2
    cut = int(np.argmin(error[: half + 1]))
    return Warmup(int(there[cut * _BATCH]) if cut else 0, found=cut < half)


def batch_means(series: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Means of ``size`` values after the other; what is left over at the end is not in any."""
    count = len(series) // size
    return np.asarray(np.mean(series[: count * size].reshape(count, size), axis=1, dtype=np.float64))


def averaged(replications: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean over replications by place, as far as all of them go (Welch, "The statistical analysis of simulation
    results", 1983): what is noise in one averages out, and the start that all have in common stays. NaN where none
    has a value."""
    columns = np.stack([series[: min(map(len, replications))] for series in replications])
    there = ~np.isnan(columns)
    total, count = np.where(there, columns, 0.0).sum(axis=0), there.sum(axis=0)
    return np.asarray(np.where(count > 0, total, np.nan) / np.maximum(count, 1), np.float64)


def moving_average(series: NDArray[np.float64], reach: int) -> NDArray[np.float64]:
    """Means of ``2 reach + 1`` values around each; nearer to the start of as many as there are on both sides (Welch,
    1983; Law, 2015, section 9.5.1). The last ``reach`` places have none: ``(len(series) - reach,)``."""
    sums = np.concatenate(([0.0], np.cumsum(series)))
    place = np.arange(len(series) - reach)
    width = np.minimum(place, reach)
    return np.asarray((sums[place + width + 1] - sums[place - width]) / (2 * width + 1), np.float64)
