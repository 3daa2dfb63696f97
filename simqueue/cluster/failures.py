"""Replicas that fail and come back: when, and what becomes of their requests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np

from simqueue.checks import at_least, positive, seconds
from simqueue.errors import ConfigError
from simqueue.units import Grid

MOST_FAILURES = 50_000
"""In one run: each takes about half a millisecond, and a replica that has failed is kept for the result."""

_WHERE = "failures"


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A replica fails at ``at_s`` and begins to start again ``for_s`` later."""

    replica: int
    at_s: float
    for_s: float

    def __post_init__(self) -> None:
        at_least(_WHERE, "outages: replica", self.replica, 0)
        seconds(_WHERE, "outages: at_s", self.at_s)
        seconds(_WHERE, "outages: for_s", self.for_s)


class Failures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When replicas fail: at given instants (``outages``), or each by itself after exponential times.

    Attributes:
        then: what becomes of the requests of a replica that fails. ``"lost"``: nothing more. ``"retried"``: they come
            to the router again at that instant, and start again. ``"resumed"``: they keep the tokens that have left;
            elsewhere these are computed again as a part of the prompt.
        outages: instants, in seconds from the start of the run.
        mean_up_s, mean_down_s: means of the times from ready to failure, and from failure to the start.
        start_s: from its start until a replica takes requests, empty as on its first day.
    """

    then: Literal["lost", "retried", "resumed"] = "retried"
    outages: tuple[Outage, ...] = ()
    mean_up_s: float | None = None
    mean_down_s: float | None = None
    start_s: float = 0.0

    def __post_init__(self) -> None:
        seconds(_WHERE, "start_s", self.start_s)
        drawn = (self.mean_up_s, self.mean_down_s)
        for key, value in zip(("mean_up_s", "mean_down_s"), drawn, strict=True):
            if value is not None:
                positive(_WHERE, key, value)
        if None in drawn and (drawn != (None, None) or not self.outages):
            raise ConfigError(f"{_WHERE}: give outages = [...], or both mean_up_s and mean_down_s")
        if self.outages and drawn != (None, None):
            raise ConfigError(f"{_WHERE}: outages, mean_up_s and mean_down_s are given: leave one or the others out")
        for replica in {outage.replica for outage in self.outages}:
            self._refuse_overlap(replica)

    @property
    def availability(self) -> float:
        """The share of the time in which a replica takes requests, in the long run: 1 where outages are given."""
        if self.mean_up_s is None or self.mean_down_s is None:
            return 1.0
        return self.mean_up_s / (self.mean_up_s + self.mean_down_s + self.start_s)

    def refuse_endless(self, replicas: int, span_s: float) -> None:
        """Refuse times so short that replicas would fail far too often in ``span_s`` seconds. Raises ConfigError."""
        if self.mean_up_s is None or self.mean_down_s is None:
            return
        expected = replicas * span_s / (self.mean_up_s + self.mean_down_s + self.start_s)
        if expected > MOST_FAILURES:
            raise ConfigError(
                f"{_WHERE}: mean_up_s = {self.mean_up_s} and mean_down_s = {self.mean_down_s} make {expected:.2g} "
                f"failures in the {span_s:.3g} s in which requests come, more than {MOST_FAILURES:,}: give longer times"
            )

    def _refuse_overlap(self, replica: int) -> None:
        for before, after in pairwise(self._of(replica)):
            if after.at_s < before.at_s + before.for_s + self.start_s:
                raise ConfigError(
                    f"{_WHERE}: outages: replica {replica} fails at {after.at_s} s, before it takes requests again "
                    f"after its failure at {before.at_s} s: put them into one"
                )

    def _of(self, replica: int) -> list[Outage]:
        return sorted((one for one in self.outages if one.replica == replica), key=lambda one: one.at_s)

    def spans(self, replica: int, grid: Grid, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
        """``(up, down)`` in ticks: from being ready to the next failure, and from it until the replica takes requests
        again."""
        start, ready = grid.ticks(self.start_s), 0
        for outage in self._of(replica):
            at, down = grid.ticks(outage.at_s), grid.ticks(outage.for_s) + start
            yield at - ready, down
            ready = at + down
        while self.mean_up_s is not None and self.mean_down_s is not None:
            up, down = (grid.ticks(mean * rng.standard_exponential()) for mean in (self.mean_up_s, self.mean_down_s))
            yield up, down + start
