"""The door of a server in virtual time: who comes in, who is turned away, whose client gives up."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from simqueue.engine import Engine
from simqueue.paged import PagedEngine
from simqueue.record import NEVER, Requests
from simqueue.source import Columns, Source


class Limits(NamedTuple):
    """What `simqueue.Admission` refuses: a request that finds so many waiting, or one whose predicted TTFT is more
    than so many ticks."""

    queue: int | None = None
    ttft: int | None = None


class Door:
    """Stands between a source and an engine, and is caught up with when the engine is free.

    Whatever happened since the last time happens in its order, each at its own instant; at one instant requests come
    first, in order of id, then the policy turns some away, then clients give up, then answers are heard, and then
    whatever those cause. Nobody is
    admitted between two decisions, so that everybody meets the queue as it was at that instant.

    Whoever has waited ``requests.patience`` ticks for the first token gives up at that instant, unless the step that is
    under way then brings it.
    """

    def __init__(self, engine: Engine | PagedEngine, requests: Requests, source: Source, limits: Limits) -> None:
        self._engine, self._requests, self._source, self._limits = engine, requests, source, limits
        self._loops = not isinstance(source, Columns)
        self._patience = requests.patience
        # Of all who had no first token when they were last looked at: when they give up.
        self._expiring: list[tuple[int, int]] = []
        # A batch that has ended since somebody gave up: how many it had, and who is answered with it.
        self._ended = 0
        self._left: list[int] = []

    @property
    def expires(self) -> int:
        """When the next one gives up who has no first token yet; `NEVER` if nobody does."""
        expiring, answered = self._expiring, self._engine.answered
        while expiring and answered(expiring[0][1]):
            heappop(expiring)
        return expiring[0][0] if expiring else NEVER

    @property
    def next(self) -> int:
        """When something happens here next, if nobody is answered before."""
        return min(self._source.next, self._engine.looks, self.expires)

    def catch_up(self, now: int, left: Iterable[tuple[int, int]] = (), back: int = 0) -> int:
        """All up to and including ``now`` has happened; called between two pieces of work.

        ``left``: ``(when, request)`` of the answers that have left the server since the last time, in order, each heard
        ``back`` later. Returns how many requests a run-to-completion batch had that has ended since everybody in it
        whose tokens were to come has given up; 0 if none has.
        """
        self._ended = 0
        for at, request in left:
            self._happens(at, now)
            self._source.hear(request, at + back)
        self._happens(now, now)
        for request in self._left:
            self._source.hear(request, now + back)
        self._left = []
        self._open_or_close()
        return self._ended

    def decided(self) -> None:
        """Whom the policy has turned away in a decision hears of it."""
        self._tell_refused()
        self._open_or_close()

    def _tell_refused(self) -> None:
        refused, finished = self._engine.refused, self._requests.finished
        if refused:
            for at, request in sorted((finished[i], i) for i in refused):
                self._source.hear(request, at)
            refused.clear()

    def _open_or_close(self) -> None:
        engine = self._engine
        engine.submit(engine.arrived)
        if self._loops and self._source.next == NEVER:
            engine.close()

    def _happens(self, until: int, now: int) -> None:
        source, engine = self._source, self._engine
        while True:
            comes, looks, gives_up = source.next, engine.looks, self.expires
            if comes <= min(until, looks, gives_up):
                self._come(comes)
            elif looks <= min(until, gives_up):
                self._look(looks)
            elif gives_up <= until:
                self._give_up(*heappop(self._expiring), now)
            else:
                return

    def _look(self, at: int) -> None:
        self._engine.look(at)
        self._tell_refused()

    def _come(self, at: int) -> None:
        engine, patience = self._engine, self._patience
        for request in range(engine.arrived, self._source.take(at)):
            full = self._is_full(at)
            engine.submit(request + 1)
            if full and not engine.refused:
                engine.refuse(request)
            if engine.refused:
                engine.refused.clear()
                self._source.hear(request, at)
            elif patience is not None and patience[request] != NEVER:
                heappush(self._expiring, (at + patience[request], request))
        self._look(at)

    def _is_full(self, at: int) -> bool:
        queue, ttft = self._limits
        return (queue is not None and self._engine.waiting >= queue) or (
            ttft is not None and self._engine.longest_wait(at) > ttft
        )

    def _give_up(self, at: int, request: int, now: int) -> None:
        engine, requests = self._engine, self._requests
        in_batch = engine.in_batch(request)
        # A batch that this ends does so with the step under way, and then the others are answered.
        engine.cancel(request, now if in_batch else at)
        if in_batch:
            self._ended, self._left = len(engine.freed), list(engine.left)
        requests.finished[request] = at
        requests.outcome[request] = "abandoned"
        self._source.lose(request, at)
