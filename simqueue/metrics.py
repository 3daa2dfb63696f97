"""Figures of merit as pure functions of columns (definitions in docs/design.md). Ticks in, seconds out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.units import Grid

PERCENTILES = (50, 90, 95, 99)
_SHARES = (*(percentile / 100 for percentile in PERCENTILES), 1.0)
Stats = dict[str, float]
_BINS = 4096
# Of a number that is not negative.
_BITS = 63
# So many values are sorted at once; of more so many are looked at, whether more than a tenth of them are equal.
_FEW, _LOOKED_AT, _UNLIKE = 10_000, 64, 0.9


def quantiles(ordered: NDArray[Any], shares: Iterable[float]) -> NDArray[Any]:
    """The inverted empirical distribution (type 1 of Hyndman and Fan, 1996) of sorted values."""
    return np.asarray(ordered[_ranks(len(ordered), shares)])


def selected(values: NDArray[Any], shares: Iterable[float]) -> list[Any]:
    """The same of values in any order, which are put into another one; ``shares`` ascend.

    Each value is split from those beyond it, among which is the next: for a few high percentiles that takes a third as
    long as to sort. Not so where values are few, or many are equal, to which NumPy's ``partition`` is no match."""
    if len(values) < _FEW or len(set(values[:: len(values) // _LOOKED_AT].tolist())) < _UNLIKE * _LOOKED_AT:
        values.sort()
        return list(quantiles(values, shares))
    before, found = 0, []
    for rank in _ranks(len(values), shares):
        values.partition(rank - before)
        values, before = values[rank - before :], rank
        found.append(values[0])
    return found


def _ranks(count: int, shares: Iterable[float]) -> list[int]:
    return [min(max(math.ceil(share * count - 1e-9) - 1, 0), count - 1) for share in shares]


def stats(values: NDArray[Any], unit: float = 1.0) -> Stats | None:
    """Mean, percentiles and maximum of ``values / unit``; None where there are no values."""
    if not len(values):
        return None
    *cuts, most = selected(values.copy(), _SHARES)
    return named(np.add.reduce(values, dtype=np.float64) / len(values), cuts, most, unit)


def named(mean: float, cuts: Sequence[Any], most: Any, unit: float = 1.0) -> Stats:
    """Statistics by their names; ``cuts`` are at `PERCENTILES`."""
    percentiles = {f"p{p}": float(cut / unit) for p, cut in zip(PERCENTILES, cuts, strict=True)}
    return {"mean": float(mean / unit), **percentiles, "max": float(most / unit)}


def weighted_stats(values: NDArray[Any], weights: NDArray[np.int64], unit: float) -> Stats | None:
    """The same for a value that occurs ``weights`` times."""
    # Where nobody emits a token steps may be far apart.
    kept = weights > 0
    if not kept.any():
        return None
    values, weights = values[kept], weights[kept]
    total = int(weights.sum())
    ranks = np.array([max(1, int(np.ceil(p / 100 * total - 1e-9))) for p in PERCENTILES])
    # By NumPy's own sum: the last digits of BLAS depend on how many threads it has.
    mean = np.sum(values.astype(np.float64, copy=False) * weights) / total
    return named(mean, _at_ranks(values, weights, ranks), values.max(), unit)


def _at_ranks(values: NDArray[Any], weights: NDArray[np.int64], ranks: NDArray[np.int64]) -> list[Any]:
    """Of values that occur ``weights`` times, those at these ranks, which ascend from 1. Only those bins of a histogram
    that they lie in are looked at again: gaps between tokens are many, and many of them are equal."""
    low, high = values.min(), values.max()
    if low == high:
        return [low] * len(ranks)
    if len(values) <= _FEW:
        order = np.argsort(values)
        return list(values[order[np.searchsorted(np.cumsum(weights[order]), ranks)]])
    bins = ((values - low) * (_BINS / (high - low))).astype(np.int32)
    reached = np.concatenate(([0], np.cumsum(np.bincount(bins, weights)).astype(np.int64)))
    cuts = []
    places = np.searchsorted(reached[1:], ranks)
    for one in np.unique(places):
        inside = np.flatnonzero(bins == one)
        cuts += _at_ranks(values[inside], weights[inside], ranks[places == one] - reached[one])
    return cuts


class Sample(NamedTuple):
    """What statistics are taken of: values, of requests in their order where they are of requests, and how often each
    of them occurs (once if not said)."""

    values: NDArray[Any]
    weights: NDArray[np.int64] | None = None

    def stats(self, unit: float = 1.0) -> Stats | None:
        """See `stats` and `weighted_stats`."""
        if self.weights is None:
            return stats(self.values, unit)
        return weighted_stats(self.values, self.weights, unit)

    def over(self, bound: float, at_least: bool = False) -> NDArray[np.bool_]:
        """Which are above a bound or, if asked, at least that."""
        return np.asarray(self.values >= bound if at_least else self.values > bound)

    def above(self, bound: float, at_least: bool = False) -> tuple[int, int]:
        """How many these are, and how many there are."""
        over = self.over(bound, at_least)
        if self.weights is None:
            return int(np.count_nonzero(over)), len(over)
        return int(self.weights[over].sum()), int(self.weights.sum())


def within(figures: Sequence[NDArray[Any]], limits: Sequence[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """By request, whether every figure is at most its limit; one that does not exist (NaN) breaks none."""
    kept = [~(figure > limit) for figure, limit in zip(figures, limits, strict=True)]
    return np.asarray(np.logical_and.reduce(kept))


def batch_sizes(rows: NDArray[np.int64], steps: NDArray[np.int64]) -> Stats:
    """Mean over steps, and as seen by a request: the sum of squares over the sum (each row weighs its own step);
    NaN without any."""
    if not len(steps):
        return {"mean_per_step": math.nan, "mean_per_request": math.nan}
    total = float(np.dot(rows, steps))
    return {"mean_per_step": total / float(steps.sum()), "mean_per_request": float(np.dot(rows**2, steps)) / total}


def busy(leaps: Mapping[str, NDArray[np.int64]], start: int, end: int) -> float:
    """The share of the time from ``start`` to ``end`` in which leaps (`simqueue.record.Leaps`) were under way."""
    inside = np.minimum(leaps["start"] + leaps["total"], end) - np.maximum(leaps["start"], start)
    return float(np.maximum(inside, 0).sum(dtype=np.float64)) / (end - start)


def tallied(values: NDArray[np.int64], weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different ones among values that are not negative, in order, and how often each occurs; of gaps between
    tokens one in a hundred, or fewer. To sort both as one number is many times quicker than to sort places."""
    kept = weights > 0
    values, weights = values[kept], weights[kept]
    bits = int(weights.max(initial=1)).bit_length()
    if int(values.max(initial=0)).bit_length() + bits > _BITS:
        return values, weights
    both = np.sort(values << bits | weights)
    ordered = both >> bits
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    return ordered[begins], np.add.reduceat(both & (1 << bits) - 1, begins) if len(begins) else weights


def token_gaps(
    step_end: NDArray[np.int64], first_token: NDArray[np.int64], finished: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(gap, how often)``: every stretch of an answer begins with a token at ``first_token``, and has one at every
    later step end up to ``finished``, so that its gaps are those between step ends, weighted by who emits. A stretch
    that begins at none of these step ends (where those who decode did not go on) has a first gap of its own."""
    begins = np.searchsorted(step_end, first_token, "right")
    ends = np.searchsorted(step_end, finished)
    apart = (begins == 0) | (step_end[begins - 1] != first_token)
    goes_on = begins <= ends
    own = apart & goes_on & (first_token < finished)
    own_gaps = step_end[begins[own]] - first_token[own]
    size = len(step_end) + 2
    change = np.bincount((begins + apart)[goes_on], minlength=size)
    change -= np.bincount(np.maximum(ends + 1, begins + apart)[goes_on], minlength=size)
    emitting = np.cumsum(change)[: len(step_end)]
    gaps, often = np.diff(step_end), emitting[1:]
    if not len(own_gaps):
        return gaps, often
    return np.concatenate((gaps, own_gaps)), np.concatenate((often, np.ones(len(own_gaps), np.int64)))


def interrupted_gaps(
    step_end: NDArray[np.int64],
    request: NDArray[np.int64],
    first_token: NDArray[np.int64],
    finished: NDArray[np.int64],
    of: NDArray[np.int64],
    lost: NDArray[np.int64],
    next_token: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """See `token_gaps`, where the answers ``of`` some requests stopped when their seats were ``lost`` and went on with
    a ``next_token``: several stretches with gaps between them."""
    owner, begins = _by_owner(request, first_token, of, next_token)
    _, bounds = _by_owner(request, finished, of, lost)
    before = np.searchsorted(step_end, bounds, "right")
    stops = np.where(before > 0, np.maximum(begins, step_end[before - 1]), begins)
    between = (begins[1:] - stops[:-1])[owner[1:] == owner[:-1]]
    gaps, often = token_gaps(step_end, begins, stops)
    return np.concatenate((gaps, between)), np.concatenate((often, np.ones(len(between), np.int64)))


def _by_owner(
    request: NDArray[np.int64], once: NDArray[np.int64], of: NDArray[np.int64], more: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Requests and instants in order of both."""
    owner, instants = np.concatenate((request, of)), np.concatenate((once, more))
    order = np.lexsort((instants, owner))
    return owner[order], instants[order]


def waiting_over_time(
    arrival: NDArray[np.int64], scheduled: NDArray[np.int64], grid: Grid
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """``(time in seconds, number waiting from then on)`` at every instant at which it changes."""
    times = np.concatenate((arrival, scheduled))
    change = np.repeat(np.array([1, -1]), len(arrival))
    order = np.lexsort((-change, times))
    at, count = times[order], np.cumsum(change[order])
    last = np.append(at[1:] != at[:-1], True)
    return grid.seconds(at[last]), count[last]


def most_waiting(arrival: NDArray[np.int64], scheduled: NDArray[np.int64]) -> int:
    """The largest number in `waiting_over_time`, by bisection: at some time ``number`` or more wait if somebody comes,
    the i-th, before the (i - number + 1)-th has gone."""
    came, gone = _ascending(arrival), _ascending(scheduled)

    def wait(number: int) -> bool:
        return bool((gone[: len(gone) - number + 1] > came[number - 1 :]).any())

    low, high = 0, 1
    while high <= len(came) and wait(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle <= len(came) and wait(middle) else (low, middle)
    return low


def _ascending(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return values if bool((values[1:] >= values[:-1]).all()) else np.sort(values)


def saturation_rps(
    scheduled: NDArray[np.int64], finished: NDArray[np.int64], grid: Grid, *, whole_batches: bool
) -> float:
    """Requests per second of a run in which everybody waits: between the first tenth of the finishes and the last
    admission, so that neither the filling nor the draining counts.

    ``whole_batches``: of a policy that runs batches to completion, whose early leavers have not made room. Columns by
    request, in the order in which they were scheduled.
    """
    if whole_batches:
        begins = np.flatnonzero(np.diff(scheduled, prepend=-1))
        finished = np.maximum.reduceat(finished, begins).repeat(np.diff(begins, append=len(scheduled)))
    ordered = np.sort(finished)
    begin, end = ordered[len(ordered) // 10], scheduled.max()
    through = np.searchsorted(ordered, end, "right")
    done = through - np.searchsorted(ordered, begin, "right")
    if done <= 0:
        return len(ordered) / float(grid.seconds(ordered[-1]))
    return float(done / grid.seconds(ordered[through - 1] - begin))
