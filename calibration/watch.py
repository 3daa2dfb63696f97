"""What a live run shows of its steps, of its starts and of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.records import COLUMNS, Kind, Records
from simqueue.live.serve import Served
from simqueue.policy import BatchingPolicy, Continuous, Dynamic
from simqueue.policy.base import launches_ahead
from simqueue.record import Column
from simqueue.result import Result
from simqueue.starts import decided, since_prefill

_STEP = {"rows": "rows", "longest": "longest", "prefill_rows": "prefill_rows", "widest": "widest"}


def watched(served: Served, policy: BatchingPolicy, stages_s: Sequence[float], run: int) -> Records:
    """The records of a live run whose stages of load begin at ``stages_s``: steps in order, decisions, requests."""
    result, waited = served.result, served.waited
    assert result is not None
    parts = [
        _steps(result, waited, policy, stages_s, run),
        _decisions(result, waited, policy, stages_s, run),
        _answers(result, stages_s, run),
    ]
    if isinstance(policy, Continuous) and policy.max_tokens is None:
        parts.append(_queued(result, waited, policy.max_seqs, stages_s, run))
    return Records.joined(parts)


def _steps(
    result: Result, waited: NDArray[np.bool_], policy: BatchingPolicy, stages_s: Sequence[float], run: int
) -> Records:
    """Every step but the first ever, which follows none."""
    leaps, seconds, ahead = result.leaps, result.grid.seconds, launches_ahead(policy)
    begin, end = decided(result, policy), leaps["start"] + leaps["total"]
    alone, paused = leaps["rows"] == 0, leaps.get("paused", np.zeros_like(begin))
    since = seconds(since_prefill(begin, leaps["prefill_rows"]))
    records = _made(
        run=run,
        stage=_stage(result, begin, stages_s),
        kind=np.select([paused > 0, alone], ["pause", "start"], "step" if ahead else "exposed"),
        **{name: leaps[column] for name, column in _STEP.items()},
        context=leaps["prefill_context"],
        ended=paused,
        since_ns=np.where(alone, since * 1e9, 0).astype(np.int64),
        seconds=seconds(end - np.where(alone, begin, leaps["start"])),
    )
    # A start that follows a step at once has the host's part in it where nothing is launched ahead.
    plain = ahead | ~alone | (paused > 0) | waited
    return records.where(plain & (np.arange(len(begin)) > 0))


def _decisions(
    result: Result, waited: NDArray[np.bool_], policy: BatchingPolicy, stages_s: Sequence[float], run: int
) -> Records:
    """What passed before whoever found the replica free, and before a batch that followed another one."""
    leaps, seconds = result.leaps, result.grid.seconds
    begin, before = decided(result, policy), np.concatenate([[0], (leaps["start"] + leaps["total"])[:-1]])
    kind = np.full(len(begin), "handover")
    since = before.copy()
    which = np.flatnonzero(waited)
    for n, came in zip(which.tolist(), _begun_with(result, begin[which]), strict=True):
        kind[n], since[n] = _cause(policy, came, result)
    batch = (leaps["rows"] == 0) & ~waited & (not getattr(policy, "iteration_level", True))
    free = since - before
    records = _made(
        run=run,
        stage=_stage(result, begin, stages_s),
        kind=kind,
        ended=np.where(batch, _batch_before(leaps), 0),
        since_ns=np.where(kind == "idle", seconds(free) * 1e9, 0).astype(np.int64),
        seconds=seconds(begin - since),
    )
    # A request that came while the last step ended found the replica neither free nor busy.
    known = batch | (waited & (free > 0))
    return records.where(known & (np.arange(len(begin)) > 0))


def _begun_with(result: Result, at: Column) -> list[Column]:
    """Of each of these instants, when those had come who were first scheduled then."""
    order = np.argsort(result.scheduled, kind="stable")
    scheduled, arrival = result.scheduled[order], result.arrival[order]
    first, end = (np.searchsorted(scheduled, at, side) for side in ("left", "right"))
    return [arrival[a:b] for a, b in zip(first.tolist(), end.tolist(), strict=True)]


def _cause(policy: BatchingPolicy, came: Column, result: Result) -> tuple[Kind, int]:
    """Why a waiting replica began with those who came then, and since when it should have."""
    if not len(came):
        return "idle", -1
    if not isinstance(policy, Dynamic) or not policy.max_wait_s:
        return "idle", int(came.min())
    if len(came) == policy.max_batch:
        return "idle", int(came.max())
    return "timer", int(came.min()) + result.grid.ticks(policy.max_wait_s)


def _batch_before(leaps: Mapping[str, Column]) -> Column:
    """By step, how many requests the batch had that ended last; 0 if there was none."""
    begins = np.flatnonzero(leaps["rows"] == 0)
    last = np.searchsorted(begins, np.arange(len(leaps["rows"]))) - 1
    return np.where(last >= 0, leaps["prefill_rows"][begins[np.maximum(last, 0)]], 0)


def _answers(result: Result, stages_s: Sequence[float], run: int) -> Records:
    """When the first and the last token of every request were there."""
    leaps = result.leaps
    ends = leaps["start"] + leaps["total"]
    delivery = np.concatenate([result.first_delivery, result.delivery])
    step = np.searchsorted(ends, np.concatenate([result.first_token, result.finished]) - delivery)
    return _made(
        run=run,
        stage=_stage(result, ends[step], stages_s),
        kind=np.full(len(step), "answer"),
        rows=(leaps["rows"] + leaps["prefill_rows"])[step],
        seconds=result.grid.seconds(delivery),
    )


def _queued(result: Result, waited: NDArray[np.bool_], seats: int, stages_s: Sequence[float], run: int) -> Records:
    """Of requests that found the replica busy and seats free: by how much of steps they missed the next one."""
    start, rows = result.leaps["start"], result.leaps["rows"] + result.leaps["prefill_rows"]
    last = len(start) - 1
    took = np.searchsorted(start, result.scheduled, "right") - 1
    following = np.minimum(np.searchsorted(start, result.arrival), last)
    full, idle = (np.concatenate([[0], np.cumsum(mask)]) for mask in (rows >= seats, waited))
    first, end = np.minimum(took, following), np.maximum(took, following) + 1
    plain = (full[end] == full[first]) & (idle[end] == idle[first])
    return _made(
        run=run,
        stage=_stage(result, start[took], stages_s),
        kind=np.full(len(took), "queued"),
        rows=rows[took],
        seconds=result.grid.seconds(start[took] - start[following]),
    ).where(plain)


def _stage(result: Result, at: Column, stages_s: Sequence[float]) -> Column:
    return np.maximum(np.searchsorted(stages_s, result.grid.seconds(at), "right") - 1, 0)


def _made(*, run: int, seconds: NDArray[np.float64], **columns: NDArray[np.generic]) -> Records:
    zeros = np.zeros(len(seconds), np.int64)
    plain = dict.fromkeys(COLUMNS, zeros) | columns
    return Records(**{**plain, "run": zeros + run, "seconds": seconds})  # type: ignore[arg-type]
