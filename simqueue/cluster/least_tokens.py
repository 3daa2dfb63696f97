"""Least outstanding tokens."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.cluster.fleet import Asked, Counts, Least, check_age


class LeastTokens(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="least-tokens"):
    """Each request goes to the replica whose outstanding requests have the fewest tokens.

    A request counts with its prompt and the output that is expected of it (its prediction, else the most that it asks
    for, else nothing: no router knows how long an answer will be), from when it is sent until it is answered in full.

    Between equals they take turns. ``signal_age_s``: see `simqueue.cluster.fleet.Router`.
    """

    signal_age_s: float = 0.0
    blind: ClassVar[bool] = False
    counts: ClassVar[Counts] = "tokens"

    def __post_init__(self) -> None:
        check_age("router least-tokens", self)

    def chooser(self, asked: Asked) -> Least:
        """See `Router`."""
        return Least("tokens")
