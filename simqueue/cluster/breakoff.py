"""What had been done when a replica failed in the middle of its work."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from simqueue.cost.base import UNLIMITED
from simqueue.paged import PagedEngine
from simqueue.record import Column, Requests, settle
from simqueue.replica import Core


def ended_before(
    now: int, start: int, first: int, done: int, path: Sequence[int], again: Callable[[int, int], tuple[int, int]]
) -> tuple[int, int]:
    """How many of ``done`` steps ended before ``now``, and when the last of them did.

    Args:
        first: how long the first of them lasts if it prefills, else 0.
        path: the ends of the steps, where they are known.
        again: prices those that only decode once more: see `simqueue.cost.base.Timing.leap` for ``(steps, limit)``.
    """
    if path:
        done = bisect_left(path, now)
        return done, path[done - 1]
    limit = now - start
    if first and (done == 1 or first >= limit):
        return 0, start
    begun = 1 if first else 0
    further = again(done - begun, limit - first)[0] - 1
    return begun + further, start + first + (again(further, UNLIMITED)[1] if further else 0)


def emitted(
    engine: Core, requests: Requests, unfinished: Sequence[int], leaps: Mapping[str, Column], *, with_batch: bool
) -> list[int]:
    """Tokens that have left of each of these: whoever decodes emits one in every step."""
    if isinstance(engine, PagedEngine):
        return [engine.emitted(i) for i in unfinished]
    if with_batch:
        return [0] * len(unfinished)
    _, first_token, _ = settle(requests, dict(leaps), with_batch=False)
    steps_from = np.append(np.cumsum(leaps["steps"][::-1])[::-1], 0)
    leap = np.searchsorted(leaps["start"] + leaps["first"], first_token[unfinished])
    return [int(tokens) for tokens in steps_from[leap]]
