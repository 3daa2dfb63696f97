"""Static batching: exactly so many requests at a time, to completion."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least, one_of
from simqueue.plan import Release, Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()


class Static(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="static"):
    """Waits until exactly ``batch`` requests are there and runs them to completion.

    When no more requests can come, what is left is started. ``release``: ``"batch"`` lets the answers leave when the
    batch ends, ``"request"`` lets tokens leave at their step ends.
    """

    batch: int
    release: Release = "batch"
    iteration_level: ClassVar[bool] = False

    def __post_init__(self) -> None:
        at_least("policy static", "batch", self.batch, 1)
        one_of("policy static", "release", self.release, ("batch", "request"))

    def decider(self, grid: Grid) -> Static:
        """The policy remembers nothing: it is its own decider."""
        return self

    def decide(self, view: View) -> Step | Wait:
        """Start a full batch, or the rest once the source has closed."""
        waiting = view.waiting
        if waiting >= self.batch or (waiting and view.closed):
            return Step(admit=min(waiting, self.batch), lasts="batch")
        return _IDLE
