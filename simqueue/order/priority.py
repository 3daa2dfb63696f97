"""The most urgent first, and nobody waits for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from simqueue.checks import positive
from simqueue.order.base import require
from simqueue.order.ranked import Ranked
from simqueue.units import Grid

if TYPE_CHECKING:
    from simqueue.policy.base import PagedView
    from simqueue.record import Requests


class Priority(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="priority"):
    """The smallest ``priority`` of the workload first, among equals first come.

    With ``aging_s`` a request becomes more urgent as it waits, by one level each so many seconds, evenly: the order is
    then by ``arrival + priority * aging_s``, which does not change with time (Jackson, "Queues with dynamic priority
    discipline", Management Science 8, 1961). Who was preempted has its place by the same rule. O(log n) a request.
    """

    aging_s: float | None = None

    def __post_init__(self) -> None:
        if self.aging_s is not None:
            positive("order priority", "aging_s", self.aging_s)

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Ranked:
        """By priority, or by priority and arrival. Raises ConfigError if the workload has no priorities."""
        require("priority" in requests.traits, "priority", "priority", "give priority in workload.classes")
        if self.aging_s is None:
            return Ranked(lambda i: (view.priority(i),))
        level = grid.ticks(self.aging_s)
        return Ranked(lambda i: (view.arrival(i) + level * view.priority(i),))
