"""What a router sends to one replica, as columns that grow; and what is not answered when the replica fails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simqueue.record import Requests


class Inbox(Requests):
    """Requests that a router sends as it goes: rows of a table of all that might be sent, with ids of their own.

    Attributes:
        rows: their rows in that table.
    """

    def __init__(self, planned: Requests) -> None:
        none = np.zeros(0, np.int64)
        most, predicted = _empty(planned.max_output), _empty(planned.predicted_output)
        traits: dict[str, list[Any]] = {name: [] for name in planned.traits}
        hashes, patience = _empty(planned.hashes), _empty(planned.patience)
        super().__init__(none, none, none, most, predicted, hashes, traits, patience, adopted=planned.adopted)
        self.count = -1
        self.rows: list[int] = []
        self._outputs = [column for column in (self.output, most, predicted) if column is not None]
        self._prompts_planned, self._outputs_planned = planned.prompt, planned.output
        # Prompts and outputs come first.
        self._further = list(zip(self.columns, planned.columns, strict=True))[2:]

    def append(self, row: int, at: int, emitted: int) -> None:
        """One more has been sent, and comes to the queue at ``at``; the tokens that it has emitted elsewhere are a part
        of its prompt."""
        self.rows.append(row)
        # Before the last, which is `NEVER`.
        self.arrival.insert(-1, at)
        self.finished.append(-1)
        self.prompt.append(self._prompts_planned[row])
        self.output.append(self._outputs_planned[row])
        if self._further:
            for column, planned in self._further:
                column.append(planned[row])
        if emitted:
            self.prompt[-1] += emitted
            for column in self._outputs:
                column[-1] = max(1, column[-1] - emitted)


def _empty(column: Sequence[Any] | None) -> list[Any] | None:
    return None if column is None else []


def write_off(requests: Requests, unfinished: Sequence[int], admitted: int, now: int) -> None:
    """They end at ``now``, unanswered; times that they did not reach are ``now``. ``admitted``: how many have been
    admitted from the head of the queue."""
    scheduled, first_token = requests.scheduled, requests.first_token
    in_order = [i for i in range(requests.count) if i not in scheduled]
    scheduled.update(dict.fromkeys(in_order[admitted:], now))
    for i in unfinished:
        requests.finished[i] = now
        requests.outcome[i] = "failed"
        if i in scheduled:
            first_token.setdefault(i, now)
