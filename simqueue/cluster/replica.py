"""One replica of a cluster in virtual time: leaps that are cut when a request is sent to it, and at no other time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
import simpy

from simqueue.cluster.inbox import Inbox, write_off
from simqueue.cluster.redraw import RedrawnCost
from simqueue.cost.base import UNLIMITED, Timing
from simqueue.cost.noise import path_of
from simqueue.engine import Engine
from simqueue.paged import PagedEngine
from simqueue.plan import Wait, Work
from simqueue.record import NEVER, Column, Leaps, settle
from simqueue.sim.driver import Delays


class Signals:
    """What a replica shows to routers at this instant: see `simqueue.cluster.fleet.View`."""

    def __init__(self, replicas: int) -> None:
        self.ready: Sequence[int] = range(replicas)
        self.outstanding = [0] * replicas
        self.tokens = [0] * replicas
        self.queue = [0] * replicas


class Replica:
    """Its engine, what is on its way to it, and the piece of work that it does.

    It is asked for plans and does them as `simqueue.sim.driver` does, but for two things. A request that is sent to it
    may cut the leap under way, at the first step boundary at or after its coming to the queue. And work in which
    requests finish on the way is done piece by piece from finish to finish, so that whoever looks sees each of them
    at its own instant.

    Args:
        env: the clock of the cluster, in ticks.
        number: its place in ``signals``, which it keeps up to date.
        with_batch: answers leave when their batch ends.
        there: ticks from the router to its queue.
        expected: by row of the workload, the tokens that a request counts as.
        longest_leap: at most so many steps an event, with the same result.
        begin: when it is there, empty.

    Attributes:
        requests: what was sent to it, with ids of its own; ``rows``: their rows in the workload.
        leaps: what it did.
        last: when the last answer left.
    """

    def __init__(
        self,
        env: simpy.Environment,
        number: int,
        signals: Signals,
        engine: Engine | PagedEngine,
        requests: Inbox,
        with_batch: bool,
        cost: Timing,
        delays: Delays,
        there: int,
        expected: Sequence[int],
        longest_leap: int,
        begin: int,
    ) -> None:
        self.requests, self.leaps = requests, Leaps()
        self.rows: list[int] = []
        self.last = begin
        self._worked = 0
        self._here: set[int] = set()
        self.number, self._env, self._signals = number, env, signals
        self._engine, self._cost, self._delays = engine, cost, delays
        self._with_batch = with_batch
        self._take_back = cost.take_back if isinstance(cost, RedrawnCost) else None
        self._there, self._expected, self._longest_leap = there, expected, longest_leap
        # The queue: how many have come to it, when the next one comes, and whether no more will be sent.
        self._tail, self._next, self._closed = 0, NEVER, False
        # What it waits for: the alarm that counts, and its instant.
        self._alarm: simpy.Event | None = None
        self._due: int = NEVER
        # Rest, or work: its plan, when it began, how long its first step takes if that prefills, and what comes after.
        self._work: Work | None = None
        self._rests, self._since = False, 0
        self._start = self._first = self._steps = self._done = 0
        self._prefilled = begin
        self._after = (0, 0, 0)
        self._path: Sequence[int] = ()
        self._may_shrink = False
        # Of a batch in which requests finish on the way: their lengths from the last to finish on, and its age.
        self._finishes: list[int] = []
        self._age = 0
        self._ring(begin)

    def send(self, row: int, now: int, emitted: int) -> None:
        """The router sends it a request, which has emitted so many tokens elsewhere; told in order of time."""
        number, signals, at = self.number, self._signals, now + self._there
        self._here.add(len(self.rows))
        self.requests.append(row, at, emitted)
        self.rows.append(row)
        signals.outstanding[number] += 1
        signals.tokens[number] += self._expected[row]
        signals.queue[number] += 1
        if self._next != NEVER:
            return
        self._next = at
        if self._rests:
            wake = self._delays.wake
            self._ring_by(at + wake(at - self._since) if wake else at)
        elif self._may_shrink and at < self._due:
            self._cut(at)

    def close(self, now: int) -> None:
        """Nothing will be sent to it any more: a policy that waits for company starts what is there."""
        self._closed = True
        if self._next == NEVER:
            self._engine.close()
            if self._rests and self._engine.waiting:
                self._ring_by(now)

    def busy(self, now: int) -> int:
        """For how long it has worked so far."""
        return self._worked + (now - self._start if self._work is not None else 0)

    def fail(self, now: int) -> list[tuple[int, int]]:
        """It is gone, with the step under way; steps that would have ended at this instant have not.

        Returns ``(row, emitted tokens)`` of all whose answers are not whole, in order of coming.
        """
        self._alarm = None
        if self._work is not None:
            self._break_off(self._work, now)
        unfinished = sorted(self._here)
        leaps = self.leaps.columns()
        self.requests.count = len(self.rows)
        write_off(self.requests, unfinished, int(leaps["admitted"].sum()), now)
        emitted = self._emitted(unfinished, leaps)
        for signal in (self._signals.outstanding, self._signals.tokens, self._signals.queue):
            signal[self.number] = 0
        return [(self.rows[i], tokens) for i, tokens in zip(unfinished, emitted, strict=True)]

    # The alarm.

    def _ring_by(self, due: int) -> None:
        """Wake up at ``due``, if that is earlier than what it waits for."""
        if due < self._due:
            self._ring(due)

    def _ring(self, due: int) -> None:
        env = self._env
        self._due = due
        self._alarm = alarm = simpy.Timeout(env, due - env.now)
        alarm.callbacks.append(self._wake)

    def _wake(self, alarm: simpy.Event) -> None:
        if alarm is not self._alarm:
            return  # It was due later, before a leap was cut or a request came.
        now = self._due
        if self._work is not None:
            pause = self._finish(self._work, now)
            if pause:
                self._ring(now + pause)
                return
        self._decide(now)

    # Decide, rest or work.

    def _decide(self, now: int) -> None:
        if self._next <= now:
            self._take(now)
        work = self._engine.plan(now)
        if isinstance(work, Wait):
            self._rest(work, now)
        else:
            self._begin(work, now)

    def _take(self, now: int) -> None:
        arrival, tail = self.requests.arrival, self._tail
        while arrival[tail] <= now:
            tail += 1
        self._tail, self._next = tail, arrival[tail]
        engine = self._engine
        engine.submit(tail)
        if engine.refused:
            self._tell(engine.refused)
            engine.refused.clear()
        if self._closed and self._next == NEVER:
            engine.close()

    def _rest(self, wait: Wait, now: int) -> None:
        engine, delays = self._engine, self._delays
        self._rests, self._since = True, now
        self._due = due = NEVER
        if self._next != NEVER:
            due = self._next + (delays.wake(self._next - now) if delays.wake else 0)
        if wait.until is not None and (engine.waiting or not engine.closed):
            due = min(due, wait.until + delays.timer_late)
        if due != NEVER:
            self._ring(due)

    def _begin(self, work: Work, now: int) -> None:
        self._work, self._rests, self._start = work, False, now
        rows, prefill_rows = work.decode_rows + work.held_rows, work.prefill_rows
        context, longest = work.context, work.longest
        steps = work.steps if work.steps < self._longest_leap else self._longest_leap
        if work.path:
            steps = min(steps, self._next_finish(prefill_rows))
        self._first = 0
        if prefill_rows or work.moved:
            self._first = self._cost.step(work) + self._delays.move * work.moved
            if prefill_rows:
                if not rows and self._delays.start:
                    self._first += self._delays.start(now - self._prefilled)
                self._prefilled = now
            # Everybody has one more token in the cache, and the new rows decode too.
            longest = longest + 1 if longest >= work.widest else work.widest
            rows, context = rows + prefill_rows, context + rows + work.new_tokens
        self._steps, self._after = steps, (rows, context, longest)
        if work.path:
            self._ring(now + self._whole_path())
        else:
            limit = self._next - now if work.cut else UNLIMITED
            self._ring(now + self._leap(limit))
            self._may_shrink = work.cut and self._next == NEVER and self._done > 1

    def _leap(self, limit: int) -> int:
        """How long the work takes if it stops at the first step boundary at or after ``limit``."""
        steps, first = self._steps, self._first
        if not first:
            self._done, total = self._cost.leap(*self._after, steps, limit)
            return total
        if steps == 1 or first >= limit:
            self._done = 1
            return first
        done, total = self._cost.leap(*self._after, steps - 1, limit - first)
        self._done = done + 1
        return first + total

    def _cut(self, at: int) -> None:
        """The work under way, of which no more than was needed has been done, stops at or after ``at``."""
        self._may_shrink = False
        if self._take_back:
            self._take_back()
        self._ring_by(self._start + self._leap(at - self._start))

    def _break_off(self, work: Work, now: int) -> None:
        """Keep the steps of the work under way that ended before ``now``."""
        done, end = self._ended_before(now)
        self._done, self._path = done, self._path[:done]
        if done:
            self._finish(work, end)

    def _ended_before(self, now: int) -> tuple[int, int]:
        """How many of its steps, and when the last of them ended."""
        if self._path:
            done = bisect_left(self._path, now)
            return done, self._path[done - 1]
        first, limit = self._first, now - self._start
        if first and (self._done == 1 or first >= limit):
            return 0, self._start
        begun = 1 if first else 0
        further = self._again(self._done - begun, limit - first)[0] - 1
        return begun + further, self._start + first + (self._again(further, UNLIMITED)[1] if further else 0)

    def _again(self, steps: int, limit: int) -> tuple[int, int]:
        """The decode steps of the work under way once more."""
        if self._take_back:
            self._take_back()
        return self._cost.leap(*self._after, steps, limit)

    def _emitted(self, unfinished: Sequence[int], leaps: Mapping[str, Column]) -> list[int]:
        """Tokens that have left of each of these: whoever decodes emits one in every step."""
        engine = self._engine
        if isinstance(engine, PagedEngine):
            return [engine.emitted(i) for i in unfinished]
        if self._with_batch:
            return [0] * len(unfinished)
        _, first_token, _ = settle(self.requests, dict(leaps), with_batch=False)
        steps_from = np.append(np.cumsum(leaps["steps"][::-1])[::-1], 0)
        leap = np.searchsorted(leaps["start"] + leaps["first"], first_token[unfinished])
        return [int(tokens) for tokens in steps_from[leap]]

    def _next_finish(self, prefill_rows: int) -> int:
        """Steps until the next requests of the batch finish."""
        if prefill_rows:
            outputs = self.requests.output
            self._finishes = sorted((outputs[i] for i, _ in self._engine.prefill), reverse=True)
            self._age = 0
        while self._finishes[-1] <= self._age:
            self._finishes.pop()
        return self._finishes[-1] - self._age

    def _whole_path(self) -> int:
        """How long all steps take, whose ends are kept."""
        start, first, steps = self._start, self._first, self._steps
        begun = 1 if first else 0
        ends = path_of(self._cost, *self._after, steps - begun) if steps > begun else []
        self._path = [start + first, *(start + first + end for end in ends)][1 - begun :]
        self._done, self._may_shrink = steps, False
        self._age += steps
        return self._path[-1] - start

    def _finish(self, work: Work, now: int) -> int:
        """The work has ended; returns for how long nothing can follow it."""
        start, done, first = self._start, self._done, self._first
        self._work, self._may_shrink = None, False
        self._worked += now - start
        self._record(work, now)
        ended = self._engine.complete(done, start + first, now, self._path)
        self._path = ()
        self._tell(self._engine.left)
        delays = self._delays
        return delays.handover + delays.handover_per_request * ended if ended else 0

    def _record(self, work: Work, now: int) -> None:
        rows = work.decode_rows + work.held_rows
        if work.paused:
            self.leaps.add_pause()
        row = (self._start, self._done, self._first, now - self._start, work.admitted, rows, work.context, work.longest)
        if work.prefill_rows == work.admitted:
            self.leaps.add(row)
        else:
            chunks = (work.prefill_rows, work.new_tokens, work.prefill_context, work.widest)
            self.leaps.add_chunks(row, chunks)

    def _tell(self, left: Sequence[int]) -> None:
        """Bring the signals up to date; ``left``: who has left. Nothing but this and sending changes them."""
        number, signals, engine, rows = self.number, self._signals, self._engine, self.rows
        if left:
            expected = self._expected
            self._here.difference_update(left)
            self.last = self._due
            signals.outstanding[number] -= len(left)
            signals.tokens[number] -= sum([expected[rows[i]] for i in left])
        signals.queue[number] = len(rows) - self._tail + engine.waiting + engine.running
