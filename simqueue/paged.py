"""The scheduling core with a bounded key/value cache: who holds which blocks, and who loses them.

The same seam as `simqueue.engine.Engine`, for policies that look at memory, preempt, or stop decoding while they
prefill. Sequences are looked at one by one where they arrive, depart or are preempted; those that go on decoding live
in sums here too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, KeysView, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain

from simqueue.errors import InvariantError
from simqueue.kv import Blocks, Preemption, PrefixCache, Reserve
from simqueue.order import Fcfs, Line, Order
from simqueue.plan import Step, Wait, Work
from simqueue.policy.base import BatchingPolicy
from simqueue.record import Requests
from simqueue.units import Grid
from simqueue.waiting import Waiting

_FCFS = Fcfs()
_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1


class PagedEngine(Waiting):
    """One replica with ``blocks`` of key/value cache.

    ``longest``: prompt and output of a request together, where it does not say how much it asks for at most.
    ``order``: who is next in the queue.
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
        order: Order = _FCFS,
    ) -> None:
        super().__init__(requests)
        self._decide = policy.decider(grid).decide
        self._reserve: Reserve = getattr(policy, "reserve", "computed")
        self._reserves = self._reserve in ("max_cached", "max_output")
        self._fits: Callable[[PagedEngine, int, int], bool] = getattr(policy, "fits", lambda view, request, most: True)
        self._headroom: int = getattr(policy, "headroom", 0)
        self._preemption: Preemption = getattr(policy, "preemption", "recompute")
        self._blocks = blocks
        self._prefixes = blocks if isinstance(blocks, PrefixCache) else None
        self._most_context = longest
        self._extremes = track_extremes
        self.prefilling: dict[int, int] = {}
        self.left: Sequence[int] = ()
        self.freed: Sequence[int] = ()
        # Whose cache the last decision dropped, before anything else.
        self.dropped: Sequence[int] = ()
        self.skips = False
        # Seats in order of admission; of those that decode the value of the clock when they have all their tokens.
        self._seats: dict[int, int] = {}
        self._clock = self._decoding = self._context = 0
        self._finishing: list[int] = []
        self._deepest: list[int] = []
        # Blocks of those that do not grow by decoding, and units of the prefix cache that a request uses.
        self._held: dict[int, int] = {}
        self._units: dict[int, list[int]] = {}
        # Preempted: in the order in which they come back unless the policy picks; what they have emitted, and computed.
        self._preempted: deque[int] = deque()
        self._emitted: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        self._since: dict[int, int] = {}
        self._again: dict[int, int] = {}
        # Of those whose cache was not dropped, or was computed elsewhere: steps that they still decode.
        self._back: dict[int, int] = {}
        # Who is next, where that is not first come first served; and whether to look at it anew.
        self._line = order.line(self, requests, grid)
        self._stale = False
        # The step under way.
        self._chunks: Sequence[tuple[int, int]] = ()
        self._joining: list[int] = []
        self._adopting: list[int] = []
        self._resuming: list[int] = []
        self._skipping: list[int] = []
        self._skipped: list[int] = []
        self._decodes = True
        self._growth = self._moved = 0

    # What a policy may ask.

    @property
    def seats(self) -> KeysView[int]:
        """Who runs, in order of admission."""
        return self._seats.keys()

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
        return self._blocks.growth(self._clock)

    def grows(self, request: int) -> bool:
        """Whether somebody who decodes takes a block in the next step."""
        end = self._seats[request]
        return end >= 0 and request not in self._held and self._blocks.grows(end, self._full(request), self._clock)

    def blocks(self, request: int) -> int:
        """Blocks that become free when a running request loses its seat."""
        alone = self._prefixes.alone(self._units.get(request, ())) if self._prefixes else 0
        return self._holds(request) - self._in_units(request) + alone

    def needs(self, request: int, tokens: int) -> int:
        """Blocks that computing so many more tokens of a waiting or prefilling request takes from the free ones; of one
        that is to be resumed those that it comes back with, and decodes its next token with."""
        if request in self._back:
            then = self._full(request) - self._back[request] + 1
            return max(0, self._blocks.of(self._reserved(request, then, then)) - self._held.get(request, 0))
        if request in self._seats:
            if self._reserve != "computed":
                return 0
            computed = self._known(request) - self.prefilling[request]
            return self._blocks.of(computed + tokens) - self._holds(request)
        units = self._hits(request)
        known = self._known(request)
        whole = self._blocks.of(self._reserved(request, known, self._spared(units) + tokens))
        if self._prefixes is None:
            return whole
        return whole - self._prefixes.unit * len(units) + self._prefixes.idle(units)

    def whole(self, request: int) -> int:
        """Blocks that somebody who runs would take if it were preempted and admitted again."""
        known = self._prompt[request] + self.emitted(request)
        return self._blocks.of(self._reserved(request, known, known))

    def backlog(self, request: int) -> int:
        """Tokens to compute before the next one comes: of a waiting request those that no prefix cache spares it."""
        if request in self._seats:
            return self.prefilling.get(request, 1)
        if request in self._back:
            return 1
        return self._known(request) - self._spared(self._hits(request))

    def emitted(self, request: int) -> int:
        """Output tokens so far."""
        end = self._seats.get(request, -1)
        return self._emitted.get(request, 0) if end < 0 else self._output[request] - (end - self._clock)

    def preempted(self, request: int) -> bool:
        """Whether a waiting request has run before."""
        return request in self._since

    def queue(self) -> Iterator[int]:
        """Ids of the waiting requests in the system's order, by default who was preempted, the last one first, then
        first come first."""
        if self._line is not None:
            return iter(self._line)
        return chain(self._preempted, super().queue()) if self._preempted else super().queue()

    def oldest(self) -> int:
        """Arrival of the request that has waited longest."""
        arrival = self._requests.arrival
        never_ran = [arrival[self._head]] if self._head < self._tail else []
        return min(chain((arrival[i] for i in self._preempted), never_ran))

    # What a driver calls.

    def submit(self, tail: int) -> None:
        """See `Waiting.submit`. Who can never fit is rejected at once."""
        begin = self._tail
        super().submit(tail)
        blocks = self._blocks
        for i in range(begin, tail):
            most = blocks.of(max(self._reserved(i, self._prompt[i], self._prompt[i]), self._full(i)))
            if most > blocks.total or not self._fits(self, i, most):
                super().refuse(i)
                continue
            if self._requests.adopted:
                self._back[i] = self._output[i]
            if self._line is not None:
                self._line.join(i)
                self._stale = True

    def refuse(self, request: int) -> None:
        """See `Waiting.refuse`."""
        super().refuse(request)
        self._gone(request)

    def cancel(self, request: int, now: int) -> None:
        """See `Engine.cancel`."""
        self.left = self.freed = ()
        if request >= self._tail or self._finished[request] >= 0:
            return
        if request in self._seats:
            self._vacate(request)
            self._since.pop(request, None)
            self.running -= 1
            self.freed = (request,)
        elif request in self._since:
            self._forget(request)
            self.waiting -= 1
        else:
            self._withdraw(request, now)
            self._gone(request)
        self._finished[request] = now
        self._requests.first_token.setdefault(request, now)

    def answered(self, request: int) -> bool:
        """See `Engine.answered`."""
        return request in self._requests.first_token

    @property
    def prefill(self) -> Sequence[tuple[int, int]]:
        """Of the planned work, the tokens that it prefills: ``(request, tokens)`` in order."""
        return self._chunks

    @property
    def leaving(self) -> Sequence[int]:
        """Whose rows leave the device when the first step of the planned work ends, if no decision preempts."""
        beyond = self._clock + 2
        return [i for i, end in self._seats.items() if 0 <= end < beyond]

    def plan(self, now: int) -> Work | Wait:
        """See `Engine.plan`."""
        self.now = now
        decision = self._decide(self) if self._line is None else self._in_order(self._line)
        if type(decision) is not Step:
            return self._check_wait(decision)
        if decision.lasts == "batch":
            raise InvariantError("the policy starts a batch to completion, which knows no blocks")
        self._moved = 0
        self.dropped, self.skips = decision.preempt, bool(decision.skip or decision.resume)
        for i in decision.preempt:
            self._preempt(i)
        work = self._start(decision)
        # What this decision changed was in its promise.
        self._stale = decision.lasts == "step"
        return work

    def complete(self, steps: int, first_end: int, end: int, path: Sequence[int] = ()) -> int:
        """See `Engine.complete`; there are no batches, so that it returns 0."""
        context = self._context
        blocks = self._blocks
        if self._decodes:
            context += self._decoding * steps
            blocks.take(self._growth)
        self._clock += steps if self._decodes else 0
        if self._joining:
            context += self._joined(first_end, steps)
        if steps > 1:
            blocks.take(blocks.growth(self._clock - steps + 1, steps - 1))
        for i in self._resuming:
            self._answers_again(i, end)
        for i in self._adopting:
            self._requests.first_token[i] = end
        self._context = context
        for i in self._skipping:
            self._stays(i)
        self._skipped = self._skipping if self._decodes else self._skipped
        self._chunks, self._joining, self._adopting, self._resuming, self._skipping = (), [], [], [], []
        self.left = self.freed = left = []
        heap, beyond = self._finishing, (self._clock + 1) << _ID_BITS
        while heap and heap[0] < beyond:
            entry = heappop(heap)
            i = entry & _ID_MASK
            if self._seats.get(i) == entry >> _ID_BITS:
                self._finished[i] = end
                self._vacate(i)
                self._emitted.pop(i, None)
                left.append(i)
        self.running -= len(left)
        return 0

    def _in_order(self, line: Line) -> Step | Wait:
        """What the policy says of the queue in the order of ``line``."""
        if self._stale:
            line.look()
            self._stale = False
        return self._decide(self)

    # A step.

    def _start(self, decision: Step) -> Work:
        if decision.admit and decision.prefill:
            raise InvariantError(f"the policy answers {decision}: prefill goes without admit")
        chunks = decision.prefill or self._whole(decision.admit)
        if len(dict(chunks)) < len(chunks):
            raise InvariantError(f"the policy answers {decision}: prefill names each request once")
        decode = decision.decode
        if decision.resume and not decode:
            raise InvariantError(f"the policy answers {decision}: who resumes decodes")
        for i in decision.resume:
            self._resume(i)
        if self._requests.adopted:
            chunks = self._adopted(chunks, decode=decode)
        if decode:
            self._resuming += [i for i in self._skipped if self._seats.get(i, -1) >= 0 and i not in decision.skip]
        for i in decision.skip:
            self._skip(i)
        longest = self._longest() if self._extremes and decode else 0
        rows, context = (self._decoding, self._context) if decode else (0, 0)
        if not rows and not chunks:
            raise InvariantError("the policy asks for a step with nothing in it")
        self._decodes, self._chunks = decode, chunks
        self._growth = self._blocks.growth(self._clock) if decode else 0
        done, new_tokens, held, widest = self._prefilled(chunks)
        if self._growth > self._blocks.free:
            raise InvariantError(
                f"the policy lets rows decode that take {self._growth} blocks, and {self._blocks.free} are free"
            )
        self._joining = done
        first = self._clock + (1 if decode else 0)
        for i in done:
            self._sit(i, first + self._output[i] - self._emitted.get(i, 0) - 1)
        # After a chunk on a context the widest row is not the longest, and who answers again wants to know the end of
        # the first step; a leap would have to say so: one step.
        one = self.prefilling or held or decision.skip or self._resuming or self._adopting
        leaps = decision.lasts == "change" and decode and not one
        steps = self._lasting(decision.at_most) if leaps else 1
        paused = 0 if decode else self._decoding
        return Work(
            rows, 0, context, longest, len(chunks), new_tokens, held, widest, steps, paused=paused, moved=self._moved
        )

    def _adopted(self, chunks: Sequence[tuple[int, int]], *, decode: bool) -> list[tuple[int, int]]:
        """Whose cache has come with them decode at once; returns the others."""
        self._adopting = [i for i, _ in chunks if i in self._back]
        if self._adopting and not decode:
            raise InvariantError("the policy starts requests whose cache has come with them in a step without decoding")
        for i in self._adopting:
            self._resume(i)
        return [chunk for chunk in chunks if chunk[0] not in self._adopting]

    def _whole(self, admit: int) -> list[tuple[int, int]]:
        """The first of the queue with all that is to be computed of them."""
        if not 0 <= admit <= self.waiting:
            raise InvariantError(f"the policy admits {admit} of {self.waiting} waiting requests")
        queue = self.queue()
        ids = [next(queue) for _ in range(admit)]
        return [(i, self.backlog(i)) for i in ids]

    def _prefilled(self, chunks: Sequence[tuple[int, int]]) -> tuple[list[int], int, int, int]:
        """Start or go on with these; returns whose prompts are whole, and tokens: new, cached, and at most new."""
        done: list[int] = []
        new_tokens = held = widest = 0
        # First all take what the prefix cache has of them, before anybody's new blocks make it forget.
        for request, _ in chunks:
            if request not in self.prefilling:
                self.prefilling[request] = self._admit(request)
        for request, tokens in chunks:
            left = self.prefilling[request]
            if not 0 < tokens <= left:
                raise InvariantError(f"the policy prefills {tokens} tokens of request {request}, which has {left} left")
            computed = self._known(request) - left
            self._fill(request, computed + tokens)
            new_tokens += tokens
            held += computed
            widest = max(widest, tokens)
            if tokens == left:
                done.append(request)
                del self.prefilling[request]
            else:
                self.prefilling[request] = left - tokens
        return done, new_tokens, held, widest

    def _lasting(self, at_most: int | None) -> int:
        """How many steps the decision holds, the first included: until somebody has all tokens, or blocks run out."""
        heap, seats = self._finishing, self._seats
        while seats.get(heap[0] & _ID_MASK) != heap[0] >> _ID_BITS:
            heappop(heap)
        steps = (heap[0] >> _ID_BITS) - self._clock
        steps = steps if at_most is None else min(steps, at_most)
        return 1 + self._blocks.lasting(self._clock + 1, steps - 1, self._growth + self._headroom)

    def _sit(self, request: int, end: int) -> None:
        """It decodes until the clock shows ``end``."""
        self._seats[request] = end
        heappush(self._finishing, end << _ID_BITS | request)
        if not self._reserves:
            self._held.pop(request, None)
            self._blocks.join(end, self._full(request))

    def _joined(self, first_end: int, steps: int) -> int:
        """The new rows have emitted a token; returns their tokens in the cache now."""
        tokens = 0
        for i in self._joining:
            known = self._known(i)
            tokens += known + steps - 1
            if self._emitted.get(i):
                self._answers_again(i, first_end)
            else:
                self._since.pop(i, None)
                self._requests.first_token[i] = first_end
            if self._extremes:
                heappush(self._deepest, (self._seats[i] - self._full(i)) << _ID_BITS | i)
        self._decoding += len(self._joining)
        return tokens

    def _longest(self) -> int:
        """Most tokens in the cache of any decoding row: rows age together, so their order never changes."""
        deepest, seats = self._deepest, self._seats
        while deepest:
            i = deepest[0] & _ID_MASK
            if seats.get(i, -1) >= 0 and seats[i] - self._full(i) == deepest[0] >> _ID_BITS:
                return self._clock - (deepest[0] >> _ID_BITS)
            heappop(deepest)
        return 0

    # Tokens of a request.

    def _full(self, request: int) -> int:
        """Tokens in the cache when it has all of its output, the last of which is never fed back."""
        return self._prompt[request] + self._output[request] - 1

    def _known(self, request: int) -> int:
        """Prompt and what it had emitted when it last came to a seat: all that its next token needs in the cache."""
        return self._prompt[request] + self._emitted.get(request, 0)

    def _computed(self, request: int) -> int:
        """Tokens in the cache of a running request."""
        end = self._seats[request]
        if end < 0:
            return self._known(request) - self.prefilling[request]
        return self._full(request) - (end - self._clock)

    def _reserved(self, request: int, known: int, computed: int) -> int:
        """Tokens that a request holds blocks for when so many have been computed."""
        if self._reserve == "computed":
            return computed
        if self._reserve == "prompt":
            return known
        return max(known, self.most_tokens(request) - (self._reserve == "max_cached"))

    # Blocks of a request.

    def _hits(self, request: int) -> Sequence[int]:
        """Units of the prefix cache that spare a waiting request their computation."""
        hashes = self._requests.hashes
        if self._prefixes is None or hashes is None or request in self._back:
            return ()
        return hashes[request][: self._prefixes.hits(hashes[request], self._known(request))]

    def _spared(self, units: Sequence[int]) -> int:
        return len(units) * self._prefixes.unit * self._blocks.size if self._prefixes else 0

    def _holds(self, request: int) -> int:
        """All blocks of a running request, those it shares too."""
        held = self._held.get(request)
        return self._blocks.of(self._computed(request)) if held is None else held

    def _in_units(self, request: int) -> int:
        """Blocks that it holds of the prefix cache."""
        return len(self._units.get(request, ())) * self._prefixes.unit if self._prefixes else 0

    def _move(self, blocks: int) -> None:
        """To the host, or back."""
        if self._preemption == "swap":
            self._moved += blocks

    def _admit(self, request: int) -> int:
        """It has a seat from now on; returns the tokens it has to compute."""
        units = list(self._hits(request))
        if request in self._since:
            if request in self._back:
                raise InvariantError(f"the policy prefills request {request}, whose cache is there: resume it")
            self._preempted.remove(request)
            self.waiting -= 1
            self.running += 1
            self._again[request] = self.now
        else:
            self._pick(request)
        if self._line is not None:
            self._line.take(request)
        known, spared = self._known(request), self._spared(units)
        if lost := self._lost.pop(request, 0):
            self._requests.recomputed[request] += max(0, lost - spared)
        elif spared:
            self._requests.cached[request] = spared
        if self._prefixes and units:
            self._prefixes.use(units)
            self._units[request] = units
        self._seats[request] = -1
        self._held[request] = self._blocks.of(spared)
        return known - spared

    def _fill(self, request: int, computed: int) -> None:
        """It holds what it needs for so many computed tokens; full units are known to the prefix cache."""
        wanted = self._blocks.of(self._reserved(request, self._known(request), computed))
        if wanted > self._held[request]:
            self._blocks.take(wanted - self._held[request])
            self._held[request] = wanted
        self._remember(request, computed)

    def _remember(self, request: int, computed: int) -> None:
        prefixes, hashes = self._prefixes, self._requests.hashes
        if prefixes is None or hashes is None:
            return
        units = self._units.setdefault(request, [])
        for unit_hash in hashes[request][len(units) : computed // (prefixes.unit * self._blocks.size)]:
            if not prefixes.keep(unit_hash):
                break
            units.append(unit_hash)

    def _vacate(self, request: int) -> None:
        """It loses its seat and its blocks."""
        self._remember(request, self._computed(request))
        self._release(request, self._holds(request))
        self._stand(request)
        self._held.pop(request, None)

    def _release(self, request: int, holds: int) -> None:
        """Blocks of its own are empty now; those that others could use may be found again."""
        self._blocks.give(holds - self._in_units(request))
        units = self._units.pop(request, None)
        if units and self._prefixes:
            self._prefixes.release(units)

    def _stand(self, request: int) -> None:
        """It loses its seat."""
        if self._line is not None:
            self._line.stop(request)
            self._stale = True
        cached = self._computed(request)
        end = self._seats.pop(request)
        if end < 0:
            del self.prefilling[request]
            return
        self._decoding -= 1
        self._context -= cached
        if request not in self._held:
            self._blocks.leave(end, self._full(request))
        if len(self._finishing) > 64 + 2 * len(self._seats):
            self._finishing = [(end << _ID_BITS) | i for i, end in self._seats.items() if end >= 0]
            heapify(self._finishing)

    # Preemption, and who goes away.

    def _preempt(self, request: int) -> None:
        if request not in self._seats:
            raise InvariantError(f"the policy preempts request {request}, which does not run")
        emitted, computed, end = self.emitted(request), self._computed(request), self._seats[request]
        keeps = end >= 0 and self._preemption != "recompute"
        if keeps:
            self._back[request] = end - self._clock
        else:
            self._lost[request] = self._lost.get(request, 0) + computed
        if keeps and self._preemption == "keep":
            self._stand(request)
            self._held.setdefault(request, self._blocks.of(computed))
        else:
            self._move(self._blocks.of(computed) if keeps else 0)
            self._vacate(request)
        self._emitted[request] = emitted
        self._since.setdefault(request, self.now)
        self._preempted.appendleft(request)
        if self._line is not None:
            self._line.join(request)
        self._requests.preemptions[request] += 1
        self.running -= 1
        self.waiting += 1

    def _resume(self, request: int) -> None:
        """It decodes again, on the cache that it had."""
        if request not in self._back:
            raise InvariantError(f"the policy resumes request {request}, whose cache is not there")
        left = self._back.pop(request)
        cached = self._full(request) - left
        if request not in self._held:
            wanted = self._blocks.of(self._reserved(request, cached, cached))
            self._blocks.take(wanted)
            self._move(self._blocks.of(cached))
            self._held[request] = wanted
        if self._line is not None:
            self._line.take(request)
        if request in self._since:
            self._preempted.remove(request)
            self._again[request] = self.now
            self._resuming.append(request)
            self.waiting -= 1
            self.running += 1
        else:
            self._pick(request)
        self._decoding += 1
        self._context += cached
        self._sit(request, self._clock + left)
        if self._extremes:
            heappush(self._deepest, (self._clock - cached) << _ID_BITS | request)

    def _skip(self, request: int) -> None:
        """It keeps its seat, and does not decode in this step."""
        end = self._seats.get(request, -1)
        if end < 0:
            raise InvariantError(f"the policy skips request {request}, which does not decode")
        self._decoding -= 1
        self._context -= self._computed(request)
        if request not in self._held:
            self._blocks.leave(end, self._full(request))
        # The clock goes on without it.
        self._seats[request] = end + 1
        heappush(self._finishing, (end + 1) << _ID_BITS | request)
        if self._extremes:
            heappush(self._deepest, (end + 1 - self._full(request)) << _ID_BITS | request)
        self._since.setdefault(request, self.now)
        self._skipping.append(request)

    def _stays(self, request: int) -> None:
        """The step that it did not decode in is over."""
        self._decoding += 1
        self._context += self._computed(request)
        if request not in self._held:
            self._blocks.join(self._seats[request], self._full(request))

    def _answers_again(self, request: int, token_at: int) -> None:
        """The first token since it was preempted."""
        spell = (request, self._since.pop(request), self._again.pop(request, self.now), token_at)
        self._requests.spells.append(spell)

    def _forget(self, request: int) -> None:
        """Preempted, it will not come back."""
        self._preempted.remove(request)
        self._gone(request)
        for known in (self._since, self._again, self._emitted, self._lost, self._back):
            known.pop(request, None)
        if request in self._held:
            self._release(request, self._held.pop(request))

    def _gone(self, request: int) -> None:
        """It waits no longer, and never will."""
        self._back.pop(request, None)
        if self._line is not None:
            self._line.leave(request)
            self._stale = True
