"""Least outstanding requests."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.cluster.fleet import Asked, Counts, Least, check_age


class LeastRequests(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="least-requests"):
    """Each request goes to the replica with the fewest outstanding requests: sent there, and not answered in full.

    Between equals they take turns. ``signal_age_s``: see `simqueue.cluster.fleet.Router`.
    """

    signal_age_s: float = 0.0
    blind: ClassVar[bool] = False
    counts: ClassVar[Counts] = None

    def __post_init__(self) -> None:
        check_age("router least-requests", self)

    def chooser(self, asked: Asked) -> Least:
        """See `Router`."""
        return Least("outstanding")
