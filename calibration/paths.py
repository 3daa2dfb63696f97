"""What serving costs beside the steps: to the queue, between batches, to the client, and how late timers fire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from calibration.records import Records
from simqueue.profile import Paths
from simqueue.units import digits
from simqueue.wake import Wake

Array = NDArray[np.float64]
_ROUNDS = 50
_CLOSE = 1e-7
# Starts after a wait are told apart by its length in groups of so many, at least, and so many groups, at most.
_A_GROUP, _MOST_GROUPS = 15, 8


def paths_of(shaped: Records, price: Array, records: Records) -> Paths:
    """From the records of steps, with their prices, and from all; what was not recorded, or comes out negative, is 0.

    Arrivals fall anywhere between the begins of two steps, so that with a way of r to the queue a share r / step misses
    the next one, and on average that costs each r: the mean of "queued", without those who missed more than twice what
    is usual for a miss, which no way to the queue explains: their clients slept. Where the replica was free, what the
    end of the step comes later than way and price is how long it took to wake, by how long it had waited, or how late
    the timer was. Between batches, what a period has beyond its price is the hand-over. All are what is usual, not
    means: see `_usual`.
    """
    late = shaped.seconds - price
    idle, timer, batch = (late[shaped.kind == kind] for kind in ("idle", "timer", "batch"))
    waited = shaped.waited_ns[shaped.kind == "idle"] / 1e9
    queued, answers = records.of("queued"), records.of("answer")
    way = max(0.0, _missed(queued.seconds) if len(queued) else _usual(idle))
    handover, per_request = _line(shaped.ended[shaped.kind == "batch"], batch)
    response, per_row = _line(answers.rows, answers.seconds)
    return Paths(
        request_path_s=digits(way),
        wake_s=_wake(waited, idle - way),
        handover_s=handover,
        handover_per_request_s=per_request,
        response_path_s=response,
        response_per_row_s=per_row,
        timer_late_s=digits(max(0.0, _usual(timer) - way)) if len(timer) else 0.0,
    )


def start_row_of(shaped: Records, late: Array) -> float:
    """What each row of a step in which nothing decodes takes beyond its price: the slope of ``late`` by rows, with what
    is usual of each kind of start, and of each request of a batch before, taken out."""
    alone = (shaped.rows == 0) & np.isin(shaped.kind, ("idle", "timer", "batch"))
    kind, ended, rows = shaped.kind[alone], shaped.ended[alone], shaped.prefill_rows[alone]
    if rows.max(initial=0) < 2:
        return 0.0
    columns = [*(kind == name for name in np.unique(kind)), ended, rows]
    return digits(_usual_parts(np.column_stack(columns).astype(np.float64), late[alone])[-1])


def _wake(waited: Array, late: Array) -> Wake:
    """What is usual of groups that had waited about as long; of all, where there is but one."""
    order = np.argsort(waited, kind="stable")
    groups = np.array_split(order, min(_MOST_GROUPS, max(1, len(order) // _A_GROUP)))
    knots = {digits(_usual(waited[group])): digits(max(0.0, _usual(late[group]))) for group in groups}
    return tuple(knots.items()) if len(knots) > 1 else digits(max(0.0, _usual(late)))


def _missed(seconds: Array) -> float:
    missed = seconds[seconds > 0]
    most = 2 * float(np.median(missed)) if len(missed) else 0.0
    return float(seconds[seconds <= most].mean())


def _usual(seconds: Array) -> float:
    """One client that is put to sleep must not make all of them late."""
    return float(np.median(seconds)) if len(seconds) else 0.0


def _line(count: NDArray[np.int64], seconds: Array) -> tuple[float, float]:
    """Fixed and for each of ``count``."""
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
