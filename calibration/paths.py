"""What serving costs beside the steps: to the queue, between batches, to the client, and how late timers fire."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from calibration.records import Records
from simqueue.profile import Paths

Array = NDArray[np.float64]
_TRIM = 0.01


def paths_of(shaped: Records, price: Array, records: Records) -> Paths:
    """From the records of steps, with their prices, and from all; what was not recorded, or comes out negative, is 0.

    Arrivals fall anywhere between the begins of two steps, so that with a way of r to the queue a share r / step misses
    the next one, and on average that costs each r: the mean of "queued". Where the replica was free, what the end of
    the step comes later than way and price is how long it took to wake, or how late the timer was. Between batches,
    what a period has beyond its price is the hand-over.
    """
    late = shaped.seconds - price
    idle, timer, batch = (late[shaped.kind == kind] for kind in ("idle", "timer", "batch"))
    queued, answers = records.of("queued"), records.of("answer")
    way = max(0.0, float(queued.seconds.mean()) if len(queued) else _mean(idle))
    handover, per_request = _line(shaped.ended[shaped.kind == "batch"], batch)
    response, per_row = _line(answers.rows, answers.seconds)
    return Paths(
        request_path_s=_short(way),
        wake_s=_short(max(0.0, _mean(idle) - way)) if len(idle) else 0.0,
        handover_s=handover,
        handover_per_request_s=per_request,
        response_path_s=response,
        response_per_row_s=per_row,
        timer_late_s=_short(max(0.0, _mean(timer) - way)) if len(timer) else 0.0,
    )


def _mean(seconds: Array) -> float:
    """Without the hundredth at either end: one client that is put to sleep must not make all of them late."""
    return float(np.mean(seconds[_inner(seconds)])) if len(seconds) else 0.0


def _line(count: NDArray[np.int64], seconds: Array) -> tuple[float, float]:
    """Fixed and for each of ``count``, none negative, by least squares without the hundredth at either side of it."""
    if not len(seconds):
        return 0.0, 0.0
    design = np.column_stack([np.ones(len(count)), count / max(1, count.max())])
    near = _inner(seconds - design @ optimize.nnls(design, seconds)[0])
    fixed, most = optimize.nnls(design[near], seconds[near])[0]
    return _short(fixed), _short(most / max(1, count.max()))


def _inner(values: Array) -> NDArray[np.bool_]:
    low, high = np.quantile(values, [_TRIM, 1 - _TRIM])
    return np.asarray((values >= low) & (values <= high))


def _short(value: float) -> float:
    return float(f"{value:.7g}")
