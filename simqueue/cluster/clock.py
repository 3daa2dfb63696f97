"""What is due when in a cluster."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappush

from simqueue.errors import InvariantError
from simqueue.record import NEVER

Alarm = tuple[int, int, Callable[[int], None]]
"""When, its place among those of the same instant, and who is told of the instant."""

# At one instant: what was planned; who comes to a queue, and who gives up there; ends of work; whoever asks again since
# that ended; decisions.
PLANNED, COMING, GIVING_UP, END, AGAIN, DECISION = -(3 << 32), -(2 << 32), -(1 << 32), 0, 1 << 32, (1 << 32) + 1


def _nobody(due: int) -> None:
    """The alarm after the last."""
    raise InvariantError("requests have not been answered, and nothing will happen any more")


class Clock:
    """Alarms in order. Whoever is not interested in an alarm any more lets it pass.

    Attributes:
        alarms: a heap, which never runs out.
    """

    __slots__ = ("_planned", "alarms")

    def __init__(self) -> None:
        self.alarms: list[Alarm] = [(NEVER, NEVER, _nobody)]
        self._planned = PLANNED

    def plan(self, at: int, action: Callable[[int], None]) -> None:
        """Before anything else of that instant, in the order in which it was planned."""
        heappush(self.alarms, (at, self._planned, action))
        self._planned += 1

    def forget(self, *places: int) -> None:
        """Nobody is to be told of alarms at these places any more."""
        self.alarms[:] = [alarm for alarm in self.alarms if alarm[1] not in places]
        heapify(self.alarms)
