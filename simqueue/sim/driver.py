"""The SimPy driver: runs the scheduling core in virtual time, one event a leap."""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Generator, Sequence
from typing import NamedTuple

import simpy

from simqueue.cost.base import UNLIMITED, Timing
from simqueue.cost.noise import path_of
from simqueue.engine import Engine
from simqueue.plan import Wait
from simqueue.record import NEVER, Leaps, Requests

# Arrivals since the last event are few: they are looked for among so many before all that are left.
_NEAR = 32


class Delays(NamedTuple):
    """The overheads that a driver spends itself, in ticks."""

    handover: int = 0
    handover_per_request: int = 0
    timer_late: int = 0


_NO_DELAYS = Delays()


def drive(
    engine: Engine, requests: Requests, cost: Timing, delays: Delays = _NO_DELAYS, *, longest_leap: int = UNLIMITED
) -> Leaps:
    """Run until every request has finished; fills in ``requests`` and returns the leaps.

    ``longest_leap = 1`` takes every step as an event of its own, with the same result.
    """
    leaps = Leaps()
    env = simpy.Environment(initial_time=0)
    env.process(_replica(env, engine, requests, cost, delays, leaps, longest_leap))
    # Events leave no cycles behind, and looking for some costs a quarter of the run.
    collects = gc.isenabled()
    gc.disable()
    try:
        env.run()
    finally:
        if collects:
            gc.enable()
    return leaps


def _replica(
    env: simpy.Environment,
    engine: Engine,
    requests: Requests,
    cost: Timing,
    delays: Delays,
    leaps: Leaps,
    longest_leap: int,
) -> Generator[simpy.Event, None, None]:
    arrival = requests.arrival
    plan, complete, add, timeout = engine.plan, engine.complete, leaps.add, env.timeout
    price, leap = cost.step, cost.leap
    hands_over = delays.handover or delays.handover_per_request
    tail = 0
    next_arrival = arrival[0]
    now = 0
    while True:
        if next_arrival <= now:
            tail += 1
            if arrival[tail] <= now:
                near = min(tail + _NEAR, requests.count)
                tail = bisect_right(arrival, now, tail, near if arrival[near] > now else requests.count)
            next_arrival = arrival[tail]
            engine.submit(tail)
        work = plan(now)
        if isinstance(work, Wait):
            due = next_arrival if work.until is None else min(next_arrival, work.until + delays.timer_late)
            if due == NEVER or (engine.closed and not engine.waiting):
                return
            yield timeout(due - now)
            now = due
            continue
        steps = done = work.steps if work.steps < longest_leap else longest_leap
        prefill_rows, rows, context, longest = work.prefill_rows, work.decode_rows, work.context, work.longest
        rows += work.held_rows
        path: Sequence[int] = ()
        first = 0
        limit = next_arrival - now if work.cut else UNLIMITED
        if prefill_rows:
            total = first = price(work)
            if steps > 1 and first < limit:
                # Everybody has one more token in the cache, and the new rows decode too.
                deepest = longest + 1 if longest >= work.widest else work.widest
                after, tokens = rows + prefill_rows, context + rows + work.new_tokens
                if work.path:
                    path = [now + first, *(now + first + t for t in path_of(cost, after, tokens, deepest, steps - 1))]
                    total = path[-1] - now
                else:
                    done, total = leap(after, tokens, deepest, steps - 1, limit - first)
                    total += first
                    done += 1
            else:
                done = 1
        elif work.path:
            path = [now + end for end in path_of(cost, rows, context, longest, steps)]
            total = path[-1] - now
        else:
            done, total = leap(rows, context, longest, steps, limit)
        end = now + total
        yield timeout(total)
        row = (now, done, first, total, work.admitted, rows, context, longest)
        if prefill_rows == work.admitted:
            add(row)
        else:
            leaps.add_chunks(row, (prefill_rows, work.new_tokens, work.prefill_context, work.widest))
        ended = complete(done, now + first, end, path)
        now = end
        if ended and hands_over:
            pause = delays.handover + delays.handover_per_request * ended
            yield timeout(pause)
            now += pause
