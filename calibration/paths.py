"""What serving costs beside the steps: to the queue, between batches, at a start, to the client, and by late timers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from calibration.records import Records
from simqueue.lag import Lag
from simqueue.profile import Paths
from simqueue.units import digits

Array = NDArray[np.float64]
Line = tuple[float, float]
_ROUNDS = 50
_CLOSE = 1e-7
# By how long ago it was done last, what depends on that is put into groups of so many, at least, and so many groups, at
# most.
_A_GROUP, _MOST_GROUPS = 15, 8


def paths_of(records: Records, start: Lag, exposed: Line | None = None, pause: Line | None = None) -> Paths:
    """From the records of a serving run, what a start takes, and what the device does not hide of steps, if that is
    known.

    What was not recorded, or comes out negative, is 0.

    Arrivals fall anywhere between the begins of two steps, so that with a way of r to the queue a share r / step misses
    the next one, and on average that costs each r: the mean of "queued", without those who missed more than twice what
    is usual for a miss, which no way to the queue explains: their clients slept. Where the replica was free, what
    passes before the decision, beyond the way, is how long it took to wake, by how long it had waited, or how late the
    timer was. All are what is usual, not means: see `_usual`.
    """
    idle, timer, handover = records.of("idle"), records.of("timer"), records.of("handover")
    queued, answers = records.of("queued"), records.of("answer")
    way = max(0.0, _missed(queued.seconds) if len(queued) else _usual(idle.seconds))
    fixed, per_request = line(handover.ended, handover.seconds)
    response, per_row = line(answers.rows, answers.seconds)
    return Paths(
        request_path_s=digits(way),
        wake_s=_lag(idle.since_ns / 1e9, idle.seconds - way),
        handover_s=fixed,
        handover_per_request_s=per_request,
        response_path_s=response,
        response_per_row_s=per_row,
        timer_late_s=digits(max(0.0, _usual(timer.seconds) - way)) if len(timer) else 0.0,
        start_s=start,
        exposed_s=exposed and exposed[0],
        exposed_per_row_s=exposed[1] if exposed else 0.0,
        pause_s=pause[0] if pause else 0.0,
        pause_per_row_s=pause[1] if pause else 0.0,
    )


def starts_of(starts: Records, late: Array) -> tuple[Lag, float]:
    """What "start" records take beyond their price: by how long ago a prompt was begun last, and for each row.

    Where all have one row, that row's part is in the first, and the second is 0.
    """
    if not len(starts):
        return 0.0, 0.0
    since, rows = starts.since_ns / 1e9, starts.prefill_rows
    group = np.zeros(len(starts), np.int64)
    for n, members in enumerate(_groups(since)):
        group[members] = n
    several = [rows] if rows.max() > 1 else []
    columns = np.column_stack([*(group == n for n in range(group.max() + 1)), *several]).astype(np.float64)
    per_row = digits(_usual_parts(columns, late)[-1]) if several else 0.0
    return _lag(since, late - per_row * rows), per_row


def _lag(since: Array, taken: Array) -> Lag:
    """What is usual of groups about as long after; of all, where there is but one."""
    groups = _groups(since)
    knots = {digits(_usual(since[group])): digits(max(0.0, _usual(taken[group]))) for group in groups}
    return tuple(knots.items()) if len(knots) > 1 else digits(max(0.0, _usual(taken)))


def _groups(since: Array) -> list[NDArray[np.int64]]:
    """Indices, in order of ``since``, in equal parts."""
    return np.array_split(np.argsort(since, kind="stable"), min(_MOST_GROUPS, max(1, len(since) // _A_GROUP)))


def _missed(seconds: Array) -> float:
    missed = seconds[seconds > 0]
    most = 2 * float(np.median(missed)) if len(missed) else 0.0
    return float(seconds[seconds <= most].mean())


def _usual(seconds: Array) -> float:
    """One client that is put to sleep must not make all of them late."""
    return float(np.median(seconds)) if len(seconds) else 0.0


def line(count: NDArray[np.int64], seconds: Array) -> Line:
    """What is usual: fixed, and for each of ``count``; neither negative, and 0 where there is nothing."""
    if not len(seconds):
        return 0.0, 0.0
    fixed, each = _usual_parts(np.column_stack([np.ones(len(count)), count]), seconds)
    return digits(fixed), digits(each)


def _usual_parts(design: Array, seconds: Array) -> list[float]:
    """Coefficients of the columns, none negative, by least absolute deviations: what is usual, not the mean.

    Reweighted least squares (Schlossmacher, Journal of the American Statistical Association 68, 1973).
    """
    size = np.maximum(1.0, design.max(axis=0))
    design, weights = design / size, np.ones(len(seconds))
    for _ in range(_ROUNDS):
        parts = optimize.nnls(design * weights[:, None], seconds * weights)[0]
        weights = np.maximum(_CLOSE, np.abs(seconds - design @ parts)) ** -0.5
    return (parts / size).tolist()  # type: ignore[no-any-return]
