"""Who waits, for rules that form batches while the replica is busy and are caught up with when it is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from simqueue.policy.base import View

Batch = list[int]


class Backlog:
    """Requests that have arrived and not started, first come first.

    Attributes:
        batches: of them, those that were formed, in the order in which they will start.
        ids: who is in none of these.
    """

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.ids: deque[int] = deque()
        self._seen = self._count = 0

    def look(self, view: View) -> None:
        """Add who has come since the last look, and forget whose clients have gone away."""
        arrived = view.arrived
        self.ids.extend(range(self._seen, arrived))
        self._count += arrived - self._seen
        self._seen = arrived
        if self._count != view.waiting:
            self._keep(set(view.queue()))

    def take(self, count: int) -> Batch:
        """The first so many of those in no batch, who are in none of `batches` either until the caller adds them."""
        return [self.ids.popleft() for _ in range(count)]

    def start(self, batch: Sequence[int]) -> int:
        """They are no longer waiting. Returns how many they are."""
        self._count -= len(batch)
        return len(batch)

    def _keep(self, here: set[int]) -> None:
        for batch in self.batches:
            batch[:] = [i for i in batch if i in here]
        self.batches = deque(batch for batch in self.batches if batch)
        self.ids = deque(i for i in self.ids if i in here)
        self._count = len(here)
