"""How irregularly requests arrive: gaps and counts of a column of arrivals, in seconds, sorted.

Windows begin at the first arrival; only whole ones are looked at. Variances are
those of the numbers themselves (``1 / n``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST_GAPS = 20
"""A window with fewer gaps says nothing about their coefficient of variation."""

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Silences:
    """Gaps that are longer than a limit: how many, how long together, and the coefficient of variation without."""

    count: int
    total_s: float
    cv_without: float


class WindowedCV(NamedTuple):
    """Coefficients of variation ``cv`` of the gaps inside windows that begin at ``start_s``, both ``(windows,)``."""

    start_s: Times
    cv: Times


def gap_cv(arrival_s: Times) -> float:
    """Coefficient of variation of the inter-arrival times; nan where they have no mean."""
    return _cv(np.diff(arrival_s))


def windowed_cv(arrival_s: Times, window_s: float) -> WindowedCV:
    """Coefficient of variation of the gaps between arrivals inside each window with at least `FEWEST_GAPS` of them.

    A rate that drifts from window to window leaves it alone, so that it is about 1 for every locally Poisson process.
    """
    since = arrival_s - arrival_s[0]
    index = np.floor(since / window_s)
    inside = (index[1:] == index[:-1]) & (index[1:] < math.floor(since[-1] / window_s))
    gaps = np.diff(since)[inside]
    starts, place, count = np.unique(index[1:][inside], return_inverse=True, return_counts=True)
    mean = np.bincount(place, gaps, len(starts)) / count
    variance = np.bincount(place, (gaps - mean[place]) ** 2, len(starts)) / count
    full = (count >= FEWEST_GAPS) & (mean > 0)
    return WindowedCV(starts[full] * window_s, np.sqrt(variance[full]) / mean[full])


def dispersion(arrival_s: Times, window_s: float) -> float:
    """Index of dispersion for counts: their variance over their mean, in windows of ``window_s``; nan for fewer than 2.

    It is 1 for a Poisson process at every scale. Source: Cox and Lewis, The Statistical Analysis of Series of Events
    (1966), section 4.5; Gusella, IEEE JSAC 9(2), 1991.
    """
    since = arrival_s - arrival_s[0]
    windows = math.floor(since[-1] / window_s)
    if windows < 2:
        return math.nan
    # Only windows that hold something are kept: a trace with gaps of months has few of those.
    _, counts = np.unique(np.floor(since[since < windows * window_s] / window_s), return_counts=True)
    mean = counts.sum() / windows
    return float((np.square(counts, dtype=np.float64).sum() / windows - mean**2) / mean)


def silences(arrival_s: Times, longer_than_s: float) -> Silences:
    """The gaps that are longer than ``longer_than_s``."""
    gaps = np.diff(arrival_s)
    silent = gaps > longer_than_s
    return Silences(int(silent.sum()), float(gaps[silent].sum()), _cv(gaps[~silent]))


def _cv(gaps: Times) -> float:
    mean = gaps.mean() if len(gaps) else 0.0
    return float(gaps.std() / mean) if mean > 0 else math.nan
