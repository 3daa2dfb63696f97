"""Triton's dynamic batcher where its queue has policies: no batch is formed before the instance is free."""

from __future__ import annotations

from typing import NamedTuple

from simqueue.plan import Refusals, Step, Wait
from simqueue.policy.base import View
from simqueue.policy.triton_queue import Pending, PriorityQueue
from simqueue.units import INT64_MAX


class Rule(NamedTuple):
    """How many make a batch: at most so many, these sizes rather than others, and for how many ticks it waits for one;
    and how often a batcher looks that has nothing else to do."""

    most: int
    preferred: list[int]
    delay: int
    poll: int


class QueueBatcher:
    """The batcher and its queue, caught up with when somebody asks.

    Attributes:
        queue: who has been enqueued and is in no batch.
        seen: how many have come, as far as it has been caught up with.
        batch: what the instance starts next.
        runs: the instance has been given a batch since it was asked.
        free: the instance waits for a batch.
        blocked: the batcher waits for the instance.
        queued: how many the batcher takes to be queued: it counts who is refused for the size of the queue, and goes on
            counting who is rejected while it is blocked.
        enough: queued requests that wake it ("next preferred batch size").
        wakes: when it looks by itself.
        timed_out: whom it has found so, and tells when it wakes up.
    """

    def __init__(self, rule: Rule, queue: PriorityQueue) -> None:
        self.rule, self.queue = rule, queue
        self.seen = 0
        self.batch: list[int] = []
        self.runs, self.free, self.blocked = False, True, False
        self.queued = self.enough = 0
        self.wakes = rule.poll
        self.timed_out: list[int] = []
        self._absent: set[int] = set()
        self._refused: list[tuple[int, int]] = []

    @property
    def looks(self) -> int | None:
        """See `simqueue.policy.base.Refusing`."""
        return self.wakes if self.queue.size or self.timed_out else None

    def refuse(self, view: View) -> Refusals:
        """See `simqueue.policy.base.Refusing`."""
        self._catch_up(view)
        return self._told()

    def decide(self, view: View) -> Step | Wait:
        """Start the batch that has been formed, or wait until one is."""
        self._catch_up(view)
        if self.runs:
            self.runs, self.free = False, True
            self._look(view, view.now)
        if not self.batch:
            return Wait(self.looks, self._told())
        batch, self.batch, self.runs = self.batch, [], True
        return Step(prefill=tuple((i, view.prompt_tokens(i)) for i in batch), lasts="batch", refuse=self._told())

    def _told(self) -> Refusals:
        refused, self._refused = tuple(self._refused), []
        return refused

    def _turn_away(self, requests: list[int], now: int) -> None:
        self._refused += [(i, now) for i in requests]

    def _catch_up(self, view: View) -> None:
        """Arrivals and the batcher's timer, in their order."""
        self._forget(view)
        while True:
            comes = view.arrival(self.seen) if self.seen < view.arrived else INT64_MAX
            if min(comes, self.wakes) > view.now:
                return
            if comes <= self.wakes:
                self._come(view, comes)
            elif self.blocked:
                self._turn_away(self.queue.reject_timed_out(self.wakes), self.wakes)
                self.wakes += self.rule.poll
            else:
                self._look(view, self.wakes)

    def _come(self, view: View, now: int) -> None:
        """Whoever comes at one instant is enqueued before the batcher looks, if that wakes it."""
        wakes = False
        while self.seen < view.arrived and view.arrival(self.seen) == now:
            request, self.seen = self.seen, self.seen + 1
            if request in self._absent:
                continue
            self.queued += 1
            if self.queue.enqueue(request, view.priority(request), now, view.ttft_slo(request)):
                wakes = wakes or (self.free and self.queued >= self.enough)
            else:
                self._turn_away([request], now)
        if wakes:
            self._look(view, now)

    def _look(self, view: View, now: int) -> None:
        """The batcher tells whom it has found timed out, looks at its queue if the instance is free, and sleeps."""
        self._turn_away(self.timed_out, now)
        self.timed_out, self.wakes = [], now + self.rule.poll
        if self.free and self.queue.size:
            found = self.queue.pending(self.rule.most, now)
            self.queued -= len(found.rejected)
            if found.batch and not self._form(view, found, now):
                self.timed_out = found.rejected
            else:
                self._turn_away(found.rejected, now)
        self.blocked = bool(self.queue.size) and not self.free

    def _form(self, view: View, found: Pending, now: int) -> bool:
        """A batch of what it has found; or it sleeps until it has to look again."""
        oldest = min(view.arrival(i) for i in found.batch)
        count = self._count(len(found.batch), now - oldest)
        if not count:
            self.enough = self.rule.preferred[0]
            self.wakes = min(oldest + self.rule.delay, found.timeout)
            return False
        self.batch = self.queue.take(count)
        self.queued -= count
        self.free, self.enough = False, 0
        return True

    def _count(self, found: int, age: int) -> int:
        """How many of those that it has found make a batch now; 0: it waits."""
        _, preferred, delay, _ = self.rule
        overdue = bool(delay) and age >= delay
        best = max((size for size in preferred if size <= found), default=0)
        if best and not overdue:
            return best
        return found if overdue or not delay or found >= preferred[-1] else 0

    def _forget(self, view: View) -> None:
        """Whose clients have gone away, or were turned away by somebody else."""
        known = self.queue.size + len(self.batch) + len(self.timed_out) + view.arrived - self.seen
        if known == view.waiting:
            return
        here = set(view.queue())
        self._absent = {i for i in range(self.seen, view.arrived) if i not in here}
        self.queue.keep(here)
        self.timed_out = [i for i in self.timed_out if i in here]
        if self.batch and not {*self.batch} & here:
            self.free, self.blocked, self.wakes = True, False, view.now
        self.batch = [i for i in self.batch if i in here]
