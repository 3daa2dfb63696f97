"""The door of one replica of a cluster, at which everything happens at its own instant."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from simqueue.cluster.inbox import Inbox
from simqueue.record import NEVER
from simqueue.replica import Core
from simqueue.sim.door import Limits


class Door:
    """Who comes in, who is turned away, and whose client gives up: the rules of `simqueue.sim.door`, at once.

    There what happened during a piece of work is caught up with when that has ended. Here a router looks at the replica
    in the middle of it, and who has been turned away or has given up may come to the router again.

    Whoever gives up in a seat keeps it, and is there, until the step under way has ended.

    Args:
        gone: is told ``(request, when)`` of who is there no more.
        tell: is told ``(request, when, whether by the server)`` when a client knows that there will be no answer.
    """

    def __init__(
        self,
        engine: Core,
        requests: Inbox,
        limits: Limits,
        gone: Callable[[int, int], None],
        tell: Callable[[int, int, bool], None],
    ) -> None:
        self._engine, self._requests, self._limits = engine, requests, limits
        self._gone, self._tell = gone, tell
        # Of all who had no first token when they were last looked at: when they give up.
        self._expiring: list[tuple[int, int]] = []
        # Who has given up in a seat during the step under way, and when.
        self._leaving: list[tuple[int, int]] = []
        # Of a batch whose answers leave together: who is in it, and its age when the work under way ends.
        self._batch: list[int] = []
        self._age = 0

    @property
    def expires(self) -> int:
        """When the next one gives up who has no first token yet; asked between two pieces of work."""
        expiring, answered = self._expiring, self._engine.answered
        while expiring and answered(expiring[0][1]):
            heappop(expiring)
        return expiring[0][0] if expiring else NEVER

    def come(self, request: int, at: int) -> int | None:
        """One comes to the queue, the next in order; returns when its client gives up, if that is to be seen."""
        engine, patience = self._engine, self._requests.patience
        full = self._is_full(at)
        engine.submit(request + 1)
        if full and not engine.refused:
            engine.refuse(request)
        if engine.refused:
            engine.refused.clear()
            self._gone(request, at)
            self._tell(request, at, True)
        elif patience is not None and patience[request] != NEVER:
            heappush(self._expiring, (at + patience[request], request))
            return at + patience[request]
        return None

    def _is_full(self, at: int) -> bool:
        queue, ttft = self._limits
        return (queue is not None and self._engine.waiting >= queue) or (
            ttft is not None and self._engine.longest_wait(at) > ttft
        )

    def batch_goes_on(self, steps: int) -> None:
        """The work that begins is so many steps of a batch that runs to completion."""
        if starts := self._engine.prefill:
            self._batch, self._age = [i for i, _ in starts], 0
        self._age += steps

    def _batch_ends(self) -> bool:
        """Whether all who are still there have all their tokens when the work under way ends."""
        output, finished, leaving = self._requests.output, self._requests.finished, {i for _, i in self._leaving}
        return all(output[i] <= self._age or finished[i] >= 0 or i in leaving for i in self._batch)

    def give_up(self, now: int) -> None:
        """The next one whose patience ends now, if there is any."""
        if self._expiring and self._expiring[0][0] <= now:
            self._gives_up(*heappop(self._expiring))

    def _gives_up(self, at: int, request: int) -> None:
        engine = self._engine
        in_batch = engine.in_batch(request)
        if request in engine.prefilling or (in_batch and not self._batch_ends()):
            self._leaving.append((at, request))
        elif in_batch or engine.answered(request) or request in getattr(engine, "seats", ()):
            return  # The step under way brings the first token, or it is there.
        else:
            self._leave(at, request, at)
        self._tell(request, at, False)

    def settle(self, now: int) -> int:
        """The step under way has ended: whoever gave up meanwhile leaves its seat. Returns how many were in the batch
        that this ended, who else was in it being in ``engine.left``; 0 if none has."""
        ended = 0
        for at, request in self._leaving:
            in_batch = self._engine.in_batch(request)
            self._leave(at, request, now if in_batch else at)
            if in_batch:
                ended = len(self._engine.freed)
        self._leaving.clear()
        return ended

    def _leave(self, at: int, request: int, when: int) -> None:
        self._engine.cancel(request, when)
        self._requests.finished[request] = at
        self._requests.outcome[request] = "abandoned"
        self._gone(request, when)
