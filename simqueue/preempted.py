"""Who has lost a seat: in which order they come back, and what is remembered of them."""

from __future__ import annotations

from collections import deque

from simqueue.record import Requests


class Past:
    """What a request has been through before its present seat, or the one that it waits for.

    Attributes:
        emitted: output tokens when it last lost its seat.
        lost: computed tokens that were dropped and are to be computed again.
        left: steps that it still decodes, where its cache is there, on the host, or has come with it; else None.
        since: when it lost its seat, or was left out of a step, if it has not answered since; else None.
        again: when it had a seat again, if it has lost it.
    """

    __slots__ = ("again", "emitted", "left", "lost", "since")

    def __init__(self, left: int | None = None) -> None:
        self.emitted = self.lost = 0
        self.left = left
        self.since: int | None = None
        self.again: int | None = None


class Preempted:
    """A sparse memory: most requests never lose a seat.

    Attributes:
        line: who waits for another seat, in the order in which they come back unless the policy picks.
        past: by request, of whoever has one.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self.line: deque[int] = deque()
        self.past: dict[int, Past] = {}

    def emitted(self, request: int) -> int:
        """Output tokens when it last lost a seat."""
        past = self.past.get(request)
        return past.emitted if past else 0

    def waits(self, request: int) -> bool:
        """Of a waiting request, whether it has run before."""
        past = self.past.get(request)
        return past is not None and past.since is not None

    def left(self, request: int) -> int | None:
        """Steps that a waiting request still decodes, whose cache is not to be computed; None for others."""
        past = self.past.get(request)
        return past.left if past else None

    def interrupt(self, request: int, now: int) -> Past:
        """It does not go on decoding, or prefilling."""
        past = self.past.get(request)
        if past is None:
            past = self.past[request] = Past()
        if past.since is None:
            past.since = now
        return past

    def seat(self, request: int, now: int) -> None:
        """One of the line has a seat again."""
        self.line.remove(request)
        self.past[request].again = now

    def answer(self, request: int, now: int, at: int) -> None:
        """At ``at`` comes the first token since it was preempted, or left out of a step; ``now``: when the step began
        that brings it."""
        past = self.past[request]
        assert past.since is not None
        again = now if past.again is None else past.again
        self._requests.spells.append((request, past.since, again, at))
        past.since = past.again = None

    def comes_back(self, request: int, now: int, at: int) -> bool:
        """A prompt is whole at ``at``. Returns whether it had emitted tokens before; else what was is no spell."""
        past = self.past.get(request)
        if past is None:
            return False
        if past.emitted:
            self.answer(request, now, at)
            return True
        past.since = past.again = None
        return False
