"""FastServe: a multi-level feedback queue that long prompts join further down."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least, one_of
from simqueue.kv import Reserve
from simqueue.order.ranked import Ranked
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.policy.preemptive import KEEPS, Keeps, keep_only, reserve, seat
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy fastserve"


class FastServe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fastserve"):
    """FastServe (Wu et al., "Fast Distributed Inference Serving for Large Language Models", arXiv 2305.05920), its
    skip-join multi-level feedback queue: of ``levels`` queues the first has a quantum of ``quantum_steps`` decoding
    steps, and each further one twice that of the one before. A request joins the first whose quantum its prompt does
    not exceed, goes to the end of the next one when it has used up its quantum, and stays in the last. In each step the
    first ``max_batch_size`` of all queues run, those of a better queue first; the others lose their seats.

    Where the paper measures how long a prompt takes, ``prompt_tokens_per_step`` tokens of it count as one decoding
    step. The cache of one that loses its seat stays (``preemption = "keep"``: memory for its maximum output is reserved
    when it starts) or goes to the host, when it loses the seat and not before (``"swap"``). Left out: promotion of who
    has waited too long, moving caches to the host and back ahead of time, pipeline stages.
    """

    max_batch_size: int = 64
    quantum_steps: int = 1
    levels: int = 8
    prompt_tokens_per_step: int = 256
    preemption: Keeps = "keep"
    paged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for key in ("max_batch_size", "quantum_steps", "levels", "prompt_tokens_per_step"):
            at_least(_WHERE, key, getattr(self, key), 1)
        one_of(_WHERE, "preemption", self.preemption, KEEPS)

    @property
    def reserve(self) -> Reserve:
        """What a request holds blocks for."""
        return reserve(self.preemption)

    def quantum(self, level: int) -> int:
        """Steps that a request may use in a queue; the last has no end."""
        return self.quantum_steps << level

    def steps(self, prompt: int) -> int:
        """What so many prompt tokens count as."""
        return -(-prompt // self.prompt_tokens_per_step)

    def decider(self, grid: Grid) -> FastServeDecider:
        """The rule."""
        return FastServeDecider(self)


class FastServeDecider:
    """The queues.

    Attributes:
        level, used: by request the queue that it is in, from 0, and the steps of its quantum that it has used.
        place: in which order they joined their queues.
        running: who was in the last step, which began at ``clock``.
    """

    def __init__(self, policy: FastServe) -> None:
        self.policy = policy
        self.level: dict[int, int] = {}
        self.used: dict[int, int] = {}
        self.place: dict[int, int] = {}
        self.line = Ranked(self._rank)
        self.running: tuple[int, ...] = ()
        self.joined = self.clock = self.seen = 0

    def decide(self, view: PagedView) -> Step | Wait:
        """Seats for the first of the best queues, until somebody's quantum ends."""
        self._count(view)
        for request in range(self.seen, view.arrived):
            self._join(request, self._first_level(view.prompt_tokens(request)))
        self.seen = view.arrived
        if len(self.line) != view.waiting + view.running:
            keep_only(self.line, {*view.queue(), *view.seats})
        seating = seat(view, self.line, self._rank, self.policy.max_batch_size, self.policy.preemption)
        self.running = (*seating.on, *seating.resume, *(i for i, _ in seating.prefill))
        if not self.running:
            return _IDLE
        for request, tokens in seating.prefill:
            self.used[request] = self.policy.steps(tokens) - 1
        return Step(
            prefill=seating.prefill, preempt=seating.preempt, resume=seating.resume, at_most=self._until_demotion()
        )

    def _rank(self, request: int) -> tuple[int, int]:
        return self.level[request], self.place[request]

    def _count(self, view: PagedView) -> None:
        """Steps since the last decision; whose quantum is used up goes down, and who has finished leaves."""
        steps, self.clock, seats = view.clock - self.clock, view.clock, view.seats
        for request in self.running:
            if request not in seats:
                self._leave(request)
                continue
            self.used[request] += steps
            level = self.level[request]
            if level < self.policy.levels - 1 and self.used[request] >= self.policy.quantum(level):
                self._leave(request)
                self._join(request, level + 1)

    def _first_level(self, prompt: int) -> int:
        policy, steps = self.policy, self.policy.steps(prompt)
        return next((k for k in range(policy.levels - 1) if steps <= policy.quantum(k)), policy.levels - 1)

    def _join(self, request: int, level: int) -> None:
        """At the end of a queue."""
        self.level[request], self.used[request], self.place[request] = level, 0, self.joined
        self.joined += 1
        self.line.join(request)

    def _leave(self, request: int) -> None:
        self.line.leave(request)
        del self.level[request], self.used[request], self.place[request]

    def _until_demotion(self) -> int | None:
        """Steps until somebody's quantum ends, if anybody's does."""
        last = self.policy.levels - 1
        ends = [self.policy.quantum(self.level[i]) - self.used[i] for i in self.running if self.level[i] < last]
        return min(ends, default=None)
