"""Round robin: every replica in turn."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.cluster.fleet import Asked, Counts, View


class RoundRobin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="round-robin"):
    """Each request goes to the next replica in turn, from the first; those that are not ready are passed over."""

    blind: ClassVar[bool] = True
    signal_age_s: ClassVar[float] = 0.0
    counts: ClassVar[Counts] = None

    def chooser(self, asked: Asked) -> RoundRobinChooser:
        """See `Router`."""
        return RoundRobinChooser()


class RoundRobinChooser:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._turn = -1

    def choose(self, request: int, view: View) -> int:
        """The next one."""
        self._turn += 1
        return view.ready[self._turn % len(view.ready)]
