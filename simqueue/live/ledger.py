"""The columns that a live run fills: one row a request, one row a step. Ticks, as the simulator's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simqueue.plan import Work
from simqueue.record import Column, OpenRequests, Outcome

LEAP_FIELDS = (
    *("start", "steps", "first", "total", "rows", "context", "longest"),
    *("prefill_rows", "new_tokens", "prefill_context", "widest", "paused"),
)
HOST_FIELDS = ("receive", "schedule", "launch", "ahead", "device", "complete", "deliver")
"""Where the wall time of a step goes, in order: taking messages in; the policy's decision; staging and launching;
launching what the next step decodes; waiting for the device; telling the engine; delivering."""


class Ledger:
    """By request, in the order in which they came; and by step.

    Attributes:
        requests: lengths and arrivals, and when each finished.
        numbers: what its client calls it.
        scheduled, first_token: -1 where that was not reached. Step ends, not yet at the client.
        sent, received: when the client sent it, and when the worker had it.
        outcome: what became of it; None while it is not known.
        waited: by step, whether the replica was free before it. A step that follows another back to back begins when
            that ends, so that what the host does between them is part of it.
    """

    def __init__(self) -> None:
        self.requests = OpenRequests()
        self.numbers: list[int] = []
        self.scheduled: list[int] = []
        self.first_token: list[int] = []
        self.sent: list[int] = []
        self.received: list[int] = []
        self.outcome: list[Outcome | None] = []
        self.waited: list[bool] = []
        self._steps: list[tuple[int, ...]] = []
        self._host: list[tuple[int, ...]] = []

    def open(self, number: int, sent: int, received: int) -> None:
        """A request has come, by its client's own number."""
        self.numbers.append(number)
        self.sent.append(sent)
        self.received.append(received)
        self.scheduled.append(-1)
        self.first_token.append(-1)
        self.outcome.append(None)

    def note_steps(self, work: Work, start: int, ends: Sequence[int], *, waited: bool) -> None:
        """The work ran for so many steps, one after another."""
        rows, joining = work.decode_rows + work.held_rows, work.prefill_rows
        prefill = (joining, work.new_tokens, work.prefill_context, work.widest, work.paused)
        first = ends[0] - start
        self._steps.append((start, 1, first if joining else 0, first, rows, work.context, work.longest, *prefill))
        self.waited.append(waited)
        for age, (before, end) in enumerate(pairwise(ends)):
            everyone = rows + joining
            context = work.context + rows + work.new_tokens + work.prefill_context + everyone * age
            longest = max(work.longest + 1, work.widest) + age
            self._steps.append((before, 1, 0, end - before, everyone, context, longest, 0, 0, 0, 0, 0))
            self.waited.append(False)

    def note_host(self, stamps: Sequence[int], steps: int) -> None:
        """Where the host's time went in a round of the loop; a call that runs many steps says so of the first."""
        self._host.append(tuple(after - before for before, after in pairwise(stamps)))
        self._host += [(0,) * len(HOST_FIELDS)] * (steps - 1)

    def leaps(self) -> dict[str, Column]:
        """One leap a step, as `simqueue.result.Result` has them."""
        table = np.array(self._steps, np.int64).reshape(len(self._steps), len(LEAP_FIELDS))
        columns = {name: table[:, i] for i, name in enumerate(LEAP_FIELDS)}
        if not columns["paused"].any():
            del columns["paused"]
        return columns

    def durations(self) -> Column:
        """Ticks of every step."""
        return self.leaps()["total"]

    def host(self) -> dict[str, NDArray[np.int64]]:
        """Nanoseconds of every step by `HOST_FIELDS`."""
        table = np.array(self._host, np.int64).reshape(len(self._host), len(HOST_FIELDS))
        return {name: table[:, i] for i, name in enumerate(HOST_FIELDS)}
