"""One replica of a cluster in virtual time: leaps that are cut when a request is sent to it, and at no other time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from heapq import heappush
from typing import NamedTuple

from simqueue.cluster.breakoff import emitted, ended_before
from simqueue.cluster.clock import COMING, DECISION, END, GIVING_UP, Clock
from simqueue.cluster.door import Door
from simqueue.cluster.inbox import Inbox, write_off
from simqueue.cluster.pieces import Pieces
from simqueue.cluster.redraw import RedrawnCost
from simqueue.cluster.signals import Signals
from simqueue.cost.base import UNLIMITED, Timing
from simqueue.engine import Engine
from simqueue.paged import PagedEngine
from simqueue.plan import Wait, Work
from simqueue.record import NEVER, Leaps, leap_row
from simqueue.sim.door import Limits
from simqueue.sim.driver import Delays

_After = tuple[int, int, int]
"""Rows, context and longest after a first step."""


class Terms(NamedTuple):
    """How a replica is driven.

    Attributes:
        delays: its overheads.
        there: ticks from the router to its queue.
        with_batch: answers leave when their batch ends.
        expected: by row of the workload, the tokens that a request counts as, where the router looks at them.
        longest_leap: at most so many steps an event, with the same result.
        fails: it may fail, so that whose answers are not whole must be known.
        limits: of its door; None: nobody is turned away or gives up, and nobody who waits could be refused.
        hear: is told ``(row, when)`` of answers that reach clients who wait for them, and of those that never will;
            None: nobody waits.
        back: ticks from the server to the client.
        shows_use: the router looks at how much of its memory is in use.
    """

    delays: Delays
    there: int
    with_batch: bool
    expected: Sequence[int] | None
    longest_leap: int
    fails: bool
    limits: Limits | None = None
    hear: Callable[[int, int], None] | None = None
    back: int = 0
    shows_use: bool = False


class Replica:
    """Its engine, what is on its way to it, and the piece of work that it does.

    It is asked for plans and does them as `simqueue.sim.driver` does, but for two things. A request that is sent to it
    may cut the leap under way, at the first step boundary at or after its coming to the queue. And work in which
    requests finish on the way is done piece by piece from finish to finish, so that whoever looks sees each of them
    at its own instant.

    What happens is told to a generator, whose state in local variables is the quickest to be had: `None` that a request
    has been sent, an instant that work may have ended, the complement of one that it may be time for a decision. What
    it has overtaken itself it lets pass.

    Args:
        serial: whose turn it is among replicas to which something happens at one instant; no two have the same.
        number: its place in ``signals``, which it keeps up to date.
        begin: when it is there, empty.

    Attributes:
        requests: what was sent to it, with ids of its own.
        leaps: what it did.
        last: when the last answer left.
    """

    def __init__(
        self,
        clock: Clock,
        serial: int,
        number: int,
        signals: Signals,
        engine: Engine | PagedEngine,
        requests: Inbox,
        cost: Timing,
        terms: Terms,
        begin: int,
    ) -> None:
        self.requests, self.leaps, self.number, self.last = requests, Leaps(), number, begin
        self._clock, self._serial = clock, serial
        self._signals, self._engine, self._cost, self._terms = signals, engine, cost, terms
        self._outstanding, self._queue, self._there = signals.outstanding, signals.queue, terms.there
        self._here: set[int] | None = set() if terms.fails else None
        self._counts = terms.fails or terms.expected is not None or terms.hear is not None
        self._door = None if terms.limits is None else Door(engine, requests, terms.limits, self._leaves, self._tells)
        # The queue: how many have come to it, when the next one comes, and whether no more will be sent.
        self._tail, self._next, self._drained = 0, NEVER, False
        # While it does not work: until when, since when, and whether it waits for company; and for how long it did not.
        self._due, self._since, self._rests, self._idle = NEVER, begin, False, begin
        self._failed: int | None = None
        self._known = (-1, 0, 0)
        # A leap that is cut gives the noise that was drawn for it back.
        self._take_back = cost.take_back if isinstance(cost, RedrawnCost) else None
        self._tell = tell = self._serve(begin).send
        self._wake = lambda due: tell(~due)
        tell(None)

    def send(self, row: int, now: int, emitted: int) -> None:
        """The router sends it a request, which has emitted so many tokens elsewhere; told in order of time."""
        number, at = self.number, now + self._there
        self.requests.append(row, at, emitted)
        self._outstanding[number] += 1
        self._queue[number] += 1
        if self._counts:
            self._count(row)
        if self._door:
            heappush(self._clock.alarms, (at, COMING + self._serial, self._come))
        if self._next == NEVER:
            self._next = at
            # A name of its own: CPython is slow to call an attribute that is no method.
            tell = self._tell
            tell(None)

    def drain(self, now: int) -> None:
        """Nothing will be sent to it any more."""
        self._drained = True
        self.close(now)

    def close(self, now: int) -> None:
        """Nobody comes before somebody has been answered: a policy that waits for company starts what is there."""
        if self._next == NEVER:
            self._engine.close()
            if self._rests and self._engine.waiting:
                self._decide_by(now)

    def busy(self, now: int) -> int:
        """For how long it has worked so far."""
        return now - self._idle - (0 if self._since == NEVER else now - self._since)

    # Serve.

    def _serve(self, begin: int) -> Generator[None, int | None, None]:
        engine, cost, terms = self._engine, self._cost, self._terms
        plan, complete, step, leap, append = engine.plan, engine.complete, cost.step, cost.leap, self.leaps.append
        alarms, end, tell = self._clock.alarms, END + self._serial, self._tell
        longest_leap, delays, start, move = terms.longest_leap, terms.delays, terms.delays.start, terms.delays.move
        outstanding, queue, number, counts = self._outstanding, self._queue, self.number, self._counts
        door, waits, per_row = self._door, terms.hear is not None, delays.response_per_row
        shows_use, pieces = terms.shows_use, Pieces(cost, self.requests.output)
        prefilled = begin
        now = yield from self._pause(begin, begin)
        while True:
            if self._next <= now:
                self._take(now)
            elif waits:
                self._open_or_closed()
            work = plan(now)
            if shows_use:
                self._show_use(work)
            if type(work) is Wait:
                now = yield from self._rest(work, now)
                continue
            prefill_rows, context, longest = work.prefill_rows, work.context, work.longest
            rows = after = work.decode_rows + work.held_rows
            steps = work.steps if work.steps < longest_leap else longest_leap
            tokens, deepest, first = context, longest, 0
            if prefill_rows or work.moved:
                first = step(work)
                if work.moved:
                    first += move * work.moved
                if prefill_rows:
                    if start and not rows:
                        first += start(now - prefilled)
                    prefilled = now
                # Everybody has one more token in the cache, and the new rows decode too.
                deepest = longest + 1 if longest >= work.widest else work.widest
                after += prefill_rows
                tokens += rows + work.new_tokens + work.prefill_context
            path: Sequence[int] = ()
            shrinks = False
            if work.path:
                if prefill_rows:
                    pieces.start([i for i, _ in engine.prefill])
                path = pieces.ends(steps, now, first, (after, tokens, deepest))
                done, total = len(path), path[-1] - now
            else:
                limit = self._next - now if work.cut else UNLIMITED
                if door:
                    limit = min(limit, door.expires - now)
                if not first:
                    done, total = leap(after, tokens, deepest, steps, limit)
                elif steps == 1 or first >= limit:
                    done, total = 1, first
                else:
                    done, total = leap(after, tokens, deepest, steps - 1, limit - first)
                    done += 1
                    total += first
                shrinks = done > 1 and work.cut and self._next == NEVER
                if door and not work.cut:
                    door.batch_goes_on(done)
            due = now + total
            heappush(alarms, (due, end, tell))
            while (told := (yield)) != due:
                if told is not None:
                    continue
                if self._failed is not None:
                    self._break_off(work, now, first, done, (after, tokens, deepest), path, self._failed)
                    return
                if shrinks and self._next < due:
                    shrinks = False
                    done, total = self._cut(now, first, steps, (after, tokens, deepest))
                    if now + total < due:
                        due = now + total
                        heappush(alarms, (due, end, tell))
            if work.paused or work.prefill_context or prefill_rows != work.admitted:
                self._mark(work)
            append(leap_row(now, done, first, total, work.admitted, rows, context, longest))
            ended = complete(done, now + first, due, path)
            now = due
            if left := engine.left:
                self.last = now
                outstanding[number] -= len(left)
                if counts:
                    self._gone(left, now + per_row * after)
            if freed := engine.freed:
                queue[number] -= len(freed)
            if ended or door or waits:
                ended += self._settle(door, now, per_row * after) if door else 0
                pause = delays.handover + delays.handover_per_request * ended if ended else 0
                if pause or waits:
                    now = yield from self._pause(now, now + pause)

    def _take(self, now: int) -> None:
        arrival, tail = self.requests.arrival, self._tail + 1
        while (coming := arrival[tail]) <= now:
            tail += 1
        self._tail, self._next = tail, coming
        self._engine.submit(tail)
        if self._engine.refused:
            self._refused(now)
        if coming == NEVER and (self._drained or self._signals.closed):
            self._engine.close()

    def _close_if_last(self) -> None:
        if self._next == NEVER and (self._drained or self._signals.closed):
            self._engine.close()

    def _open_or_closed(self) -> None:
        """As it is now, where that changes with the answers of others."""
        self._engine.submit(self._tail)
        self._close_if_last()

    def _refused(self, now: int) -> None:
        """Some have left as they came."""
        self.last, refused = now, self._engine.refused
        self._outstanding[self.number] -= len(refused)
        self._queue[self.number] -= len(refused)
        if self._counts:
            self._gone(refused, now)
        refused.clear()

    def _decide_by(self, due: int) -> None:
        """It decides at ``due``, if that is earlier than what it waits for."""
        if due < self._due:
            self._due = due
            heappush(self._clock.alarms, (due, DECISION + self._serial, self._wake))

    def _pause(self, now: int, until: int) -> Generator[None, int | None, int]:
        """Nothing is decided before; returns when it is over."""
        self._due, self._since = NEVER, now
        self._decide_by(until)
        while (yield) != ~until:
            pass
        return self._worked_again(until)

    def _rest(self, wait: Wait, now: int) -> Generator[None, int | None, int]:
        """Nothing is started before somebody comes, or time is up; returns when that is."""
        engine, delays = self._engine, self._terms.delays
        self._rests, self._due, self._since = True, NEVER, now
        if wait.until is not None and (engine.waiting or not engine.closed):
            self._decide_by(wait.until + delays.timer_late)
        if self._door:
            self._decide_by(self._door.expires)
        told, called = None, False
        while told != ~self._due:
            # Whoever comes first wakes it, also if it is turned away: who comes later finds it waking up.
            if told is None and not called and self._next != NEVER:
                called = True
                self._decide_by(self._next + (delays.wake(self._next - now) if delays.wake else 0))
            told = yield
        self._rests = False
        return self._worked_again(self._due)

    def _worked_again(self, now: int) -> int:
        self._idle, self._since = self._idle + now - self._since, NEVER
        return now

    def _cut(self, start: int, first: int, steps: int, after: _After) -> tuple[int, int]:
        """The work under way, of at most ``steps``, stops at or after the coming of the next request. No more of
        it than that has been done: returns how many steps, and how long they take."""
        limit = self._next - start
        if first >= limit:
            if self._take_back:
                self._take_back()
            return 1, first
        if not first:
            return self._again(after, steps, limit)
        done, total = self._again(after, steps - 1, limit - first)
        return done + 1, first + total

    def _again(self, after: _After, steps: int, limit: int) -> tuple[int, int]:
        """The decode steps of the work under way, priced once more."""
        if self._take_back:
            self._take_back()
        return self._cost.leap(*after, steps, limit)

    def _mark(self, work: Work) -> None:
        """What else there is to be said of the leap that is appended next."""
        if work.paused:
            self.leaps.add_pause(work.paused)
        if work.prefill_context or work.prefill_rows != work.admitted:
            self.leaps.add_chunks((work.prefill_rows, work.new_tokens, work.prefill_context, work.widest))

    # What is not always wanted.

    def _count(self, row: int) -> None:
        """One more has been sent, the last of ``requests``."""
        if self._here is not None:
            self._here.add(len(self.requests.rows) - 1)
        if expected := self._terms.expected:
            self._signals.tokens[self.number] += expected[row]

    def _show_use(self, work: Work | Wait) -> None:
        """Of memory, if somebody has come, has a seat or has lost one since it was shown last: whoever has come or left
        is known by numbers that only grow."""
        engine = self._engine
        assert isinstance(engine, PagedEngine)
        starts = not isinstance(work, Wait) and work.prefill_rows > 0
        known = (self._tail, engine.running, self.last)
        if starts or known != self._known:
            self._known = known
            self._signals.kv_use[self.number] = 1 - engine.free_blocks / engine.total_blocks

    def _gone(self, left: Sequence[int], at: int) -> None:
        """These have left, and what the server says of it goes to their clients from ``at`` on."""
        self._uncount(left)
        for request in sorted(left):
            self._tells(request, at, True)

    def _uncount(self, left: Sequence[int]) -> None:
        if self._here is not None:
            self._here.difference_update(left)
        if expected := self._terms.expected:
            rows = self.requests.rows
            self._signals.tokens[self.number] -= sum([expected[rows[i]] for i in left])

    # Its door, where it has one.

    def _come(self, now: int) -> None:
        """Somebody is at the door."""
        assert self._door
        request, self._tail = self._tail, self._tail + 1
        self._next = self.requests.arrival[self._tail]
        gives_up = self._door.come(request, now)
        if gives_up is not None:
            heappush(self._clock.alarms, (gives_up, GIVING_UP + self._serial, self._give_up))
        self._close_if_last()
        self._queue[self.number] = self._in_queue()

    def _give_up(self, now: int) -> None:
        """Somebody may lose patience."""
        assert self._door
        self._door.give_up(now)
        self._queue[self.number] = self._in_queue()

    def _leaves(self, request: int, at: int) -> None:
        """It has been turned away, or has given up."""
        self.last = max(self.last, at)
        self._outstanding[self.number] -= 1
        if self._counts:
            self._uncount((request,))

    def _tells(self, request: int, at: int, by_server: bool) -> None:
        """Its client knows of it."""
        if hear := self._terms.hear:
            hear(self.requests.rows[request], at + self._terms.back if by_server else at)

    def _in_queue(self) -> int:
        return len(self.requests.rows) - self._tail + self._engine.waiting + self._engine.running

    def _settle(self, door: Door, now: int, late: int) -> int:
        """The step under way has ended, for those too who gave up meanwhile; returns how many were in the batch that
        this ended."""
        ended = door.settle(now)
        if ended and (left := self._engine.left):
            self.last = now
            self._outstanding[self.number] -= len(left)
            if self._counts:
                self._gone(left, now + late)
        self._queue[self.number] = self._in_queue()
        return ended

    # A failure.

    def fail(self, now: int) -> list[tuple[int, int]]:
        """It is gone, with the step under way; steps that would have ended at this instant have not.

        Returns ``(row, emitted tokens)`` of all whose answers are not whole, in order of coming.
        """
        assert self._here is not None
        self._failed = now
        with suppress(StopIteration):
            self._tell(None)
        self._clock.forget(*(place + self._serial for place in (COMING, GIVING_UP, END, DECISION)))
        unfinished = sorted(self._here)
        leaps = self.leaps.columns()
        self.requests.count = len(self.requests.rows)
        write_off(self.requests, unfinished, int(leaps["admitted"].sum()), now)
        tokens = emitted(self._engine, self.requests, unfinished, leaps, with_batch=self._terms.with_batch)
        for signal in (self._outstanding, self._signals.tokens, self._queue):
            signal[self.number] = 0
        return [(self.requests.rows[i], count) for i, count in zip(unfinished, tokens, strict=True)]

    def _break_off(
        self, work: Work, start: int, first: int, done: int, after: _After, path: Sequence[int], now: int
    ) -> None:
        """Keep the steps of the work under way that ended before ``now``: nobody's last token came with them."""
        done, end = ended_before(now, start, first, done, path, partial(self._again, after))
        if done:
            self._mark(work)
            rows = work.decode_rows + work.held_rows
            self.leaps.append(
                leap_row(start, done, first, end - start, work.admitted, rows, work.context, work.longest)
            )
            self._engine.complete(done, start + first, end, path[:done])
