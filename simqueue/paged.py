"""The scheduling core with a bounded key/value cache: who holds which blocks, and who loses them.

The same seam as `simqueue.engine.Engine`, for policies that look at memory, preempt, or stop decoding while they
prefill. Sequences are looked at one by one where they arrive, depart or are preempted; those that go on decoding live
in sums here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop
from itertools import islice

from simqueue.errors import InvariantError
from simqueue.kv import Blocks
from simqueue.order import Fcfs, Line, Order
from simqueue.plan import Step, Wait, Work
from simqueue.policy.base import BatchingPolicy
from simqueue.preempted import Past
from simqueue.record import Requests
from simqueue.seating import ID_BITS, ID_MASK, Seating
from simqueue.units import Grid
from simqueue.waiting import Waiting

_FCFS = Fcfs()


class PagedEngine(Seating):
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
        super().__init__(policy, requests, grid, blocks, longest=longest, track_extremes=track_extremes, order=order)
        self.turns_away = True
        self._decide = policy.decider(grid).decide
        self._fits: Callable[[PagedEngine, int, int], bool] | None = getattr(policy, "fits", None)
        self._headroom: int = getattr(policy, "headroom", 0)
        # Prompt and output together of requests of which nothing else is to be known when they come.
        simple = self._plain and not (self._fits or self._tables.reserves)
        self._simple_tokens = blocks.total * blocks.size + 1 if simple else 0
        # What the last decision did before anything else: whose cache it dropped; who lost the seat and keeps the
        # cache, here or on the host; whom it left out of the step; and who has the seat again.
        self.dropped: Sequence[int] = ()
        self.kept: Sequence[int] = ()
        self.skipped: Sequence[int] = ()
        self.resumed: Sequence[int] = ()
        # The step under way: who prefills, if that is no whole prompt off the queue; whether those who decode go on,
        # and blocks that they take; whether there is more to be done for somebody when it ends.
        self._chunks: Sequence[tuple[int, int]] = ()
        self._decodes = True
        self._growth = 0
        self._named = False

    # What a driver calls.

    def submit(self, tail: int) -> None:
        """See `Waiting.submit`. Who can never fit is rejected at once."""
        begin = self._tail
        Waiting.submit(self, tail)
        prompt, output, simple = self._prompt, self._output, self._simple_tokens
        for i in range(begin, tail):
            if prompt[i] + output[i] <= simple:
                continue
            if not self._can_fit(i):
                super().refuse(i)
                continue
            if self._requests.adopted:
                self._preempted.past[i] = Past(self._output[i])
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
            self._preempted.past.pop(request, None)
            self.running -= 1
            self.freed = (request,)
        elif self.preempted(request):
            self._preempted.line.remove(request)
            self._tables.drop(request)
            self._gone(request)
            self.waiting -= 1
        else:
            self._withdraw(request, now)
            self._gone(request)
        self._finished[request] = now
        if request in self._requests.scheduled:
            self._requests.first_token.setdefault(request, now)

    def answered(self, request: int) -> bool:
        """See `Engine.answered`."""
        return self._finished[request] >= 0 or self.emitted(request) > 0

    @property
    def prefill(self) -> Sequence[tuple[int, int]]:
        """Of the planned work, the tokens that it prefills: ``(request, tokens)`` in order."""
        return self._chunks or [(i, self._prompt[i] - self._spared.get(i, 0)) for i in self._started]

    @property
    def leaving(self) -> Sequence[int]:
        """Whose rows leave the device when the first step of the planned work ends, if no decision preempts."""
        beyond = self._clock + 2
        return [i for i, end in self._seats.items() if 0 <= end < beyond]

    def plan(self, now: int) -> Work | Wait:
        """See `Engine.plan`."""
        self.now = now
        if self._shares:
            self._tables.look()
        decision = self._decide(self) if self._line is None else self._in_order(self._line)
        if type(decision) is not Step:
            return self._check_wait(decision)
        if decision.lasts == "batch":
            raise InvariantError("the policy starts a batch to completion, which knows no blocks")
        self.dropped = self.kept = self.skipped = self.resumed = ()
        self._moved = 0
        if decision.preempt:
            self._preempt(decision.preempt)
        named = decision.prefill or decision.resume or decision.skip or not decision.decode
        from_head = self._plain and not self._preempted.line
        if named or self.prefilling or self._skipped or (decision.admit and not from_head):
            work = self._start_named(decision)
        else:
            work = self._start_plain(decision)
        # What this decision changed was in its promise.
        self._stale = decision.lasts == "step"
        return work

    def complete(self, steps: int, first_end: int, end: int, path: Sequence[int] = ()) -> int:
        """See `Engine.complete`; there are no batches, so that it returns 0."""
        clock, context = self._clock, self._context
        if self._decodes:
            clock += steps
            context += self._decoding * steps
            if self._growth:
                self._blocks.take(self._growth)
        if self._joined:
            context += self._joined_tokens + self._joined * (steps - 1)
            self._decoding += self._joined
            self._joined = 0
            self._started = self._chunks = ()
        self._clock, self._context = clock, context
        if steps > 1 and (growth := self._blocks.growth(clock - steps + 1, steps - 1)):
            self._blocks.take(growth)
        if self._named:
            self._complete_named(first_end, end)
        self.left = self.freed = ()
        if self._finishing and self._finishing[0] < (clock + 1) << ID_BITS:
            self._finish(end)
        return 0

    def _in_order(self, line: Line) -> Step | Wait:
        """What the policy says of the queue in the order of ``line``."""
        if self._stale:
            line.look()
            self._stale = False
        return self._decide(self)

    # A step.

    def _start_plain(self, decision: Step) -> Work:
        """All who decode go on, and the first of the queue start, with their whole prompts."""
        clock, blocks, admit = self._clock, self._blocks, decision.admit
        rows, context = self._decoding, self._context
        longest = self._longest() if self._extremes else 0
        self._decodes, self._growth = True, blocks.phases[clock % blocks.size]
        new_tokens = held = widest = 0
        if admit:
            new_tokens, held, widest = self._admit_plain(admit)
        elif not rows:
            raise InvariantError("the policy asks for a step with nothing in it")
        if self._growth > blocks.free:
            raise InvariantError(self._grown_out())
        one = (held or self._shares) and self._one_step(held, longest, widest)
        leaps = decision.lasts == "change" and not one
        steps = self._lasting(decision.at_most) if leaps else 1
        return Work(
            rows, 0, context, longest, admit, new_tokens, held, widest, steps, True, False, admit, moved=self._moved
        )

    def _start_named(self, decision: Step) -> Work:
        """Somebody is resumed, left out, partly prefilled, or starts from elsewhere than the head."""
        self.skipped, self.resumed = decision.skip, decision.resume
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
        self._named, self._decodes, self._chunks = True, decode, chunks
        self._growth = self.growth if decode else 0
        new_tokens, held, widest = self._prefill(chunks)
        if self._growth > self._blocks.free:
            raise InvariantError(self._grown_out())
        # Who answers again wants to know the end of the first step: a leap would have to say so.
        one = self.prefilling or decision.skip or self._resuming or self._adopting
        leaps = decision.lasts == "change" and decode and not (one or self._one_step(held, longest, widest))
        steps = self._lasting(decision.at_most) if leaps else 1
        paused = 0 if decode else self._decoding
        return Work(
            rows, 0, context, longest, len(chunks), new_tokens, held, widest, steps, paused=paused, moved=self._moved
        )

    def _one_step(self, held: int, longest: int, widest: int) -> bool:
        """Whether more is to be known after the first step, of which ``held`` tokens of prompts were in the cache.

        Who still waits may find in the prefix cache what this step computes. And a row that joins after a chunk on a
        context may be longer than what a leap takes for the longest of all.
        """
        if self._shares and self.waiting and self._joined:
            return True
        if not held or not self._extremes:
            return False
        return max([self._known(i) for i in (*self._joining, *self._started)], default=0) > max(longest + 1, widest)

    def _grown_out(self) -> str:
        return f"the policy lets rows decode that take {self._growth} blocks, and {self._blocks.free} are free"

    def _adopted(self, chunks: Sequence[tuple[int, int]], *, decode: bool) -> list[tuple[int, int]]:
        """Whose cache has come with them decode at once; returns the others."""
        left = self._preempted.left
        self._adopting = [i for i, _ in chunks if left(i) is not None]
        if self._adopting and not decode:
            raise InvariantError("the policy starts requests whose cache has come with them in a step without decoding")
        for i in self._adopting:
            self._resume(i)
        return [chunk for chunk in chunks if chunk[0] not in self._adopting]

    def _whole(self, admit: int) -> list[tuple[int, int]]:
        """The first of the queue with all that is to be computed of them."""
        if not 0 <= admit <= self.waiting:
            raise InvariantError(f"the policy admits {admit} of {self.waiting} waiting requests")
        return [(i, self.demand(i)[0]) for i in islice(self.queue(), admit)]

    def _prefill(self, chunks: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
        """Start or go on with these; returns tokens: new, cached, and at most new."""
        prefilling, first = self.prefilling, self._clock + self._decodes
        new_tokens = held = widest = 0
        # First all take what the prefix cache has of them, before anybody's new blocks make it forget.
        for request, _ in chunks:
            if request not in prefilling:
                prefilling[request] = self._admit(request)
        for request, tokens in chunks:
            left = prefilling[request]
            if not 0 < tokens <= left:
                raise InvariantError(f"the policy prefills {tokens} tokens of request {request}, which has {left} left")
            known = self._known(request)
            computed = known - left + tokens
            self._tables.fill(request, known, computed)
            new_tokens += tokens
            held += computed - tokens
            widest = max(widest, tokens)
            if tokens < left:
                prefilling[request] = left - tokens
                continue
            del prefilling[request]
            self._joining.append(request)
            self._joined += 1
            self._joined_tokens = known if self._joined == 1 else self._joined_tokens + known
            self._sit(request, first - known)
        return new_tokens, held, widest

    def _lasting(self, at_most: int | None) -> int:
        """How many steps the decision holds, the first included: until somebody has all tokens, or blocks run out."""
        heap, seats = self._finishing, self._seats
        while seats.get(heap[0] & ID_MASK) != heap[0] >> ID_BITS:
            heappop(heap)
        steps = (heap[0] >> ID_BITS) - self._clock
        if at_most is not None and at_most < steps:
            steps = at_most
        if steps == 1 or not self._limited:
            return steps
        return 1 + self._blocks.lasting(self._clock + 1, steps - 1, self._growth + self._headroom)

    def _complete_named(self, first_end: int, end: int) -> None:
        """What else has happened to somebody in the work that is over."""
        preempted, first_token = self._preempted, self._requests.first_token
        for i in self._joining:
            if not preempted.comes_back(i, self.now, first_end):
                first_token[i] = first_end
        for i in self._resuming:
            preempted.answer(i, self.now, end)
        for i in self._adopting:
            first_token[i] = end
        for i in self._skipping:
            self._stays(i)
        if self._decodes:
            self._skipped = self._skipping
        self._chunks, self._joining, self._adopting, self._resuming, self._skipping = (), [], [], [], []
        self._named = False

    def _preempt(self, requests: Sequence[int]) -> None:
        for i in requests:
            self._lose_seat(i)
        if self._preemption == "recompute":
            self.dropped = requests
            return
        left = self._preempted.left
        self.dropped = [i for i in requests if left(i) is None]
        self.kept = [i for i in requests if left(i) is not None]

    # Who comes, and who goes away.

    def _can_fit(self, request: int) -> bool:
        """Whether its last token can ever be computed."""
        prompt = self._prompt[request]
        most = max(self._tables.wanted(request, prompt, prompt), self._blocks.of(self._full(request)))
        return most <= self._blocks.total and (self._fits is None or self._fits(self, request, most))

    def _gone(self, request: int) -> None:
        """It waits no longer, and never will."""
        self._preempted.past.pop(request, None)
        if self._line is not None:
            self._line.leave(request)
            self._stale = True
