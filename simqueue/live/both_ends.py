"""A run as its server and its clients saw it, put together: the columns of a `simqueue.result.Result`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simqueue.fates import Fates
from simqueue.live.clients import Account
from simqueue.live.ledger import Ledger
from simqueue.live.worker import GRID, TICKS_PER_NS
from simqueue.record import Column
from simqueue.workload import Workload


@dataclass(frozen=True)
class BothEnds:
    """What was completed of a run. Ticks since ``origin_ns``; columns have one row a completed request.

    ``with_batch``: answers leave when their batch ends.
    """

    ledger: Ledger
    account: Account
    origin_ns: int
    with_batch: bool

    @cached_property
    def _kept(self) -> Column:
        return np.flatnonzero([outcome == "completed" for outcome in self.ledger.outcome])

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
        finished = self._column(ledger.requests.finished)
        first_token = finished if self.with_batch else self._column(ledger.first_token)
        # Nothing is there before it left, nor before what left earlier, whatever the clocks say.
        first_there = np.maximum(self._there(self.account.first_ns), first_token)
        last_there = np.maximum.reduce([self._there(self.account.last_ns), finished, first_there])
        return {
            "arrival": self.arrival,
            "scheduled": self._column(ledger.scheduled),
            "first_token": first_there,
            "finished": last_there,
            "first_delivery": first_there - first_token,
            "delivery": last_there - finished,
        }

    def _there(self, ns: Sequence[int]) -> Column:
        return (np.array(ns, np.int64)[self.rows] - self.origin_ns) * TICKS_PER_NS

    def fates(self) -> Fates | None:
        """Who lost its seat and when it had it again; None if nobody did."""
        requests = self.ledger.requests
        if not requests.preemptions:
            return None
        fates, kept = Fates.of(requests), self._kept
        row = np.full(len(requests.prompt), -1)
        row[kept] = np.arange(len(kept))
        spells = fates.spells.copy()
        spells[:, 0] = row[spells[:, 0]]
        return Fates(
            outcome=np.zeros(len(kept), np.int64),
            preemptions=fates.preemptions[kept],
            recomputed_tokens=fates.recomputed_tokens[kept],
            cached_tokens=fates.cached_tokens[kept],
            spells=spells[spells[:, 0] >= 0],
        )

    def workload(self, asked: Workload) -> Workload:
        """The completed ones of what was asked, with the columns that only a live run has."""
        arrival = self.arrival
        columns = {name: column[self.rows] for name, column in asked.columns.items()}
        columns["arrival_s"] = GRID.seconds(arrival)
        columns["sent_late_s"] = GRID.seconds(self._column(self.ledger.sent) - arrival)
        columns["received_s"] = GRID.seconds(self._column(self.ledger.received) - arrival)
        return Workload.of(columns, asked.meta)

    def warmup(self, first: int) -> int:
        """How many of them are among the first so many by arrival."""
        return int(np.count_nonzero(self.rows < first))
