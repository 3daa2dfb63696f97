"""The SimPy driver: runs the scheduling core in virtual time, one event a leap."""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import simpy

from simqueue.cost.base import UNLIMITED, Timing
from simqueue.cost.noise import path_of
from simqueue.engine import Engine
from simqueue.paged import PagedEngine
from simqueue.plan import Wait
from simqueue.record import NEVER, Leaps, Requests, leap_row
from simqueue.sim.door import Door, Limits
from simqueue.source import Columns, Source


class Delays(NamedTuple):
    """The overheads that a driver spends itself, in ticks; ``wake`` and ``start`` by the ticks since, None if always 0:
    a call for each start would cost more than the rest of it. ``move``: of a block of key/value cache, to the host or
    back."""

    handover: int = 0
    handover_per_request: int = 0
    timer_late: int = 0
    response_per_row: int = 0
    wake: Callable[[int], int] | None = None
    start: Callable[[int], int] | None = None
    move: int = 0


_NO_DELAYS = Delays()
_NO_LIMITS = Limits()


def drive(
    engine: Engine | PagedEngine,
    requests: Requests,
    source: Source,
    cost: Timing,
    delays: Delays = _NO_DELAYS,
    *,
    limits: Limits = _NO_LIMITS,
    longest_leap: int = UNLIMITED,
) -> Leaps:
    """Run until every request of ``source`` has finished; fills in ``requests`` and returns the leaps.

    ``limits``: whom the server turns away. ``longest_leap = 1`` takes every step as an event of its own, with the same
    result.
    """
    leaps = Leaps()
    env = simpy.Environment(initial_time=0)
    # Who is turned away asks again before others who are there already have come.
    asks_again = engine.turns_away and not isinstance(source, Columns)
    at_door = asks_again or limits != _NO_LIMITS or requests.patience is not None
    door = Door(engine, requests, source, limits) if at_door else None
    env.process(_replica(env, engine, requests, source, door, cost, delays, leaps, longest_leap))
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
    engine: Engine | PagedEngine,
    requests: Requests,
    source: Source,
    door: Door | None,
    cost: Timing,
    delays: Delays,
    leaps: Leaps,
    longest_leap: int,
) -> Generator[simpy.Event, None, None]:
    plan, complete, append, timeout = engine.plan, engine.complete, leaps.append, env.timeout
    price, leap = cost.step, cost.leap
    hands_over = delays.handover or delays.handover_per_request
    take, submit, next_arrival, wake = source.take, engine.submit, source.next, delays.wake
    start = delays.start
    loops = not isinstance(source, Columns)
    now = prefilled = 0
    while True:
        if next_arrival <= now:
            if door is None:
                submit(take(now))
                next_arrival = source.next
                if loops and next_arrival == NEVER:
                    engine.close()
            else:
                door.catch_up(now)
                next_arrival = door.next
        work = plan(now)
        if door is not None and engine.refused:
            door.decided()
            next_arrival = door.next
        if type(work) is Wait:
            if (next_arrival == NEVER and work.until is None) or (engine.closed and not engine.waiting):
                return
            due = source.next
            if wake and due != NEVER:
                due += wake(due - now)
            if door is not None:
                due = min(due, door.expires)
            if work.until is not None:
                due = min(due, work.until + delays.timer_late)
            yield timeout(due - now)
            now = due
            continue
        steps = done = work.steps if work.steps < longest_leap else longest_leap
        prefill_rows, rows, context, longest = work.prefill_rows, work.decode_rows, work.context, work.longest
        rows += work.held_rows
        path: Sequence[int] = ()
        first = 0
        # Whoever gives up while a batch runs holds a row of it from the next step on.
        limit = next_arrival - now if work.cut else UNLIMITED if door is None else door.expires - now
        if prefill_rows or work.moved:
            total = first = price(work) + delays.move * work.moved
            if start and prefill_rows:
                if not rows:
                    total = first = first + start(now - prefilled)
                prefilled = now
            if steps > 1 and first < limit:
                # Everybody has one more token in the cache, and the new rows decode too.
                deepest = longest + 1 if longest >= work.widest else work.widest
                after = rows + prefill_rows
                tokens = context + rows + work.new_tokens + work.prefill_context
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
        if work.paused:
            leaps.add_pause(work.paused)
        if prefill_rows != work.admitted or work.prefill_context:
            leaps.add_chunks((prefill_rows, work.new_tokens, work.prefill_context, work.widest))
        append(leap_row(now, done, first, total, work.admitted, rows, context, longest))
        ended = complete(done, now + first, end, path)
        if loops or door is not None:
            back = delays.response_per_row * (rows + prefill_rows)
            left = _in_order(engine.left, requests.finished, end)
            if door is None:
                _tell(source, left, back)
                # Who has been answered may come at once, and the source is open again.
                next_arrival = end
            else:
                ended += door.catch_up(end, left, back)
                next_arrival = door.next
        now = end
        if ended and hands_over:
            pause = delays.handover + delays.handover_per_request * ended
            yield timeout(pause)
            now += pause


def _in_order(left: Sequence[int], finished: Sequence[int], end: int) -> list[tuple[int, int]]:
    """When the answers of a piece of work that ended at ``end`` left, and whose they are.

    Of whoever finished with the leap that admitted it the engine has written nothing (see `Requests`).
    """
    return sorted((finished[i] if finished[i] >= 0 else end, i) for i in left)


def _tell(source: Source, left: Sequence[tuple[int, int]], back: int) -> None:
    """They are heard, each ``back`` after its own instant."""
    for at, request in left:
        source.hear(request, at + back)
