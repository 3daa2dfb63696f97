"""The SimPy driver of a cluster: replicas on one clock, and the router that deals requests to them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple, Protocol

import simpy

from simqueue.cluster.fleet import Chooser
from simqueue.cluster.replica import Replica, Signals
from simqueue.errors import InvariantError


class Control(Protocol):
    """What changes the fleet while it runs."""

    def begin(self, dispatcher: Dispatcher) -> None:
        """The run begins: plan what comes."""


class Life(NamedTuple):
    """A replica from its start, which may be earlier than its first request can come, to its end."""

    replica: Replica
    since: int


class Dispatcher:
    """Deals requests to replicas as they come, while replicas come and go.

    What comes from outside is no event: it is known beforehand, and the replicas are run up to it. At one instant
    requests come first, in order of id, then what was planned, in the order in which it was, then what replicas do: a
    request whose last token leaves at the very instant of an arrival is still outstanding for it.

    Args:
        start: a fresh replica of that number, empty at that instant.
        age: ticks after which the signals that the router sees are brought up to date; 0 for always.
        control: what changes the fleet; None: nothing.

    Attributes:
        up: by number, the replicas that take requests.
        lives: every replica that there was: one that comes back is another one of the same number.
        drained: when each of these took its last request, of those that are not up any more.
        ready: ``(since when, how many)`` take requests, in order.
    """

    def __init__(
        self,
        env: simpy.Environment,
        start: Callable[[int, int], Replica],
        signals: Signals,
        chooser: Chooser,
        age: int,
        control: Control | None,
    ) -> None:
        self._env, self._start, self.signals = env, start, signals
        self._choose, self._age, self._refreshed = chooser.choose, age, 0
        self._seen = Board(signals) if age else signals
        self.up = {number: start(number, 0) for number in signals.ready}
        self.lives = [Life(replica, 0) for replica in self.up.values()]
        self.drained: dict[Replica, int] = {}
        self.ready = [(0, len(self.up))]
        self._agenda: list[tuple[int, int, Callable[[int], None]]] = []
        self._planned = count()
        self._held: list[tuple[int, int]] = []
        self._closed = False
        if control:
            control.begin(self)

    def run(self, arrival: Sequence[int]) -> None:
        """Send every request at its arrival, and run until all is done."""
        with _no_collection():
            agenda = self._agenda
            for row, at in enumerate(arrival):
                while agenda and agenda[0][0] < at:
                    self._turn()
                self._advance(at)
                self.send(row, at, 0)
            self._close(arrival[-1])
            while agenda and self._unanswered(agenda[0][0]):
                self._turn()
            self._env.run()

    def send(self, row: int, now: int, emitted: int) -> None:
        """To the replica that the router chooses, or to one that comes, if none is there."""
        ready = self.signals.ready
        if not ready:
            self._held.append((row, emitted))
            return
        number = self._choose(row, self._seen)
        if number not in ready:
            raise InvariantError(f"the router chose replica {number}, which is none of {list(ready)}")
        self.up[number].send(row, now, emitted)

    # For what changes the fleet.

    def plan(self, at: int, action: Callable[[int], None]) -> None:
        """Do this at that instant."""
        heappush(self._agenda, (at, next(self._planned), action))

    def bring(self, number: int, now: int, since: int) -> None:
        """A fresh replica takes requests from now on; it has been there ``since``, starting."""
        self.up[number] = replica = self._start(number, now)
        self.lives.append(Life(replica, since))
        self._changed(now)
        if self._closed:
            replica.close(now)
        held, self._held = self._held, []
        for row, emitted in held:
            self.send(row, now, emitted)

    def drain(self, number: int, now: int) -> None:
        """It takes no more requests, and answers those that it has."""
        self.drained[self.up[number]] = now
        replica = self.take_away(number, now)
        if not self._closed:
            replica.close(now)

    def take_away(self, number: int, now: int) -> Replica:
        """It takes no more requests."""
        replica = self.up.pop(number)
        self._changed(now)
        return replica

    def _changed(self, now: int) -> None:
        self.signals.ready = tuple(sorted(self.up))
        self.ready.append((now, len(self.up)))

    # Time.

    def _turn(self) -> None:
        """The next entry of the agenda."""
        now, _, action = heappop(self._agenda)
        self._advance(now)
        action(now)

    def _advance(self, at: int) -> None:
        """Do all that comes before ``at``, and write the board anew where that is due."""
        if self._age and (due := at - at % self._age) > self._refreshed:
            self._run_to(due)
            self._seen = Board(self.signals)
            self._refreshed = due
        self._run_to(at)

    def _run_to(self, at: int) -> None:
        peek, step = self._env.peek, self._env.step
        while peek() < at:
            step()

    def _unanswered(self, at: int) -> bool:
        """Whether anybody has not been answered before ``at``."""
        self._run_to(at)
        return bool(self._held or any(self.signals.outstanding))

    def _close(self, now: int) -> None:
        """The last request has been sent."""
        self._closed = True
        for replica in self.up.values():
            replica.close(now)


class Board:
    """The signals of an instant, but for who is ready, which is always up to date."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self.outstanding = signals.outstanding.copy()
        self.tokens = signals.tokens.copy()
        self.queue = signals.queue.copy()

    @property
    def ready(self) -> Sequence[int]:
        """The replicas that take requests."""
        return self._signals.ready


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
