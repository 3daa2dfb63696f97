"""No batching: one request at a time, first come first served."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.plan import Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_ONE = Step(admit=1, lasts="batch")
_IDLE = Wait()


class NoBatching(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """One request at a time, first come first served, each to completion; tokens leave as they come."""

    iteration_level: ClassVar[bool] = False
    release: ClassVar[str] = "request"

    def decider(self, grid: Grid) -> NoBatching:
        """The policy remembers nothing: it is its own decider."""
        return self

    def decide(self, view: View) -> Step | Wait:
        """Start the oldest, if there is one."""
        return _ONE if view.waiting else _IDLE
