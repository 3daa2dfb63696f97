"""Who runs at one replica with a bounded key/value cache, and what a policy may ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from simqueue.block_tables import BlockTables
from simqueue.kv import Blocks, Unlimited
from simqueue.order import Order
from simqueue.policy.base import BatchingPolicy
from simqueue.preempted import Preempted
from simqueue.record import Requests
from simqueue.units import Grid
from simqueue.waiting import Waiting


class Seats(Waiting):
    """Seats in order of admission, and the queue behind them: what `simqueue.policy.PagedView` promises to policies.

    ``longest``: prompt and output of a request together, where it does not say how much it asks for at most.
    ``track_extremes``: whether the longest row is kept. ``order``: who is next in the queue.
    """

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
        super().__init__(requests)
        self._blocks, self._limited = blocks, not isinstance(blocks, Unlimited)
        self._tables = BlockTables(blocks, requests, getattr(policy, "reserve", "computed"), self.most_tokens)
        self._shares = self._tables.shares
        self._most_context = longest
        self._extremes = track_extremes
        self.prefilling: dict[int, int] = {}
        # Of those who decode the value of the clock when they have all their tokens; less than 0 of those who prefill.
        self._seats: dict[int, int] = {}
        # Who runs, in order of admission.
        self.seats = self._seats.keys()
        # Of those who decode: steps that they have made, how many they are, tokens in their cache; who finishes when;
        # who is longest.
        self._clock = self._decoding = self._context = 0
        self._finishing: list[int] = []
        self._deepest: list[int] = []
        self._preempted = Preempted(requests)
        # Who is next, where that is not first come first served; and whether to look at it anew.
        self._line = order.line(self, requests, grid)
        self._stale = False
        # Whether requests can start of which neither an order nor another server knows anything.
        self._plain = self._line is None and not requests.adopted

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds."""
        return self._blocks.free

    @property
    def total_blocks(self) -> int:
        """Blocks there are."""
        return self._blocks.total

    @property
    def block_size(self) -> int:
        """Tokens in a block."""
        return self._blocks.size

    @property
    def clock(self) -> int:
        """Steps so far in which those who decode went on."""
        return self._clock

    def most_tokens(self, request: int) -> int:
        """Prompt and output together at most: by what the request asks for, or by the model's context."""
        most = self.max_output_tokens(request)
        return self._most_context if most is None else self._prompt[request] + most

    @property
    def growth(self) -> int:
        """Blocks that those who decode take in the next step."""
        blocks = self._blocks
        return blocks.phases[self._clock % blocks.size]

    def grows(self, request: int) -> bool:
        """Whether somebody who decodes takes a block in the next step."""
        end = self._seats[request]
        return end >= 0 and self._tables.grows(request) and self._blocks.grows(end - self._full(request), self._clock)

    def blocks(self, request: int) -> int:
        """Blocks that become free when a running request loses its seat."""
        return self._tables.alone(request, self._computed(request))

    def demand(self, request: int) -> tuple[int, int]:
        """`backlog` of a waiting request, and what it `needs` for all of that."""
        past = self._preempted.past.get(request)
        if past is None:
            return self._tables.demand(request, self._prompt[request])
        if past.left is not None:
            return 1, self._tables.resuming(request, self._full(request) - past.left + 1)
        return self._tables.demand(request, self._prompt[request] + past.emitted)

    def demands(self) -> Iterator[tuple[int, int, int]]:
        """Who waits, in order, each with its `demand`."""
        if not self._plain or self._preempted.line:
            for i in self.queue():
                yield i, *self.demand(i)
            return
        prompt, demand = self._prompt, self._tables.demand
        for i in Waiting.queue(self):
            yield i, *demand(i, prompt[i])

    def needs(self, request: int, tokens: int) -> int:
        """Blocks that computing so many more tokens of a waiting or prefilling request takes from the free ones; of one
        that is to be resumed those that it comes back with, and decodes its next token with."""
        known = self._known(request)
        if request not in self._seats:
            if self._preempted.left(request) is not None:
                return self.demand(request)[1]
            return self._tables.needs(request, known, tokens)
        return self._tables.more(request, known, known - self.prefilling[request] + tokens)

    def whole(self, request: int) -> int:
        """Blocks that somebody who runs would take if it were preempted and admitted again."""
        known = self._prompt[request] + self.emitted(request)
        return self._tables.wanted(request, known, known)

    def backlog(self, request: int) -> int:
        """Tokens to compute before the next one comes: of a waiting request those that no prefix cache spares it."""
        if request in self._seats:
            return self.prefilling.get(request, 1)
        return self.demand(request)[0]

    def emitted(self, request: int) -> int:
        """Output tokens so far."""
        end = self._seats.get(request, -1)
        return self._preempted.emitted(request) if end < 0 else self._output[request] - (end - self._clock)

    def preempted(self, request: int) -> bool:
        """Whether a waiting request has run before."""
        return self._preempted.waits(request)

    def queue(self) -> Iterator[int]:
        """Ids of the waiting requests in the system's order, by default who was preempted, the last one first, then
        first come first."""
        if self._line is not None:
            return iter(self._line)
        never_ran = Waiting.queue(self)
        return chain(self._preempted.line, never_ran) if self._preempted.line else never_ran

    def oldest(self) -> int:
        """Arrival of the request that has waited longest."""
        arrival = self._requests.arrival
        never_ran = [arrival[self._head]] if self._head < self._tail else []
        return min(chain((arrival[i] for i in self._preempted.line), never_ran))

    # Tokens of a request.

    def _full(self, request: int) -> int:
        """Tokens in the cache when it has all of its output, the last of which is never fed back."""
        return self._prompt[request] + self._output[request] - 1

    def _known(self, request: int) -> int:
        """Prompt and what it had emitted when it last came to a seat: all that its next token needs in the cache."""
        return self._prompt[request] + self._preempted.emitted(request)

    def _computed(self, request: int) -> int:
        """Tokens in the cache of a running request."""
        end = self._seats[request]
        if end < 0:
            return self._known(request) - self.prefilling[request]
        return self._full(request) - (end - self._clock)
