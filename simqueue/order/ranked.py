"""A line by a key that does not change while a request waits."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from heapq import heappop, heappush

Entry = tuple[int, ...]


class Ranked:
    """Requests by ``key``, the smallest first, then by id.

    Who has been looked at stands in a sorted list, the others in a heap behind it: joining and leaving cost O(log n)
    (and moving the pointers of those who have been looked at), a look at the next one O(log n) once.
    """

    def __init__(self, key: Callable[[int], Entry]) -> None:
        self._key = key
        self._entries: dict[int, Entry] = {}
        self._front: list[Entry] = []
        self._rest: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, request: int) -> bool:
        return request in self._entries

    def __iter__(self) -> Iterator[int]:
        """Ids in order."""
        front, at = self._front, 0
        while at < len(front) or self._draw():
            yield front[at][-1]
            at += 1

    def join(self, request: int) -> None:
        """It waits from now on."""
        entry = self._entries[request] = (*self._key(request), request)
        if self._front and entry < self._front[-1]:
            insort(self._front, entry)
        else:
            heappush(self._rest, entry)

    def take(self, request: int) -> None:
        """It waits no longer. In the heap it is passed over when its turn comes."""
        entry = self._entries.pop(request)
        at = bisect_left(self._front, entry)
        if at < len(self._front) and self._front[at] == entry:
            del self._front[at]

    leave = take

    def stop(self, request: int) -> None:
        """Says nothing of those who wait."""

    def look(self) -> None:
        """Keys do not change."""

    def _draw(self) -> bool:
        """One more from the heap, if there is one that waits."""
        front, rest = self._front, self._rest
        while rest:
            entry = heappop(rest)
            # Who has left and come back with the same key is there twice, one behind the other.
            if self._entries.get(entry[-1]) == entry and not (front and front[-1] == entry):
                front.append(entry)
                return True
        return False
