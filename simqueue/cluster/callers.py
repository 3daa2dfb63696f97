"""Whoever waits for answers before asking again, wherever in a cluster these come from."""

from __future__ import annotations

from collections.abc import Sequence

from simqueue.cluster.signals import Signals
from simqueue.record import NEVER
from simqueue.source import Sessions, Source


class Callers:
    """A source before the router: what it counts in order of coming is known by rows of the workload there.

    ``signals`` show whether anybody comes before somebody has been answered.

    Attributes:
        ids: by row, its place in the order of coming; -1 for who has not come.
    """

    def __init__(self, source: Source, rows: int, signals: Signals) -> None:
        self._source, self._signals, self._sent = source, signals, 0
        self._rows: Sequence[int] = source.rows if isinstance(source, Sessions) else range(rows)
        self.ids = [-1] * rows

    @property
    def next(self) -> int:
        """See `Source.next`."""
        return self._source.next

    def take(self, now: int) -> Sequence[int]:
        """The rows of all who come up to and including ``now``, in order."""
        begin, self._sent = self._sent, self._source.take(now)
        rows = self._rows[begin : self._sent]
        for request, row in enumerate(rows, begin):
            self.ids[row] = request
        return rows

    def hear(self, row: int, at: int) -> None:
        """The answer is at its client at that instant, or it is known there that none will come. Told in the order in
        which answers leave replicas, and, at one instant, of replicas."""
        self._source.hear(self.ids[row], at)
        self._signals.closed = self._source.next == NEVER
