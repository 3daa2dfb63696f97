"""A run as its server and its clients saw it, put together: the columns of a `simqueue.result.Result`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simqueue.fates import OUTCOMES, Fates
from simqueue.live.clients import Account
from simqueue.live.executor import GRID, TICKS_PER_NS
from simqueue.live.ledger import Ledger
from simqueue.record import Column, Outcome
from simqueue.workload import Workload

_KEPT = ("completed", "rejected", "abandoned")


@dataclass(frozen=True)
class BothEnds:
    """What became of a run. Ticks since ``origin_ns``; columns have one row a request that was completed, was turned
    away, or was given up.

    ``with_batch``: answers leave when their batch ends.
    """

    ledger: Ledger
    account: Account
    origin_ns: int
    with_batch: bool

    @cached_property
    def outcome(self) -> list[Outcome | None]:
        """What became of each request, as in the ledger. Of having given up a client says so itself, whatever the
        server had on the way to it."""
        gave_up = self.account.gave_up_ns
        told = zip(self.ledger.numbers, self.ledger.outcome, strict=True)
        return ["abandoned" if number in gave_up else outcome for number, outcome in told]

    @cached_property
    def _kept(self) -> Column:
        return np.flatnonzero([outcome in _KEPT for outcome in self.outcome])

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Which of them were answered whole."""
        return np.array([self.outcome[i] == "completed" for i in self._kept], bool)

    def _column(self, values: Sequence[int]) -> Column:
        return np.array(values, np.int64)[self._kept]

    @property
    def rows(self) -> Column:
        """Their rows in the workload that was to be served."""
        return self._column(self.ledger.numbers)

    @property
    def arrival(self) -> Column:
        """When each was meant to come."""
        return self._column(self.ledger.requests.arrival[:-1])

    def times(self) -> dict[str, Column]:
        """Every column of ticks of the result."""
        ledger = self.ledger
        finished = self._finished()
        # Nobody has anything after it went, nor what it did not get before.
        scheduled, first_token = (
            np.where(at < 0, finished, np.minimum(at, finished))
            for at in map(self._column, (ledger.scheduled, ledger.first_token))
        )
        first_token = finished if self.with_batch else first_token
        # Nothing is there before it left, nor before what left earlier, whatever the clocks say.
        first_there = np.maximum(self._there(self.account.first_ns), first_token)
        last_there = np.maximum.reduce([self._there(self.account.last_ns), finished, first_there])
        return {
            "arrival": self.arrival,
            "scheduled": scheduled,
            "first_token": first_there,
            "finished": last_there,
            "first_delivery": first_there - first_token,
            "delivery": last_there - finished,
        }

    def _finished(self) -> Column:
        """When the answer left, or its client gave up."""
        finished, gave_up = self._column(self.ledger.requests.finished), self.account.gave_up_ns
        left = [gave_up.get(row, -1) for row in self.rows.tolist()]
        return np.where(np.array(left) < 0, finished, self._ticks(left))

    def _ticks(self, ns: Sequence[int]) -> Column:
        return (np.array(ns, np.int64) - self.origin_ns) * TICKS_PER_NS

    def _there(self, ns: Sequence[int]) -> Column:
        return self._ticks(ns)[self.rows]

    def fates(self) -> Fates:
        """Who was turned away or gave up; who lost its seat and when it had it again."""
        requests = self.ledger.requests
        fates, kept = Fates.of(requests), self._kept
        row = np.full(len(requests.prompt), -1)
        row[kept] = np.arange(len(kept))
        spells = fates.spells.copy()
        spells[:, 0] = row[spells[:, 0]]
        return Fates(
            outcome=np.array([OUTCOMES.index(self.outcome[i] or "failed") for i in kept], np.int64),
            preemptions=fates.preemptions[kept],
            recomputed_tokens=fates.recomputed_tokens[kept],
            cached_tokens=fates.cached_tokens[kept],
            spells=spells[spells[:, 0] >= 0],
        )

    def workload(self, asked: Workload) -> Workload:
        """Of what was asked, with the columns that only a live run has."""
        arrival = self.arrival
        columns = {name: column[self.rows] for name, column in asked.columns.items()}
        columns["arrival_s"] = GRID.seconds(arrival)
        columns["sent_late_s"] = GRID.seconds(self._column(self.ledger.sent) - arrival)
        columns["received_s"] = GRID.seconds(self._column(self.ledger.received) - arrival)
        return Workload.of(columns, asked.meta)

    def warmup(self, first: int) -> int:
        """How many of them are among the first so many that came."""
        return int(np.count_nonzero(self._kept < first))
