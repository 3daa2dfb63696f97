"""The SimPy driver of a cluster: replicas on one clock, and the router that deals requests to them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop
from typing import NamedTuple, Protocol

from simqueue.cluster.callers import Callers
from simqueue.cluster.clock import AGAIN, Clock
from simqueue.cluster.fleet import Chooser, View
from simqueue.cluster.replica import Replica
from simqueue.cluster.signals import Board, Signals
from simqueue.errors import InvariantError
from simqueue.record import NEVER


class Control(Protocol):
    """What changes the fleet while it runs."""

    def begin(self, dispatcher: Dispatcher) -> None:
        """The run begins: plan what comes."""


class Life(NamedTuple):
    """A replica from its start, which may be earlier than its first request can come, to its end."""

    replica: Replica
    since: int


class Fleet(dict[int, Replica]):
    """The replicas that take requests, by number."""

    def __missing__(self, number: int) -> Replica:
        raise InvariantError(f"the router chose replica {number}, which is none of {sorted(self)}")


class Dispatcher:
    """Deals requests to replicas as they come, while replicas come and go.

    At one instant requests come first, in order of id, then what was planned, in the order in which it was, then what
    replicas do: a request whose last token leaves at the very instant of an arrival is still outstanding for it. Who
    asks again since somebody has been answered comes when all replicas have done what ends at that instant, and before
    they decide what to do next.

    Args:
        start: a fresh replica of that number, empty at that instant; the first argument counts them.
        age: ticks after which the signals that the router sees are brought up to date; 0 for always.
        control: what changes the fleet; None: nothing.

    Attributes:
        up: by number, the replicas that take requests.
        lives: every replica that there was: one that comes back is another one of the same number.
        ended: when each of these took its last request, of those that are not up any more.
        given_up: ticks that replicas had been starting for when they were found not to be needed.
        ready: ``(since when, how many)`` take requests, in order.
    """

    def __init__(
        self,
        clock: Clock,
        start: Callable[[int, int, int], Replica],
        signals: Signals,
        chooser: Chooser,
        age: int,
        control: Control | None,
    ) -> None:
        self._clock, self._start, self.signals = clock, start, signals
        self._choose, self._age, self._refreshed = chooser.choose, age, 0
        self._seen: View = Board(signals) if age else signals
        self.up = Fleet()
        self.lives: list[Life] = []
        for number in signals.ready:
            self._begin(number, 0, 0)
        self.ended: dict[Replica, int] = {}
        self.given_up = 0
        self.ready = [(0, len(self.up))]
        self._held: list[tuple[int, int]] = []
        if control:
            control.begin(self)

    def run(self, arrival: Sequence[int]) -> None:
        """Send every row at its arrival, and run until all is done."""
        with _no_collection():
            alarms, age, choose, up = self._clock.alarms, self._age, self._choose, self.up
            seen = self._seen
            for row, at in enumerate(arrival):
                if age:
                    self._run_to(at - at % age)
                    self._renew(at)
                    seen = self._seen
                while alarms[0][0] < at:
                    due, _, tell = heappop(alarms)
                    tell(due)
                if up:
                    up[choose(row, seen)].send(row, at, 0)
                else:
                    self._held.append((row, 0))
            self._close(arrival[-1])
            while self._unanswered:
                due, _, tell = heappop(alarms)
                tell(due)

    def serve(self, callers: Callers) -> None:
        """Send whoever comes, some of whom wait for answers before they come again, until nobody does."""
        with _no_collection():
            alarms, age, now, place = self._clock.alarms, self._age, -1, 0
            while (at := callers.next) < NEVER or self._unanswered:
                if age and at < NEVER and not alarms[0][0] < at - at % age:
                    self._renew(at)
                due, after, tell = alarms[0]
                if due < at or at == NEVER or (due == at == now and place >= 0 and after < AGAIN):
                    heappop(alarms)
                    now, place = due, after
                    tell(due)
                    continue
                for row in callers.take(at):
                    self.send(row, at, 0)
                if callers.next == NEVER:
                    self._close(at)

    def send(self, row: int, now: int, emitted: int) -> None:
        """To the replica that the router chooses, or to one that comes, if none is there."""
        if self.up:
            self.up[self._choose(row, self._seen)].send(row, now, emitted)
        else:
            self._held.append((row, emitted))

    # For what changes the fleet.

    def plan(self, at: int, action: Callable[[int], None]) -> None:
        """Do this at that instant, when the router sees what it sees then."""
        if self._age:
            self._clock.plan(at - at % self._age, self._renew)
        self._clock.plan(at, action)

    def bring(self, number: int, now: int, since: int) -> None:
        """A fresh replica takes requests from now on; it has been there ``since``, starting."""
        self._begin(number, now, since)
        self._changed(now)
        held, self._held = self._held, []
        for row, emitted in held:
            self.send(row, now, emitted)

    def drain(self, number: int, now: int) -> None:
        """It takes no more requests, and answers those that it has."""
        self.take_away(number, now).drain(now)

    def take_away(self, number: int, now: int) -> Replica:
        """It takes no more requests."""
        replica = self.up.pop(number)
        self.ended[replica] = now
        self._changed(now)
        return replica

    def _begin(self, number: int, now: int, since: int) -> None:
        self.up[number] = replica = self._start(len(self.lives), number, now)
        self.lives.append(Life(replica, since))

    def _changed(self, now: int) -> None:
        self.signals.ready = tuple(sorted(self.up))
        self.ready.append((now, len(self.up)))

    # Time.

    @property
    def _unanswered(self) -> bool:
        """Whether anybody has not been answered."""
        return bool(self._held) or any(self.signals.outstanding)

    def _close(self, now: int) -> None:
        """Nobody comes before somebody has been answered."""
        self.signals.closed = True
        for replica in self.up.values():
            replica.close(now)

    def _run_to(self, at: int) -> None:
        alarms = self._clock.alarms
        while alarms[0][0] < at:
            due, _, tell = heappop(alarms)
            tell(due)

    def _renew(self, at: int) -> None:
        """Write the board anew, if that has become due since the last time."""
        due = at - at % self._age
        if due > self._refreshed:
            self._seen, self._refreshed = Board(self.signals), due


@contextmanager
def _no_collection() -> Iterator[None]:
    """Events leave no cycles behind, and looking for some costs a quarter of the run."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
