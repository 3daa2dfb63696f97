"""The shortest job first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from simqueue.order.base import require
from simqueue.order.ranked import Ranked
from simqueue.units import Grid

if TYPE_CHECKING:
    from simqueue.policy.base import PagedView
    from simqueue.record import Requests

PREDICT = "give workload.prediction, or take an order that needs none"


class Sjf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sjf"):
    """Shortest job first: the fewest predicted output tokens (``predicted_output_tokens``), among equals first come.

    Who was preempted keeps its place: what it has emitted does not count. O(log n) a request.
    """

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Ranked:
        """By prediction. Raises ConfigError if the workload has none."""
        predicted = requests.predicted_output
        require(predicted is not None, "sjf", "predicted_output_tokens", PREDICT)
        return Ranked(lambda i: (view.predicted_output_tokens(i) or 0,))


class OracleSjf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="oracle-sjf"):
    """Shortest job first by true output lengths, which no server knows: what predictions could bring at best."""

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Ranked:
        """By what nobody knows."""
        output = requests.output
        return Ranked(lambda i: (output[i],))
