"""The scheduling core: all state and every invariant of one replica; no clock, no I/O, no random number.

A driver calls `submit`, `plan` and `complete` as docs/design.md says. A decision costs what arrives and departs, not
what is there: sequences that go on decoding live in running sums and in a heap by the decode step that finishes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import cast

from simqueue.errors import InvariantError
from simqueue.plan import Refusals, Step, Wait, Work
from simqueue.policy.base import BatchingPolicy, Refusing
from simqueue.record import NEVER, Requests
from simqueue.units import Grid
from simqueue.waiting import Waiting

# A heap entry is one integer, `step << _ID_BITS | request id`: it compares faster than a pair.
_ID_BITS = 32
_ID_MASK = (1 << _ID_BITS) - 1


class Engine(Waiting):
    """One replica. Its public attributes are what `simqueue.policy.View` promises to policies.

    ``track_extremes``: whether the cost model looks at the longest and the widest row, which cost time to know.
    """

    __slots__ = (
        "_active", "_batch", "_batch_longest", "_batch_tokens", "_chunks", "_clock", "_context", "_decide",
        "_decoding", "_deepest", "_done", "_ends_with_batch", "_extremes", "_finishing", "_joining",
        "_joining_tokens", "_left", "_picks", "_refusing", "dropped", "freed", "kept", "left", "prefilling",
        "resumed", "skipped",
    )  # fmt: skip

    def __init__(self, policy: BatchingPolicy, requests: Requests, grid: Grid, *, track_extremes: bool) -> None:
        decider = policy.decider(grid)
        # Policies that turn nobody away pay nothing for those that do.
        self._refusing = cast(Refusing, decider) if getattr(policy, "turns_away", False) else None
        self._decide = self._decide_and_refuse if self._refusing else decider.decide
        self._ends_with_batch = getattr(policy, "release", "request") == "batch"
        super().__init__(requests)
        self.turns_away = self._refusing is not None
        self._extremes = track_extremes
        self.prefilling: dict[int, int] = {}
        # What the last completion or cancellation did: whose answers are whole, and whose rows leave the device.
        self.left: Sequence[int] = ()
        self.freed: Sequence[int] = ()
        # See `PagedEngine`: nobody.
        self.dropped: Sequence[int] = ()
        self.kept: Sequence[int] = ()
        self.skipped: Sequence[int] = ()
        self.resumed: Sequence[int] = ()
        # Iteration level: sums over decoding rows; steps they have made; who finishes when; who is longest.
        self._decoding = self._context = self._clock = 0
        self._finishing: list[int] = []
        self._deepest: list[int] = []
        self._joining: Sequence[int] = ()
        self._joining_tokens = 0
        self._chunks: tuple[tuple[int, int], ...] = ()
        # Run to completion: the batch and how much of it is done.
        self._batch: Sequence[int] = ()
        self._picks = False
        self._left = self._done = self._batch_tokens = self._batch_longest = 0
        self._active: list[int] = []

    # What a driver calls.

    @property
    def looks(self) -> int:
        """See `Waiting.looks`."""
        due = self._refusing.looks if self._refusing else None
        return NEVER if due is None else due

    def look(self, now: int) -> None:
        """See `Waiting.look`."""
        self.now = now
        if self._refusing:
            self._refuse_all(self._refusing.refuse(self))

    def cancel(self, request: int, now: int) -> None:
        """The client of a submitted request has gone away; called between two pieces of work.

        Times that it did not reach are ``now``. A row of a run-to-completion batch is held until that ends, which it
        does at once when nobody in it has tokens to come.
        """
        self.left = self.freed = ()
        if request >= self._tail or self._requests.finished[request] >= 0:
            return
        self._requests.finished[request] = now
        if self._waits(request):
            self._withdraw(request, now)
        elif self._left:
            self._leave_batch(request, now)
        else:
            self._leave(request)
            self.freed = (request,)
        if request in self._requests.scheduled:
            self._requests.first_token.setdefault(request, now)

    def answered(self, request: int) -> bool:
        """Whether its first token has left the server, or never will; asked between two pieces of work."""
        unanswered = self._waits(request) or request in self.prefilling or self.in_batch(request)
        return self._finished[request] >= 0 or not unanswered

    def in_batch(self, request: int) -> bool:
        """See `Waiting.in_batch`."""
        return self._ends_with_batch and self._left > 0 and request in self._batch

    @property
    def prefill(self) -> Sequence[tuple[int, int]]:
        """Of the planned work, the prompt tokens that it computes: ``(request, tokens)`` in order of admission."""
        if self._chunks:
            return self._chunks
        ids = self._joining if not self._left else self._batch if not self._done else ()
        return [(i, self._prompt[i]) for i in ids]

    @property
    def leaving(self) -> Sequence[int]:
        """Whose rows leave the device when the first step of the planned work ends. All others decode in the next step,
        whatever comes: no decision leaves them out."""
        if self._left:
            return self._batch if self._left == 1 else ()
        heap, beyond = self._finishing, (self._clock + 2) << _ID_BITS
        return [entry & _ID_MASK for entry in heap if entry < beyond] if heap and heap[0] < beyond else ()

    def plan(self, now: int) -> Work | Wait:
        """What the free replica does at ``now``.

        Raises:
            InvariantError: the policy's answer breaks the contract.
        """
        self.now = now
        if self._left:
            return self._batch_goes_on()
        # A name of its own: CPython is slow to call an attribute that is no method.
        decide = self._decide
        decision = decide(self)
        if type(decision) is not Step:
            return self._check_wait(decision)
        if decision.lasts == "batch":
            return self._start_batch(decision)
        if decision.prefill:
            return self._start_chunks(decision)
        return self._start_step(decision.admit, decision.lasts == "change" and not self.prefilling)

    def complete(self, steps: int, first_end: int, end: int, path: Sequence[int] = ()) -> int:
        """The planned work has run for ``steps`` steps: the first ended at ``first_end``, the last at ``end``.

        ``path`` holds the end of every step where the work asked for it. Returns the number of requests in the
        run-to-completion batch that this ended, 0 otherwise.
        """
        if self._left:
            return self._complete_batch(steps, first_end, end, path)
        decoding = self._decoding
        context = self._context + decoding * steps
        if joining := self._joining:
            count = len(joining)
            decoding += count
            context += self._joining_tokens + count * (steps - 1)
            if self._chunks or self._extremes:
                self._note_joined(joining, first_end)
            self._joining = ()
        self._chunks = ()
        self._clock = clock = self._clock + steps
        heap = self._finishing
        beyond = (clock + 1) << _ID_BITS
        self.left = self.freed = ()
        if heap and heap[0] < beyond:
            prompt, output, finished = self._prompt, self._output, self._finished
            self.left = self.freed = left = []
            while heap and heap[0] < beyond:
                i = heappop(heap) & _ID_MASK
                finished[i] = end
                context -= prompt[i] + output[i] - 1
                left.append(i)
            decoding -= len(left)
            self.running -= len(left)
        self._decoding, self._context = decoding, context
        return 0

    # Who is turned away.

    def _decide_and_refuse(self, _: Engine) -> Step | Wait:
        assert self._refusing
        decision = self._refusing.decide(self)
        self._refuse_all(decision.refuse)
        return decision

    def _refuse_all(self, refusals: Refusals) -> None:
        for request, at in refusals:
            if not (self._waits(request) and self.arrival(request) <= at <= self.now):
                raise InvariantError(
                    f"the policy turns request {request} away at tick {at}, at which it is not known to wait"
                )
            self._turn_away(request, at)

    # Iteration level.

    def _start_step(self, admit: int, leaps: bool) -> Work:
        rows, context, clock, heap = self._decoding, self._context, self._clock, self._finishing
        longest = self._longest() if self._extremes else 0
        if not admit:
            if not rows:
                raise InvariantError("the policy asks for a step with nothing in it")
            return Work(rows, 0, context, longest, steps=(heap[0] >> _ID_BITS) - clock if leaps else 1)
        ids = self._admitted(admit)
        output = self._output
        if admit == 1:
            i = ids[0]
            new_tokens = widest = self._prompt[i]
            heappush(heap, (clock + output[i]) << _ID_BITS | i)
        else:
            prompts = _of(ids, self._prompt)
            new_tokens = sum(prompts)
            widest = max(prompts) if self._extremes else 0
            for i in ids:
                heappush(heap, (clock + output[i]) << _ID_BITS | i)
        self._joining, self._joining_tokens = ids, new_tokens
        self.running += admit
        steps = (heap[0] >> _ID_BITS) - clock if leaps else 1
        return Work(rows, 0, context, longest, admit, new_tokens, 0, widest, steps, True, False, admit)

    def _start_chunks(self, decision: Step) -> Work:
        prompt, backlog = self._prompt, self.prefilling
        longest = self._longest() if self._extremes else 0
        if decision.admit or len(dict(decision.prefill)) < len(decision.prefill):
            raise InvariantError(
                f"the policy answers {decision}: prefill names each request once, and goes without admit"
            )
        done: list[int] = []
        new_tokens = context = widest = 0
        for request, tokens in decision.prefill:
            left = backlog.get(request, 0) or self._pick(request)
            if not 0 < tokens <= left:
                raise InvariantError(f"the policy prefills {tokens} tokens of request {request}, which has {left} left")
            new_tokens += tokens
            context += prompt[request] - left
            widest = max(widest, tokens)
            if tokens == left:
                done.append(request)
                backlog.pop(request, None)
            else:
                backlog[request] = left - tokens
        heap, clock = self._finishing, self._clock
        for i in done:
            heappush(heap, (clock + self._output[i]) << _ID_BITS | i)
        self._joining, self._joining_tokens, self._chunks = done, sum(_of(done, prompt)), decision.prefill
        # After a chunk on a context the widest row is not the longest; a leap would have to say so: one step.
        leaps = decision.lasts == "change" and not backlog and not context
        steps = (heap[0] >> _ID_BITS) - clock if leaps else 1
        return Work(
            self._decoding, 0, self._context, longest, len(decision.prefill), new_tokens, context, widest, steps
        )

    def _note_joined(self, joining: Sequence[int], first_end: int) -> None:
        """The new rows have emitted their first token."""
        if self._chunks:
            self._requests.first_token.update(dict.fromkeys(joining, first_end))
        if self._extremes:
            joined, prompt = self._clock + 1, self._prompt
            for i in joining:
                heappush(self._deepest, (joined - prompt[i]) << _ID_BITS | i)

    def _longest(self) -> int:
        """Most tokens in the cache of any decoding row: rows age together, so their order never changes."""
        deepest, finished = self._deepest, self._finished
        while deepest and finished[deepest[0] & _ID_MASK] >= 0:
            heappop(deepest)
        return self._clock - (deepest[0] >> _ID_BITS) if deepest else 0

    # Run to completion.

    def _start_batch(self, decision: Step) -> Work:
        if self.running:
            raise InvariantError(f"the policy starts a batch to completion while {self.running} sequences run")
        self._picks = bool(decision.prefill)
        self._batch = ids = self._pick_batch(decision) if self._picks else self._admitted(decision.admit)
        size = len(ids)
        self._done = 0
        self.running = size
        if size == 1:
            i = ids[0]
            self._left = left = self._output[i]
            tokens = longest = self._prompt[i]
        else:
            prompts = _of(ids, self._prompt)
            self._left = left = max(_of(ids, self._output))
            tokens = sum(prompts)
            longest = max(prompts) if self._extremes else 0
        self._batch_tokens, self._batch_longest = tokens, longest
        path = left > 1 and not self._ends_with_batch
        if path:
            self._active = sorted(ids, key=self._output.__getitem__, reverse=True)
        return Work(0, 0, 0, 0, size, tokens, 0, longest, left, False, path, decision.admit)

    def _pick_batch(self, decision: Step) -> list[int]:
        for request, tokens in decision.prefill:
            if self._pick(request) != tokens or decision.admit:
                raise InvariantError(f"the policy answers {decision}: a batch to completion takes whole prompts")
        return [request for request, _ in decision.prefill]

    def _batch_goes_on(self) -> Work:
        size, aged = len(self._batch), self._done - 1
        active = sum(self._unfinished(i) for i in self._batch)
        path = self._left > 1 and not self._ends_with_batch
        context, longest = self._batch_tokens + size * aged, self._batch_longest + aged
        return Work(active, size - active, context, longest, steps=self._left, cut=False, path=path)

    def _complete_batch(self, steps: int, first_end: int, end: int, path: Sequence[int]) -> int:
        # Who finishes with the leap that admitted it needs no word: see `Requests`.
        self._left -= steps
        done, self._done = self._done, self._done + steps
        if self._picks and not done:
            self._requests.first_token.update(dict.fromkeys(self._batch, first_end))
        self.left = self.freed = ()
        if self._active:
            ends = path or (end,)
            output, finished, active = self._output, self._finished, self._active
            self.left = left = []
            while active and output[active[-1]] <= self._done:
                i = active.pop()
                finished[i] = ends[output[i] - done - 1]
                left.append(i)
        elif not self._left:
            self.left = self._batch
            if done or self._picks:
                self._finish_batch(end)
        if self._left:
            return 0
        self.running = 0
        self.freed = self._batch
        return len(self._batch)

    def _unfinished(self, request: int) -> bool:
        """Whether a row of the batch still emits: its answer is not whole, and its client is there."""
        return self._output[request] > self._done and self._finished[request] < 0

    # Who goes away.

    def _leave(self, request: int) -> None:
        """It runs, with part of its prompt to compute or decoding."""
        self.running -= 1
        if self.prefilling.pop(request, 0):
            return
        heap = self._finishing
        at = next(k for k, entry in enumerate(heap) if entry & _ID_MASK == request)
        to_come = (heap[at] >> _ID_BITS) - self._clock
        heap[at] = heap[-1]
        heap.pop()
        heapify(heap)
        self._decoding -= 1
        self._context -= self._prompt[request] + self._output[request] - 1 - to_come

    def _leave_batch(self, request: int, now: int) -> None:
        """It goes on as a held row until the batch ends, which may be now."""
        if request in self._active:
            self._active.remove(request)
        self._left = max((self._output[i] for i in self._batch if self._unfinished(i)), default=self._done) - self._done
        if not self._left:
            self.running = 0
            self.freed = self._batch
            self._finish_batch(now)

    def _finish_batch(self, end: int) -> None:
        """Answers that leave with their batch leave now."""
        self.left = left = [i for i in self._batch if self._finished[i] < 0]
        for i in left:
            self._finished[i] = end


def _of(ids: Sequence[int], column: list[int]) -> list[int]:
    """The column's items at these ids."""
    return column[ids.start : ids.stop] if isinstance(ids, range) else [column[i] for i in ids]
