"""How served steps scatter: quantiles, how far one step's excess tells the next one's, and stalls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import ndtri
from scipy.stats import rankdata

from calibration.records import Records
from simqueue.profile import Jitter, Row
from simqueue.units import digits

Array = NDArray[np.float64]
_QUANTILES = 200
_STALLS = 100
_TENTHS = 10
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# So many standard deviations beyond the median, by the median absolute deviation, a step is not like the others.
_FAR = 8.0
_NORMAL = 1.4826
_ENOUGH_OF_A_SHAPE = 50
# What persists does so for about so many steps.
_MEMORIES = np.exp(-1 / np.array([1.0, 4.0, 16.0, 64.0, 256.0]))
_LEAST_SHARE = 0.01


def deviation(off: Array) -> float:
    """Standard deviation of normal errors, from the median of their sizes."""
    return float(_NORMAL * np.median(off))


def outside(ratio: Array, sort: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whose ratio stands out among those of its sort."""
    out = np.zeros(len(ratio), bool)
    for name in np.unique(sort):
        mine = sort == name
        off = np.abs(ratio[mine] - np.median(ratio[mine]))
        out[mine] = off > _FAR * deviation(off)
    return out


def stalling(records: Records, price: Array) -> NDArray[np.bool_]:
    """Which "step" records took so much longer than ``price`` that they are not like the others."""
    step, ratio = records.kind == "step", records.seconds / price
    stalls = np.zeros(len(ratio), bool)
    stalls[step] = outside(ratio[step], records.sort[step]) & (ratio[step] > 1)
    return stalls


def jitter_of(records: Records, price: Array, shapes: NDArray[np.int64], stalls: NDArray[np.bool_]) -> Jitter:
    """How the periods of "step" records scatter about ``price``, those that stall apart.

    What a shape takes longer or shorter than its price on average is an error of the price, not scatter, and is taken
    out where a shape came often enough to tell.
    """
    step, ratio = records.kind == "step", records.seconds / price
    body = step & ~stalls
    ratio[body] /= _bias(ratio[body], shapes[body])
    prefills = records.prefill_rows > 0
    decode, prefill = (ratio[body & mine] for mine in (~prefills, prefills))
    state = np.full(len(ratio), np.nan)
    for mine in (body & ~prefills, body & prefills):
        state[mine] = _scores(ratio[mine])
    correlation = np.array([_correlation(state, lag) for lag in _LAGS])
    persistent, memory = _parts(correlation)
    return Jitter(
        decode=_quantiles(decode if len(decode) >= _QUANTILES else ratio[body]),
        prefill=_quantiles(prefill if len(prefill) >= _QUANTILES else ratio[body]),
        persistent=persistent,
        memory=memory,
        stall_probability=digits(stalls.sum() / step.sum()),
        stalls=_stalls(ratio[stalls] - 1),
        lags=_LAGS,
        autocorrelation=tuple(map(digits, correlation)),
        drift=tuple(digits(part.mean()) for part in np.array_split(ratio[body], _TENTHS)),
    )


def _bias(ratio: Array, shapes: NDArray[np.int64]) -> Array:
    """Of each step, the mean ratio of its shape; 1 for a shape that is rare."""
    count, total = np.bincount(shapes), np.bincount(shapes, ratio)
    mean = np.where(count >= _ENOUGH_OF_A_SHAPE, total / np.maximum(count, 1), 1.0)
    return mean[shapes]


def _quantiles(ratio: Array) -> Row:
    """At ``(i + 1/2) / n``, with mean 1."""
    column = np.quantile(ratio, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return tuple(map(digits, column / column.mean()))


def _stalls(excess: Array) -> Row:
    """All of them, in order, or the means of as many equal parts of them."""
    count = min(len(excess), _STALLS)
    total = np.concatenate([[0.0], np.cumsum(np.sort(excess))])
    edges = np.linspace(0, len(excess), count + 1)
    return tuple(map(digits, np.diff(np.interp(edges, np.arange(len(total)), total)) * count / max(1, len(excess))))


def _scores(ratio: Array) -> Array:
    """What a standard normal variable would be at the same rank (van der Waerden)."""
    return np.asarray(ndtri((rankdata(ratio) - 0.5) / len(ratio)))


def _correlation(state: Array, lag: int) -> float:
    """Of the states of steps ``lag`` apart, where both are known."""
    products = state[lag:] * state[:-lag]
    known = ~np.isnan(products)
    return float(products[known].mean()) if known.any() else 0.0


def _parts(correlation: Array) -> tuple[Row, Row]:
    """Shares and memories whose sum of ``share * memory ** lag`` is nearest, by least squares; shares of at most 1."""
    powers = _MEMORIES ** np.array(_LAGS)[:, None]
    share = optimize.nnls(powers, correlation)[0]
    share = share / max(1.0, share.sum() * (1 + 1e-6))
    kept = share > _LEAST_SHARE
    return tuple(map(digits, share[kept])), tuple(map(digits, _MEMORIES[kept]))
