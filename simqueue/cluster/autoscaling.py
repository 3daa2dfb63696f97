"""How many replicas there are by how much there is to do."""

from __future__ import annotations

from functools import partial
from math import ceil
from typing import Literal

import msgspec

from simqueue.checks import at_least, positive, seconds
from simqueue.cluster.drive import Dispatcher
from simqueue.cluster.replica import Replica
from simqueue.errors import ConfigError

_WHERE = "autoscaling"


class Autoscaling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every ``every_s`` seconds: as many replicas as are needed for ``target`` on each, rounded up (the rule of the
    Kubernetes horizontal pod autoscaler, less its tolerance and its stabilisation window).

    Attributes:
        by: what is looked at: ``"queue"``, the requests at a replica at that instant, waiting or in a seat; or
            ``"utilisation"``, the share of the last ``every_s`` seconds in which it was busy.
        target: how much of it a replica should have.
        every_s: seconds between two decisions.
        min_replicas: so many there are at least, and at the start; at most as many as the cluster has.
        start_s: from a decision until a new replica takes requests. It is paid for.

    Who is not needed any more, the one with the highest number first, takes no more requests, and is paid for until its
    last one has been answered.
    """

    target: float
    every_s: float
    by: Literal["queue", "utilisation"] = "queue"
    min_replicas: int = 1
    start_s: float = 0.0

    def __post_init__(self) -> None:
        positive(_WHERE, "target", self.target)
        positive(_WHERE, "every_s", self.every_s)
        at_least(_WHERE, "min_replicas", self.min_replicas, 1)
        seconds(_WHERE, "start_s", self.start_s)
        if self.by == "utilisation" and self.target > 1:
            raise ConfigError(f"{_WHERE}: target = {self.target} is more than 1, which no utilisation is: lower it")

    def refuse_endless(self, requests: int, span_s: float) -> None:
        """Refuse to decide so often in ``span_s`` seconds that the run would hardly end. Raises ConfigError."""
        expected, most = span_s / self.every_s, most_decisions(requests)
        if expected > most:
            raise ConfigError(
                f"{_WHERE}: every_s = {self.every_s} makes {expected:.2g} decisions in the {span_s:.3g} s in which "
                f"requests come, more than {most:,} for {requests:,} requests: give a longer one"
            )


def most_decisions(requests: int) -> int:
    """In a run of so many requests: 100,000 take seconds, and 100 for each request longer than serving it."""
    return 100_000 + 100 * requests


class Scaler:
    """The rule at work on one run of so many requests. Ticks."""

    def __init__(self, rule: Autoscaling, requests: int, replicas: int, every: int, start: int) -> None:
        self._left = most_decisions(requests)
        self._rule, self._replicas, self._every, self._start = rule, replicas, every, start
        # Since when each of those starts.
        self._starting: dict[int, int] = {}
        self._busy: dict[Replica, int] = {}

    def begin(self, dispatcher: Dispatcher) -> None:
        """The first decision is one period away."""
        self._dispatcher = dispatcher
        dispatcher.plan(self._every, self._decide)

    def _decide(self, now: int) -> None:
        self._left -= 1
        if self._left < 0:
            raise ConfigError(
                f"{_WHERE}: every_s = {self._rule.every_s} has made 100,000 decisions, and 100 for each request, and "
                "not all have been answered: give a longer one"
            )
        # Three that are busy as much as wanted are three.
        needed = ceil(self._demand(now) / self._rule.target - 1e-9)
        wanted = min(self._replicas, max(self._rule.min_replicas, needed))
        there = len(self._dispatcher.up) + len(self._starting)
        for _ in range(there, wanted):
            self._add(now)
        self._let_go(there - wanted, now)
        self._dispatcher.plan(now + self._every, self._decide)

    def _let_go(self, count: int, now: int) -> None:
        """So many are not needed: first those who are still starting, then those with the highest numbers."""
        for _ in range(min(count, len(self._starting))):
            _, since = self._starting.popitem()
            self._dispatcher.given_up += now - since
            count -= 1
        for number in sorted(self._dispatcher.up, reverse=True)[: max(0, count)]:
            self._dispatcher.drain(number, now)

    def _demand(self, now: int) -> float:
        """Of all replicas that take requests together."""
        up, signals = self._dispatcher.up, self._dispatcher.signals
        if self._rule.by == "queue":
            return sum(signals.queue[number] for number in up)
        before, self._busy = self._busy, {replica: replica.busy(now) for replica in up.values()}
        return sum(busy - before.get(replica, 0) for replica, busy in self._busy.items()) / self._every

    def _add(self, now: int) -> None:
        """The first that is not there; none, if all others still answer their last requests."""
        up, signals = self._dispatcher.up, self._dispatcher.signals
        free = (number for number in range(self._replicas) if number not in up and number not in self._starting)
        number = next((number for number in free if not signals.outstanding[number]), None)
        if number is not None:
            self._starting[number] = now
            self._dispatcher.plan(now + self._start, partial(self._ready, number, now))

    def _ready(self, number: int, since: int, at: int) -> None:
        # It may have been given up, and another one started since.
        if self._starting.get(number) == since:
            del self._starting[number]
            self._dispatcher.bring(number, at, since)
