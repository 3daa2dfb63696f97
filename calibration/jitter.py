"""How served steps scatter: quantiles, how far one step's excess tells the next one's, and stalls."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from calibration.records import Records
from simqueue.profile import Jitter, Row

Array = NDArray[np.float64]
_QUANTILES = 200
_STALLS = 100
_TENTHS = 10
_LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# So many standard deviations beyond the median, by the median absolute deviation, a step is not like the others.
_FAR = 8.0
_NORMAL = 1.4826
_ENOUGH_OF_A_SHAPE = 50
_MEMORIES = np.exp(-1 / np.geomspace(0.2, 2000, 400))


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
    persistent, memory = _memory(correlation)
    return Jitter(
        decode=_quantiles(decode if len(decode) >= _QUANTILES else ratio[body]),
        prefill=_quantiles(prefill if len(prefill) >= _QUANTILES else ratio[body]),
        persistent=persistent,
        memory=memory,
        stall_probability=_short(stalls.sum() / step.sum()),
        stalls=_stalls(ratio[stalls] - 1),
        lags=_LAGS,
        autocorrelation=tuple(map(_short, correlation)),
        drift=tuple(_short(part.mean()) for part in np.array_split(ratio[body], _TENTHS)),
    )


def _bias(ratio: Array, shapes: NDArray[np.int64]) -> Array:
    """Of each step, the mean ratio of its shape; 1 for a shape that is rare."""
    count, total = np.bincount(shapes), np.bincount(shapes, ratio)
    mean = np.where(count >= _ENOUGH_OF_A_SHAPE, total / np.maximum(count, 1), 1.0)
    return mean[shapes]


def _quantiles(ratio: Array) -> Row:
    """At ``(i + 1/2) / n``, with mean 1."""
    column = np.quantile(ratio, (np.arange(_QUANTILES) + 0.5) / _QUANTILES)
    return tuple(map(_short, column / column.mean()))


def _stalls(excess: Array) -> Row:
    """All of them, or as many quantiles, with the same mean."""
    if len(excess) <= _STALLS:
        return tuple(map(_short, np.sort(excess)))
    parts = np.array_split(np.sort(excess), _STALLS)
    return tuple(_short(part.mean()) for part in parts)


def _scores(ratio: Array) -> Array:
    """What a standard normal variable would be at the same rank (van der Waerden)."""
    return np.asarray(ndtri((rankdata(ratio) - 0.5) / len(ratio)))


def _correlation(state: Array, lag: int) -> float:
    """Of the states of steps ``lag`` apart, where both are known."""
    products = state[lag:] * state[:-lag]
    known = ~np.isnan(products)
    return float(products[known].mean()) if known.any() else 0.0


def _memory(correlation: Array) -> tuple[float, float]:
    """The share and the memory whose ``share * memory ** lag`` is nearest, by least squares."""
    powers = _MEMORIES[:, None] ** np.array(_LAGS)
    share = np.clip(powers @ correlation / (powers**2).sum(axis=1), 0, 1)
    best = int(np.argmin(((share[:, None] * powers - correlation) ** 2).sum(axis=1)))
    return _short(share[best]), _short(_MEMORIES[best] if share[best] else 0.0)


def _short(value: float) -> float:
    return float(f"{value:.7g}")
