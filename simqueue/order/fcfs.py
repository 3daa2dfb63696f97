"""First come first served."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from simqueue.units import Grid

if TYPE_CHECKING:
    from simqueue.policy.base import PagedView
    from simqueue.record import Requests


class Fcfs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fcfs"):
    """First come first served; who was preempted is at the head, the last one first. A cursor: it costs nothing."""

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> None:
        """The engine's own order."""
