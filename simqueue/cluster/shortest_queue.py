"""Join the shortest queue."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.cluster.fleet import Asked, Counts, Least, check_age


class ShortestQueue(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="join-shortest-queue"
):
    """Each request goes to the replica where the fewest are: on their way, waiting or in a seat.

    The queue is what the replica itself would report. It differs from outstanding requests where a batch runs to
    completion and answers leave before it ends, since finished rows keep their seats.

    Between equals they take turns. ``signal_age_s``: see `simqueue.cluster.fleet.Router`.
    """

    signal_age_s: float = 0.0
    blind: ClassVar[bool] = False
    counts: ClassVar[Counts] = None

    def __post_init__(self) -> None:
        check_age("router join-shortest-queue", self)

    def chooser(self, asked: Asked) -> Least:
        """See `Router`."""
        return Least("queue")
