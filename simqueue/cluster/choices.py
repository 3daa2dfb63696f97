"""Power of d choices: the shortest of d queues drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from simqueue.checks import at_least
from simqueue.cluster.fleet import Asked, Counts, View, check_age, uniforms

_WHERE = "router power-of-choices"


class PowerOfChoices(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="power-of-choices"):
    """Each request goes to the shortest of ``choices`` queues of different replicas, drawn at random: to the first
    drawn of the shortest. (Mitzenmacher (2001), "The power of two choices in randomized load balancing", IEEE
    Transactions on Parallel and Distributed Systems 12.)

    ``signal_age_s``: see `simqueue.cluster.fleet.Router`.
    """

    choices: int = 2
    signal_age_s: float = 0.0
    blind: ClassVar[bool] = False
    counts: ClassVar[Counts] = None

    def __post_init__(self) -> None:
        at_least(_WHERE, "choices", self.choices, 1)
        check_age(_WHERE, self)

    def chooser(self, asked: Asked) -> PowerOfChoicesChooser:
        """See `Router`."""
        return PowerOfChoicesChooser(self.choices, asked)


class PowerOfChoicesChooser:
    """Draws without replacement: the first cards of a pack that stays shuffled."""

    def __init__(self, choices: int, asked: Asked) -> None:
        self._choices = choices
        self._draws = uniforms(asked.rng)
        self._ready: Sequence[int] = ()
        self._pack: list[int] = []

    def choose(self, request: int, view: View) -> int:
        """The shortest of those drawn."""
        if view.ready is not self._ready:
            self._ready, self._pack = view.ready, list(view.ready)
        pack, queue = self._pack, view.queue
        for drawn in range(min(self._choices, len(pack))):
            other = drawn + int(next(self._draws) * (len(pack) - drawn))
            pack[drawn], pack[other] = pack[other], pack[drawn]
        return min(pack[: self._choices], key=queue.__getitem__)
