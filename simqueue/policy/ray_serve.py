"""Ray Serve's ``@serve.batch``: batches are formed while others run, and never grow afterwards."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import ClassVar

import msgspec

from simqueue.checks import at_least, seconds
from simqueue.plan import Release, Step, Wait
from simqueue.policy.backlog import Backlog
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy ray-serve"


class RayServe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ray-serve"):
    """Ray Serve 2.60.0, ``@serve.batch`` around an async body, one replica: a coroutine takes a request, collects more
    for ``batch_wait_timeout_s`` seconds from then or until it has ``max_batch_size``, and hands the batch to a task
    that waits its turn; then it takes the next. Batches run in that order, and are never merged or added to.

    So their size hardly depends on the backlog, and a timeout of 0 means batches of one. The saturation throughput is
    that of full batches, which it comes to only where requests come fast enough to fill them. Left out: several
    replicas, ``max_concurrent_batches``. The rule as found in Ray's batching module and in recorded runs
    (docs/real_batchers.md), whose timers fire about 1.2 ms late.
    """

    max_batch_size: int = 10
    batch_wait_timeout_s: float = 0.01
    iteration_level: ClassVar[bool] = False
    release: ClassVar[Release] = "batch"

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)
        seconds(_WHERE, "batch_wait_timeout_s", self.batch_wait_timeout_s)

    def decider(self, grid: Grid) -> RayServeDecider:
        """The rule with its timeout in ticks."""
        return RayServeDecider(self.max_batch_size, grid.ticks(self.batch_wait_timeout_s))


class RayServeDecider:
    """The coroutine, which is caught up with when the replica is free; ``ready``: when it formed the last batch."""

    def __init__(self, max_batch: int, timeout: int) -> None:
        self.max_batch, self.timeout = max_batch, timeout
        self.backlog = Backlog()
        self.ready = 0

    def decide(self, view: View) -> Step | Wait:
        """Start the batch whose turn it is, or wait for one."""
        self.backlog.look(view)
        due = self._form(view)
        if self.backlog.batches:
            return Step(admit=self.backlog.start(self.backlog.batches.popleft()), lasts="batch")
        return _IDLE if due is None else Wait(due)

    def _form(self, view: View) -> int | None:
        """Every batch that is formed by now. Returns when the next one will be, if its first request is there."""
        ids = self.backlog.ids
        while ids:
            taken = max(self.ready, view.arrival(ids[0]))
            due, size = taken + self.timeout, self._collected(view, taken)
            closed = max(taken, view.arrival(ids[size - 1])) if size == self.max_batch else due
            if closed > view.now:
                return due
            self.backlog.batches.append(self.backlog.take(size))
            self.ready = closed
        return None

    def _collected(self, view: View, taken: int) -> int:
        """Who is in the batch once it is formed, as far as they have come. A timeout of 0 looks for nobody."""
        if not self.timeout:
            return 1
        first = islice(self.backlog.ids, self.max_batch)
        return sum(1 for _ in takewhile(lambda i: view.arrival(i) <= taken + self.timeout, first))
