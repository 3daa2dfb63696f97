"""Random: a die for every request."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.cluster.fleet import Asked, Counts, View, uniforms


class RandomSplit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="random"):
    """Each request goes to any replica with the same probability."""

    blind: ClassVar[bool] = True
    signal_age_s: ClassVar[float] = 0.0
    counts: ClassVar[Counts] = None

    def chooser(self, asked: Asked) -> RandomChooser:
        """See `Router`."""
        return RandomChooser(asked)


class RandomChooser:
    """The die."""

    def __init__(self, asked: Asked) -> None:
        self._draws = uniforms(asked.rng)

    def choose(self, request: int, view: View) -> int:
        """Any of them."""
        return view.ready[int(next(self._draws) * len(view.ready))]
