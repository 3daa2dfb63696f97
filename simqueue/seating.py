"""Who takes a seat, loses it, and gets it back."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from simqueue.errors import InvariantError
from simqueue.kv import Blocks, Preemption
from simqueue.order import Order
from simqueue.policy.base import BatchingPolicy
from simqueue.record import Requests
from simqueue.seats import Seats
from simqueue.units import Grid

# A heap entry is one integer, ``key << ID_BITS | request id``: it compares faster than a pair.
ID_BITS = 32
ID_MASK = (1 << ID_BITS) - 1


class Seating(Seats):
    """What happens to seats, and to what they hold of the cache, in the step under way."""

    def __init__(
        self,
        policy: BatchingPolicy,
        requests: Requests,
        grid: Grid,
        blocks: Blocks,
        *,
        longest: int,
        track_extremes: bool,
        order: Order,
    ) -> None:
        super().__init__(policy, requests, grid, blocks, longest=longest, track_extremes=track_extremes, order=order)
        self._preemption: Preemption = getattr(policy, "preemption", "recompute")
        # Whose answers are whole, and whose rows leave the device.
        self.left: Sequence[int] = ()
        self.freed: Sequence[int] = ()
        # Rows that decode from the next step on, and their tokens then: who started from the head of the queue, and
        # what the prefix cache spares them; and of the others whose next token is to be noted.
        self._joined = self._joined_tokens = 0
        self._started: Sequence[int] = ()
        self._spared: dict[int, int] = {}
        self._joining: list[int] = []
        # Who starts on a cache that has come along, who decodes again, and who is left out, in this step and before it.
        self._adopting: list[int] = []
        self._resuming: list[int] = []
        self._skipping: list[int] = []
        self._skipped: list[int] = []
        # Whether all who decode hold what they compute, and nothing that others know of.
        self._grow = not (self._shares or self._tables.reserves)
        # Blocks that go to the host or come back.
        self._moved = 0

    # Who starts.

    def _admit_plain(self, admit: int) -> tuple[int, int, int]:
        """Returns tokens: new, cached, and at most new. Times of requests follow from the leap that this begins."""
        ids = self._admitted(admit)
        self.running += admit
        self._joined = admit
        clock, prompt, output, seats, heap = self._clock, self._prompt, self._output, self._seats, self._finishing
        tokens = widest = 0
        for i in ids:
            seats[i] = end = clock + output[i]
            heappush(heap, end << ID_BITS | i)
            length = prompt[i]
            tokens += length
            if length > widest:
                widest = length
            if self._extremes:
                heappush(self._deepest, (clock + 1 - length) << ID_BITS | i)
        self._started, self._joined_tokens = ids, tokens
        self._spared = spared = self._tables.start(ids, [prompt[i] for i in ids], clock) if self._limited else {}
        if not spared:
            return tokens, 0, widest
        self._requests.cached.update(spared)
        held = sum(spared.values())
        return tokens - held, held, max([prompt[i] - spared.get(i, 0) for i in ids])

    def _admit(self, request: int) -> int:
        """It has a seat from now on; returns the tokens it has to compute."""
        past = self._preempted.past.get(request)
        if past is not None and past.since is not None:
            if past.left is not None:
                raise InvariantError(f"the policy prefills request {request}, whose cache is there: resume it")
            self._sits_again(request)
        else:
            self._pick(request)
        if self._line is not None:
            self._line.take(request)
        known = self._prompt[request] + (past.emitted if past else 0)
        spared = self._tables.seat(request, known)
        if past is not None and past.lost:
            self._requests.recomputed[request] += max(0, past.lost - spared)
            past.lost = 0
        elif spared:
            self._requests.cached[request] = spared
        self._seats[request] = -1
        return known - spared

    def _sits_again(self, request: int) -> None:
        self._preempted.seat(request, self.now)
        self.waiting -= 1
        self.running += 1

    def _sit(self, request: int, born: int) -> None:
        """It decodes; ``born`` as in `Blocks`."""
        self._seats[request] = end = born + self._full(request)
        heappush(self._finishing, end << ID_BITS | request)
        self._tables.decode(request, born)
        if self._extremes:
            heappush(self._deepest, born << ID_BITS | request)

    # Who loses the seat.

    def _finish(self, end: int) -> None:
        """Who has all tokens leaves."""
        self.left = self.freed = left = []
        heap, seats, prompt, output = self._finishing, self._seats, self._prompt, self._output
        past, finished, beyond = self._preempted.past, self._finished, (self._clock + 1) << ID_BITS
        blocks, grew = self._blocks, self._grow
        while heap and heap[0] < beyond:
            entry = heappop(heap)
            i, at = entry & ID_MASK, entry >> ID_BITS
            if seats.get(i) != at:
                continue
            if self._line is not None:
                self._line.stop(i)
                self._stale = True
            del seats[i]
            full = prompt[i] + output[i] - 1
            self._context -= full
            if grew:
                blocks.end(at - full, full)
            else:
                self._tables.leave(i, at - full, full)
            finished[i] = end
            past.pop(i, None)
            left.append(i)
        self._decoding -= len(left)
        self.running -= len(left)

    def _vacate(self, request: int) -> None:
        """It loses its seat and its blocks."""
        born, computed = self._seats[request] - self._full(request), self._computed(request)
        self._stand(request)
        self._tables.leave(request, born, computed)

    def _stand(self, request: int) -> None:
        """It loses its seat."""
        if self._line is not None:
            self._line.stop(request)
            self._stale = True
        cached = self._computed(request)
        if self._seats.pop(request) < 0:
            del self.prefilling[request]
            return
        self._decoding -= 1
        self._context -= cached
        if len(self._finishing) > 64 + 2 * len(self._seats):
            self._finishing = [(end << ID_BITS) | i for i, end in self._seats.items() if end >= 0]
            heapify(self._finishing)

    def _lose_seat(self, request: int) -> None:
        if request not in self._seats:
            raise InvariantError(f"the policy preempts request {request}, which does not run")
        emitted, computed, end = self.emitted(request), self._computed(request), self._seats[request]
        # Whoever was left out before comes back in its own time.
        if request in self._skipped:
            self._skipped.remove(request)
        keeps = end >= 0 and self._preemption != "recompute"
        if keeps and self._preemption == "keep":
            self._stand(request)
            self._tables.keep(request, end - self._full(request), computed)
        else:
            self._move(self._blocks.of(computed) if keeps else 0)
            self._vacate(request)
        past = self._preempted.interrupt(request, self.now)
        past.emitted = emitted
        if keeps:
            past.left = end - self._clock
        else:
            past.lost += computed
        self._preempted.line.appendleft(request)
        if self._line is not None:
            self._line.join(request)
        self._requests.preemptions[request] += 1
        self.running -= 1
        self.waiting += 1

    def _move(self, blocks: int) -> None:
        """To the host, or back."""
        if self._preemption == "swap":
            self._moved += blocks

    # Who goes on.

    def _resume(self, request: int) -> None:
        """It decodes again, on the cache that it had."""
        past = self._preempted.past.get(request)
        if past is None or past.left is None:
            raise InvariantError(f"the policy resumes request {request}, whose cache is not there")
        left, past.left = past.left, None
        cached = self._full(request) - left
        self._move(self._tables.bring_back(request, cached))
        if self._line is not None:
            self._line.take(request)
        if past.since is not None:
            self._sits_again(request)
            self._resuming.append(request)
        else:
            self._pick(request)
        self._decoding += 1
        self._context += cached
        self._sit(request, self._clock - cached)

    def _skip(self, request: int) -> None:
        """It keeps its seat, and does not decode in this step."""
        end, full = self._seats.get(request, -1), self._full(request)
        if end < 0:
            raise InvariantError(f"the policy skips request {request}, which does not decode")
        self._decoding -= 1
        self._context -= self._computed(request)
        self._tables.pause(request, end - full)
        # The clock goes on without it.
        self._seats[request] = end + 1
        heappush(self._finishing, (end + 1) << ID_BITS | request)
        if self._extremes:
            heappush(self._deepest, (end + 1 - full) << ID_BITS | request)
        self._preempted.interrupt(request, self.now)
        self._skipping.append(request)

    def _stays(self, request: int) -> None:
        """The step that it did not decode in is over."""
        self._decoding += 1
        self._context += self._computed(request)
        self._tables.go_on(request, self._seats[request] - self._full(request))

    def _longest(self) -> int:
        """Most tokens in the cache of any decoding row: rows age together, so their order never changes."""
        deepest, seats = self._deepest, self._seats
        while deepest:
            i = deepest[0] & ID_MASK
            if seats.get(i, -1) >= 0 and seats[i] - self._full(i) == deepest[0] >> ID_BITS:
                return self._clock - (deepest[0] >> ID_BITS)
            heappop(deepest)
        return 0
