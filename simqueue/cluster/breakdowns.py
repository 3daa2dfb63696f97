"""Failures at work on one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from simqueue.cluster.callers import Callers
from simqueue.cluster.drive import Dispatcher


class Breakdowns:
    """Takes replicas away and brings them back.

    Args:
        spans: of each replica ``(up, down)`` in ticks, from taking requests to a failure, and from it to the next time.
        then: see `simqueue.cluster.failures.Failures`.
        callers: who wait, and know at once of what has been lost; None: nobody does.
    """

    def __init__(self, spans: Sequence[Iterator[tuple[int, int]]], then: str, callers: Callers | None) -> None:
        self._spans, self._then, self._callers = spans, then, callers
        # Of those whose answers go on elsewhere: tokens so far.
        self._emitted = Counter[int]()

    def begin(self, dispatcher: Dispatcher) -> None:
        """Plan the first failure of each."""
        self._dispatcher = dispatcher
        for number in dispatcher.up:
            self._plan(number, 0)

    def _plan(self, number: int, now: int) -> None:
        if span := next(self._spans[number], None):
            up, down = span
            self._dispatcher.plan(now + up, lambda at: self._fail(number, at, down))

    def _fail(self, number: int, now: int, down: int) -> None:
        self._dispatcher.plan(now + down, lambda at: self._come_back(number, at, now))
        unfinished = self._dispatcher.take_away(number, now).fail(now)
        for row, emitted in unfinished:
            if self._then == "resumed":
                self._emitted[row] += emitted
            if self._then != "lost":
                self._dispatcher.send(row, now, self._emitted[row])
            elif self._callers:
                self._callers.hear(row, now)

    def _come_back(self, number: int, now: int, since: int) -> None:
        self._dispatcher.bring(number, now, since)
        self._plan(number, now)
