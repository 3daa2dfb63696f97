"""Shortest remaining first, preemptive."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from typing import ClassVar

import msgspec

from simqueue.checks import at_least, one_of
from simqueue.errors import ConfigError
from simqueue.kv import Reserve
from simqueue.order.ranked import Ranked
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.policy.preemptive import KEEPS, Keeps, keep_only, reserve, seat
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy srpt"


class Srpt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="srpt"):
    """Shortest remaining processing time first (Schrage, "A proof of the optimality of the shortest remaining
    processing time discipline", Operations Research 16, 1968) on ``max_batch_size`` seats: in each step those run who
    have the fewest predicted output tokens left (``predicted_output_tokens`` less those emitted), among equals who runs
    already, then who came first. Whoever comes with fewer takes the seat of the one with the most. Prompts are computed
    whole.

    Who has emitted more than was predicted goes first. The cache of one that loses its seat stays (``preemption =
    "keep"``: memory for its maximum output is reserved when it starts) or goes to the host (``"swap"``). Left out: what
    the prompt adds to the work of one that has not started.
    """

    max_batch_size: int = 64
    preemption: Keeps = "keep"
    paged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)
        one_of(_WHERE, "preemption", self.preemption, KEEPS)

    @property
    def reserve(self) -> Reserve:
        """What a request holds blocks for."""
        return reserve(self.preemption)

    def decider(self, grid: Grid) -> SrptDecider:
        """The rule."""
        return SrptDecider(self)


class SrptDecider:
    """The rule at work.

    Attributes:
        left: predicted tokens that are left, of those who wait, who stand in ``line``.
    """

    def __init__(self, policy: Srpt) -> None:
        self.seats, self.preemption = policy.max_batch_size, policy.preemption
        self.left: dict[int, int] = {}
        self.line = Ranked(lambda i: (self.left[i],))
        self.seen = 0

    def decide(self, view: PagedView) -> Step | Wait:
        """Seats for those with the least left."""
        for request in range(self.seen, view.arrived):
            self._waits(view, request)
        self.seen = view.arrived
        if len(self.line) != view.waiting:
            keep_only(self.line, set(view.queue()))
        seating = seat(view, self._everybody(view), lambda i: self._rank(view, i), self.seats, self.preemption)
        for request in (*seating.resume, *(i for i, _ in seating.prefill)):
            self.line.take(request)
            del self.left[request]
        for request in seating.preempt:
            self._waits(view, request)
        if not (seating.on or seating.resume or seating.prefill):
            return _IDLE
        return Step(prefill=seating.prefill, preempt=seating.preempt, resume=seating.resume)

    def _everybody(self, view: PagedView) -> Iterator[int]:
        """The least left first. While all decode, who runs only gains on who waits."""
        return (i for *_, i in merge(sorted(self._rank(view, i) for i in view.seats), map(self._waiting, self.line)))

    def _rank(self, view: PagedView, request: int) -> tuple[int, int, int]:
        return (_left(view, request), 0, request) if request in view.seats else self._waiting(request)

    def _waiting(self, request: int) -> tuple[int, int, int]:
        return self.left[request], 1, request

    def _waits(self, view: PagedView, request: int) -> None:
        self.left[request] = _left(view, request)
        self.line.join(request)


def _left(view: PagedView, request: int) -> int:
    predicted = view.predicted_output_tokens(request)
    if predicted is None:
        raise ConfigError(
            f"{_WHERE}: the workload has no column predicted_output_tokens: give workload.prediction, or take a policy "
            "that needs none"
        )
    return predicted - view.emitted(request)
