"""Failures at work on one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from simqueue.cluster.callers import Callers
from simqueue.cluster.drive import Dispatcher
from simqueue.cluster.failures import MOST_FAILURES
from simqueue.errors import ConfigError

# So often may requests be sent again in one run: 100 times each in the mean, but no more than memory holds.
_AGAIN_EACH, _AGAIN_LEAST, _AGAIN_MOST = 100, 1_000, 10_000_000


class Breakdowns:
    """Takes replicas away and brings them back.

    Args:
        requests: how many there are in the run.
        spans: of each replica ``(up, down)`` in ticks, from taking requests to a failure, and from it to the next time.
        then: see `simqueue.cluster.failures.Failures`.
        callers: who wait, and know at once of what has been lost; None: nobody does.
    """

    def __init__(
        self, requests: int, spans: Sequence[Iterator[tuple[int, int]]], then: str, callers: Callers | None
    ) -> None:
        self._most_again = min(_AGAIN_MOST, _AGAIN_LEAST + _AGAIN_EACH * requests)
        self._failed = self._again = 0
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
        self._count(len(unfinished))
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

    def _count(self, unfinished: int) -> None:
        """One more has failed. Raises ConfigError where that would never end."""
        self._failed += 1
        self._again += 0 if self._then == "lost" else unfinished
        if self._again > self._most_again:
            raise ConfigError(
                f"failures: requests have been sent again {self._again:,} times after {self._failed:,} failures, for "
                'replicas fail before their work is done: give a longer mean_up_s, or then = "lost"'
            )
        if self._failed > MOST_FAILURES:
            raise ConfigError(
                f"failures: there were more than {MOST_FAILURES:,}, and not all requests have been answered: "
                "give a longer mean_up_s"
            )
