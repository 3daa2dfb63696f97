"""Least use of key/value memory."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.cluster.fleet import Asked, Counts, Least, check_age


class LeastKvUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="least-kv-use"):
    """Each request goes to the replica with the smallest share of its blocks of key/value cache in use.

    A replica shows the share that was in use at its last decision before or at which somebody came to its queue, got a
    seat or lost it: what decoding has taken since then is not in it, nor what requests that wait will need.

    Between equals they take turns. ``signal_age_s``: see `simqueue.cluster.fleet.Router`.
    """

    signal_age_s: float = 0.0
    blind: ClassVar[bool] = False
    counts: ClassVar[Counts] = "kv_use"

    def __post_init__(self) -> None:
        check_age("router least-kv-use", self)

    def chooser(self, asked: Asked) -> Least:
        """See `Router`."""
        return Least("kv_use")
