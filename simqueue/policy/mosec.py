"""mosec's dynamic batching: the timer starts when a free worker takes the first request."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least, seconds
from simqueue.plan import Release, Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy mosec"


class Mosec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mosec"):
    """mosec 0.9.8, one worker: free, it takes the oldest request, and starts what is there once ``max_batch_size`` are,
    or ``max_wait_time`` milliseconds after that taking: what a request waited before, the worker being busy, does not
    count.

    ``max_wait_time = 0`` means ``wait``, the server's command line option (10 ms by default). Left out: several
    workers, pipelines of stages, timeouts. The rule as found in mosec's task manager and in recorded runs
    (docs/real_batchers.md).
    """

    max_batch_size: int = 1
    max_wait_time: float = 0.0
    wait: float = 10.0
    iteration_level: ClassVar[bool] = False
    release: ClassVar[Release] = "batch"

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)
        seconds(_WHERE, "max_wait_time", self.max_wait_time)
        seconds(_WHERE, "wait", self.wait)

    def decider(self, grid: Grid) -> MosecDecider:
        """The rule with its wait in ticks."""
        return MosecDecider(self.max_batch_size, grid.ticks((self.max_wait_time or self.wait) / 1e3))


class MosecDecider:
    """One worker; ``taken``: when it took the request that it waits with for more."""

    def __init__(self, max_batch: int, max_wait: int) -> None:
        self.max_batch, self.max_wait = max_batch, max_wait
        self.taken: int | None = None

    def decide(self, view: View) -> Step | Wait:
        """Start what is there, or wait for more."""
        waiting, now = view.waiting, view.now
        if not waiting:
            self.taken = None
            return _IDLE
        if self.taken is None:
            self.taken = now
        if waiting < self.max_batch and now < self.taken + self.max_wait:
            return Wait(self.taken + self.max_wait)
        self.taken = None
        return Step(admit=min(waiting, self.max_batch), lasts="batch")
