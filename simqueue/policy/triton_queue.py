"""The queue of Triton's dynamic batcher: priority levels, sizes and timeouts."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Container, Iterator
from typing import Literal, NamedTuple

import msgspec

from simqueue.checks import at_least
from simqueue.units import INT64_MAX, Grid

_UINT32_MAX = 2**32 - 1


class QueuePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``ModelQueuePolicy`` of model_config.proto: how long a queue gets, and who waits in it for how long.

    Attributes:
        timeout_action: what becomes of a request that has timed out: ``"REJECT"``, or ``"DELAY"``: it goes behind those
            of its level that have not.
        default_timeout_microseconds: from its coming to the queue; 0 is none.
        allow_timeout_override: a request may have a shorter timeout of its own (never a longer one, and none where
            there is no default): its ``ttft_slo_s``.
        max_queue_size: who finds so many requests in the queue of their level is refused; 0 is no limit.
    """

    timeout_action: Literal["REJECT", "DELAY"] = "REJECT"
    default_timeout_microseconds: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0

    def check(self, where: str) -> None:
        """Refuse values that mean nothing. Raises ConfigError."""
        at_least(where, "default_timeout_microseconds", self.default_timeout_microseconds, 0)
        at_least(where, "max_queue_size", self.max_queue_size, 0)

    @property
    def plain(self) -> bool:
        """Whether it does nothing, as upstream has it: then the batcher forms batches ahead."""
        return not (self.default_timeout_microseconds or self.allow_timeout_override or self.max_queue_size)

    @property
    def turns_away(self) -> bool:
        """Whether it may refuse anybody."""
        rejects = self.default_timeout_microseconds and self.timeout_action == "REJECT"
        return bool(self.max_queue_size or rejects)

    @property
    def lenient(self) -> QueuePolicy:
        """The same that refuses nobody, and is no plainer."""
        longest = _UINT32_MAX if self.max_queue_size else 0
        return msgspec.structs.replace(self, timeout_action="DELAY", max_queue_size=longest)


class Pending(NamedTuple):
    """What the batcher finds from the head of the queue on.

    Attributes:
        batch: requests that it can take.
        timeout: when the first of them times out.
        rejected: who stood in their way, timed out.
    """

    batch: list[int]
    timeout: int
    rejected: list[int]


class Level:
    """The queue of one priority level: who is in time, and then who has been delayed, each first come first served."""

    def __init__(self, policy: QueuePolicy, grid: Grid) -> None:
        self._most = policy.max_queue_size or INT64_MAX
        self._timeout = grid.ticks(policy.default_timeout_microseconds / 1e6) or INT64_MAX
        self._overrides = policy.allow_timeout_override and self._timeout < INT64_MAX
        self.delays = policy.timeout_action == "DELAY"
        # With the instant at which each times out.
        self.in_time: deque[tuple[int, int]] = deque()
        self.delayed: deque[int] = deque()

    def __len__(self) -> int:
        return len(self.in_time) + len(self.delayed)

    def enqueue(self, request: int, now: int, timeout: int) -> bool:
        """It comes with a timeout of its own; returns whether it is taken."""
        if len(self) >= self._most:
            return False
        lasts = min(self._timeout, timeout) if self._overrides and timeout else self._timeout
        self.in_time.append((request, now + lasts if lasts < INT64_MAX else INT64_MAX))
        return True

    def take(self) -> int:
        """The first one leaves."""
        return self.in_time.popleft()[0] if self.in_time else self.delayed.popleft()

    def walk(self, now: int, rejected: list[int]) -> Iterator[tuple[int, int]]:
        """One after the other, with their timeouts; who has timed out is dealt with when the walk comes to it."""
        in_time, index = self.in_time, 0
        while True:
            while index < len(in_time) and in_time[index][1] <= now:
                (self.delayed if self.delays else rejected).append(in_time[index][0])
                del in_time[index]
            if index == len(in_time):
                break
            yield in_time[index]
            index += 1
        yield from [(request, INT64_MAX) for request in self.delayed]

    def reject_timed_out(self, now: int) -> list[int]:
        """Whoever has timed out leaves, if this is how they are dealt with."""
        if self.delays:
            return []
        gone = [request for request, timeout in self.in_time if timeout <= now]
        self.in_time = deque(entry for entry in self.in_time if entry[1] > now)
        return gone

    def keep(self, here: Container[int]) -> None:
        """All others have gone away."""
        self.in_time = deque(entry for entry in self.in_time if entry[0] in here)
        self.delayed = deque(request for request in self.delayed if request in here)


class PriorityQueue:
    """Levels in order of urgency, 1 first. As ``PriorityQueue`` in scheduler_utils.cc, which walks through it with a
    cursor and goes on from there while nothing before it has changed: that finds what a walk from the head finds.

    Time is up *at* a timeout: upstream's comparison leaves out the instant itself, at which no thread ever looks.
    """

    def __init__(self, levels: int, default_level: int, policy_of: Callable[[int], QueuePolicy], grid: Grid) -> None:
        self._count, self._default, self._policy_of, self._grid = levels, default_level, policy_of, grid
        self._levels: dict[int, Level] = {}
        self._order: list[int] = []
        self.size = 0

    def enqueue(self, request: int, priority: int, now: int, timeout: int) -> bool:
        """It comes with a timeout of its own (0 for none); returns whether it is taken. A priority that is no level
        means the default one."""
        level = priority if 1 <= priority <= self._count else self._default
        if level not in self._levels:
            self._levels[level] = Level(self._policy_of(level), self._grid)
            insort(self._order, level)
        taken = self._levels[level].enqueue(request, now, timeout)
        self.size += taken
        return taken

    def pending(self, most: int, now: int) -> Pending:
        """From the head on, at most so many. Who has timed out, and stands before or right behind them, is dealt with;
        nobody else is looked at."""
        batch: list[int] = []
        rejected: list[int] = []
        first_timeout = INT64_MAX
        for request, timeout in self._walk(now, rejected):
            if len(batch) == most:
                break
            batch.append(request)
            first_timeout = min(first_timeout, timeout)
        self.size -= len(rejected)
        return Pending(batch, first_timeout, rejected)

    def _walk(self, now: int, rejected: list[int]) -> Iterator[tuple[int, int]]:
        for level in self._order:
            yield from self._levels[level].walk(now, rejected)

    def take(self, count: int) -> list[int]:
        """So many leave from the head."""
        self.size -= count
        levels = (self._levels[level] for level in self._order)
        taken: list[int] = []
        for level in levels:
            taken += [level.take() for _ in range(min(count - len(taken), len(level)))]
        return taken

    def reject_timed_out(self, now: int) -> list[int]:
        """Whoever has timed out and is to be rejected leaves, wherever it stands."""
        gone = [request for level in self._order for request in self._levels[level].reject_timed_out(now)]
        self.size -= len(gone)
        return gone

    def keep(self, here: Container[int]) -> None:
        """All others have gone away."""
        for level in self._levels.values():
            level.keep(here)
        self.size = sum(len(level) for level in self._levels.values())
