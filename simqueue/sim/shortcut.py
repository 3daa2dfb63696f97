"""Runs whose course follows from their columns alone, without an event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from simqueue.cost.prices import MOST_TICKS, Priced
from simqueue.policy import BatchingPolicy, Continuous, Dynamic, NoBatching, Static
from simqueue.record import Column, Leaps, Requests
from simqueue.sim.compiled import recursions
from simqueue.sim.given import Bound, delays_of, limits_of
from simqueue.units import Grid

_FOREVER = -1
# The recursion counts decode steps in half of 64 bits.
_MOST_STEPS = 1 << 30
_Found = Column | tuple[Column, Column, Column, Column] | None


def shortcut(bound: Bound, requests: Requests) -> Leaps | None:
    """What `simqueue.sim.driver.drive` does, to the tick, in a small part of its time, where nothing is random, nobody
    gives up, is turned away or waits for an answer, the server does nothing beside its steps, and policy and cost are
    of those that are known here; None elsewhere. Fills in ``requests``."""
    # What is added to the rows of a step is for those who hear of their answers.
    delays = delays_of(bound)._replace(response_per_row=0)
    noisy, leave = bound.spread is not None, requests.patience is not None
    if recursions is None or noisy or leave or any(delays) or any(limits_of(bound)):
        return None
    known = _recursion(bound.system.policy, bound.grid, requests.count)
    arrival, prompt, output = map(np.ascontiguousarray, requests.known)
    widest, most = int(prompt.max()), int(output.max())
    endless = arrival[-1] > MOST_TICKS or output.sum(dtype=np.float64) + widest > _MOST_STEPS
    if known is None or endless or not isinstance(bound.cost, Priced):
        return None
    run, rows = known
    prices = bound.cost.prices(rows, widest, widest + most)
    finished = np.full(requests.count, -1, np.int64)
    if prices is None or (found := run(arrival, prompt, output, finished, prices)) is None:
        return None
    # Nobody changes it any more, so that it may be an array.
    requests.finished = finished  # type: ignore[assignment]
    return _chunked(requests, *found) if isinstance(found, tuple) else Leaps.of(found, {})


def _chunked(requests: Requests, table: Column, chunks: Column, scheduled: Column, first_token: Column) -> Leaps:
    """With what is written down where prompts are computed in chunks."""
    prefills = np.flatnonzero(chunks[0])
    requests.scheduled = dict(enumerate(scheduled.tolist()))
    requests.first_token = dict(enumerate(first_token.tolist()))
    return Leaps.of(table, dict(zip(prefills.tolist(), map(tuple, chunks[:, prefills].T.tolist()), strict=True)))


def _recursion(policy: BatchingPolicy, grid: Grid, count: int) -> tuple[Callable[..., _Found], int] | None:
    """Which it is, and the most rows of a step. Of these very classes: one that is derived from them may decide
    otherwise."""
    if type(policy) is NoBatching:
        return partial(recursions.bulk, least=1, most=1, wait=0, with_batch=False), 1
    if type(policy) is Continuous:
        seats, budget = min(policy.max_seqs, count), min(policy.max_tokens or 0, MOST_TICKS)
        return partial(recursions.seated, seats=seats, budget=budget), seats
    if type(policy) is Static:
        least, most, wait = policy.batch, policy.batch, _FOREVER
    elif type(policy) is Dynamic:
        decider = policy.decider(grid)
        least, most = decider.min_batch, decider.max_batch
        wait = _FOREVER if decider.max_wait is None else min(decider.max_wait, MOST_TICKS - 1)
    else:
        return None
    # More than there are is as many as there are.
    least, most = min(least, count + 1), min(most, count + 1)
    return partial(recursions.bulk, least=least, most=most, wait=wait, with_batch=policy.release == "batch"), most
