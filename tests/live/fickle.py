"""A policy that does at random whatever the contract allows with those who run: what no device may trip over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from simqueue.kv import Preemption
from simqueue.plan import Step, Wait
from simqueue.policy import PagedView
from simqueue.units import Grid


@dataclass(frozen=True)
class Fickle:
    """Starts, in chunks, preempts, resumes and leaves out of steps whom it likes, on ``rows`` rows.

    With ``mixes = False`` some steps stop all who decode.
    """

    preemption: Preemption
    rows: int
    mixes: bool = True
    seed: int = 1
    paged: bool = True

    def decider(self, grid: Grid) -> FickleDecider:
        """Draws of its own, the same for every engine."""
        return FickleDecider(self, Random(self.seed))


@dataclass
class FickleDecider:
    """The draws at work."""

    policy: Fickle
    rng: Random

    def some(self, requests: Sequence[int], share: float) -> list[int]:
        """Each with that chance."""
        return [i for i in requests if self.rng.random() < share]

    def decide(self, view: PagedView) -> Step | Wait:
        """Anything; where that is nothing, those who decode go on, or the first who can run does."""
        queue, decoding = list(view.queue()), [i for i in view.seats if i not in view.prefilling]
        there = [i for i in queue if view.preempted(i) and view.backlog(i) == 1]
        preempt = self.some(list(view.seats), 0.04)
        resume = self.some(there, 0.5)
        kept = len(there) + len(preempt) if self.policy.preemption == "keep" else 0
        room = self.policy.rows - view.running + len(preempt) - kept
        resume = resume if kept else resume[: max(0, room)]
        begin = self.some([i for i in queue if i not in there], 0.5)[: max(0, room - (0 if kept else len(resume)))]
        chunks = [*self.some([i for i in view.prefilling if i not in preempt], 0.7), *begin]
        prefill = tuple((i, self.rng.randint(1, view.backlog(i))) for i in chunks)
        if prefill and not self.policy.mixes and self.rng.random() < 0.3:
            return Step(prefill=prefill, preempt=tuple(preempt), decode=False, lasts="step")
        skip = self.some([i for i in decoding if i not in preempt], 0.2)
        if prefill or resume or len(skip) + len([i for i in preempt if i in decoding]) < len(decoding):
            return Step(prefill=prefill, preempt=tuple(preempt), resume=tuple(resume), skip=tuple(skip), lasts="step")
        return self._plain(view, decoding, there, queue)

    def _plain(self, view: PagedView, decoding: list[int], there: list[int], queue: list[int]) -> Step | Wait:
        if decoding:
            return Step(lasts="step")
        if there:
            return Step(resume=(there[0],), lasts="step")
        first = [*view.prefilling, *queue][:1]
        return Step(prefill=((first[0], view.backlog(first[0])),), lasts="step") if first else Wait()
