"""The shortest remaining job first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from simqueue.order.base import require
from simqueue.order.ranked import Ranked
from simqueue.order.shortest_job import PREDICT
from simqueue.units import Grid

if TYPE_CHECKING:
    from simqueue.policy.base import PagedView
    from simqueue.record import Requests


class Srpt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="srpt"):
    """Shortest remaining first: the fewest predicted output tokens less those emitted, among equals first come.

    As an order it starts nobody in another's place (the policy ``srpt`` does): it differs from ``sjf`` for those who
    were preempted for want of memory, and are the nearer to the head the more they have emitted. O(log n) a request.
    """

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Ranked:
        """By what is left of the prediction. Raises ConfigError if the workload has none."""
        require(requests.predicted_output is not None, "srpt", "predicted_output_tokens", PREDICT)
        return Ranked(lambda i: ((view.predicted_output_tokens(i) or 0) - view.emitted(i),))
