"""When requests come: from a column, or from users and sessions that wait for answers.

No clock: a driver says what time it is.

Time is in ticks, at the queue. Ids count from 0 in order of arrival.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol

from simqueue.record import NEVER, Requests

# Arrivals since the last question are few: they are looked for among so many before all that are left.
_NEAR = 32


class Source(Protocol):
    """What a driver asks for arrivals, and tells of answers."""

    @property
    def next(self) -> int:
        """The next arrival; `NEVER` if none is known: then nobody comes before somebody has been answered."""

    def take(self, now: int) -> int:
        """Everybody up to and including ``now`` has come; returns how many have come in all."""

    def hear(self, request: int, end: int) -> None:
        """The last token of an answer left the server at ``end``. Told in order of ``end`` (at one instant of id), and
        before anything later than the first ``end`` is taken."""

    def lose(self, request: int, at: int) -> None:
        """Its client has given up at ``at``; told in the same order."""


class Columns:
    """Arrivals that are known beforehand, whatever becomes of them: an open loop.

    ``arrival`` is sorted and ends with `NEVER`.
    """

    def __init__(self, arrival: list[int]) -> None:
        self._arrival, self._count = arrival, len(arrival) - 1
        self._tail = 0
        self.next = arrival[0]

    def take(self, now: int) -> int:
        """See `Source.take`."""
        arrival, tail = self._arrival, self._tail
        if arrival[tail] <= now:
            tail += 1
            if arrival[tail] <= now:
                near = min(tail + _NEAR, self._count)
                tail = bisect_right(arrival, now, tail, near if arrival[near] > now else self._count)
            self._tail = tail
            self.next = arrival[tail]
        return tail

    def hear(self, request: int, end: int) -> None:
        """Nobody waits for it."""

    def lose(self, request: int, at: int) -> None:
        """Nobody does anything else for it."""


class Users:
    """Users who think, ask, wait for the whole answer, and think again: a closed loop.

    All of them begin to think at 0. At one instant they come in the order in which they began to think. Once everything
    has been asked they go.

    Args:
        arrival: is filled in as requests come; has room for all of them.
        think: so many ticks each think lasts, in the order in which they begin; taken from the start again at its end.
        users: how many there are.
        there, back: the way of a request to the queue, and of an answer to its user.

    Attributes:
        asked: the user of every request that has come.
    """

    def __init__(self, arrival: list[int], think: Sequence[int], users: int, there: int = 0, back: int = 0) -> None:
        self._arrival, self._think, self._there, self._back = arrival, think, there, back
        self._count = len(think)
        self._begun = 0
        self._coming: list[tuple[int, int, int]] = []
        self.asked: list[int] = []
        for user in range(users):
            self._thinks(user, 0)

    @property
    def next(self) -> int:
        """See `Source.next`."""
        return self._coming[0][0] if self._coming and len(self.asked) < self._count else NEVER

    def take(self, now: int) -> int:
        """See `Source.take`."""
        while self.next <= now:
            due, _, user = heappop(self._coming)
            self._arrival[len(self.asked)] = due
            self.asked.append(user)
        return len(self.asked)

    def hear(self, request: int, end: int) -> None:
        """See `Source.hear`."""
        self.lose(request, end + self._back)

    def lose(self, request: int, at: int) -> None:
        """See `Source.lose`."""
        self._thinks(self.asked[request], at)

    def _thinks(self, user: int, begin: int) -> None:
        due = begin + self._think[self._begun % self._count] + self._there
        heappush(self._coming, (due, self._begun, user))
        self._begun += 1


class Sessions:
    """Conversations: their first turns come when they do, each other one a think time after the answer before it has
    been heard, or after it is clear that there will be none.

    Ids count in order of arrival, which nobody knows beforehand, so that turns are known by their rows. At one instant
    first turns come first, then others in the order in which their thinks began.

    Args:
        requests: holds what each row brings, and the arrivals of first turns at the queue, sorted. As turns come, all
            of it is put in their order.
        following: the row of the next turn of each row's session, -1 after the last.
        think: so many ticks lie before each row's turn; of first ones not looked at.
        there, back: the way of a request to the queue, and of an answer to its user.

    Attributes:
        rows: the row of every request that has come.
    """

    def __init__(
        self, requests: Requests, following: Sequence[int], think: Sequence[int], there: int = 0, back: int = 0
    ) -> None:
        self._following, self._think, self._there, self._back = following, think, there, back
        self._arrival = requests.arrival
        self._columns = [(column, column.copy()) for column in requests.columns]
        first = sorted({*range(requests.count)} - {*following})
        self._coming = [(self._arrival[row], nth, row) for nth, row in enumerate(first)]
        self._begun = len(first)
        self.rows: list[int] = []

    @property
    def next(self) -> int:
        """See `Source.next`."""
        return self._coming[0][0] if self._coming else NEVER

    def take(self, now: int) -> int:
        """See `Source.take`."""
        while self.next <= now:
            self._come(*heappop(self._coming))
        return len(self.rows)

    def hear(self, request: int, end: int) -> None:
        """See `Source.hear`."""
        self.lose(request, end + self._back)

    def lose(self, request: int, at: int) -> None:
        """See `Source.lose`."""
        row = self._following[self.rows[request]]
        if row >= 0:
            due = at + self._think[row] + self._there
            heappush(self._coming, (due, self._begun, row))
            self._begun += 1

    def _come(self, due: int, _: int, row: int) -> None:
        request = len(self.rows)
        self._arrival[request] = due
        for column, planned in self._columns:
            column[request] = planned[row]
        self.rows.append(row)
