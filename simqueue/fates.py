"""What else happened to requests: who was not served to the end, who was preempted, and what a prefix cache spared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from simqueue.record import Column, Outcome, Requests

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
SPELL = ("request", "preempted", "resumed", "next_token")


@dataclass(frozen=True)
class Fates:
    """Columns by request, and one row a preemption. Ticks and tokens.

    Attributes:
        outcome: int64 ``(requests,)``: the number of each request's outcome in `OUTCOMES`.
        preemptions: how often each lost its seat.
        recomputed_tokens: tokens of the prompt and of the output so far that were computed again for it.
        cached_tokens: tokens that it found in the prefix cache when it was first admitted.
        spells: int64 ``(preemptions while decoding, 4)``: the request, when it lost its seat, when it had one again,
            and when its next token came.
    """

    outcome: Column
    preemptions: Column
    recomputed_tokens: Column
    cached_tokens: Column
    spells: Column

    @classmethod
    def of(cls, requests: Requests) -> Fates:
        """As the engine wrote them down."""
        count = len(requests.prompt)
        codes = {i: OUTCOMES.index(outcome) for i, outcome in requests.outcome.items()}
        outcome, preemptions, recomputed, cached = (
            _column(sparse, count) for sparse in (codes, requests.preemptions, requests.recomputed, requests.cached)
        )
        spells = np.array(requests.spells, np.int64).reshape(-1, len(SPELL))
        order = np.lexsort((spells[:, 1], spells[:, 0]))
        return cls(outcome, preemptions, recomputed, cached, spells[order])

    @property
    def completed(self) -> NDArray[np.bool_]:
        """Who was answered whole."""
        return np.asarray(self.outcome == 0)

    @property
    def resume_to_next_token(self) -> Column:
        """Ticks from a request's having a seat again to its next token, over all its preemptions while it decoded."""
        total = np.zeros(len(self.outcome), np.int64)
        np.add.at(total, self.spells[:, 0], self.spells[:, 3] - self.spells[:, 2])
        return total

    def counts(self, begin: int) -> dict[str, int]:
        """How many requests, from this one on, met with each outcome."""
        return outcome_counts(self.outcome[begin:])

    def names(self) -> NDArray[Any]:
        """The outcomes as text."""
        return outcome_names(self.outcome)


def outcome_counts(outcome: Column) -> dict[str, int]:
    """By name in `OUTCOMES`, of their numbers there."""
    found = np.bincount(outcome, minlength=len(OUTCOMES))
    return {name: int(number) for name, number in zip(OUTCOMES, found, strict=True)}


def outcome_names(outcome: Column) -> NDArray[Any]:
    """As text, of their numbers in `OUTCOMES`."""
    return np.array(OUTCOMES, object)[outcome]


def _column(sparse: dict[int, int], count: int) -> Column:
    column = np.zeros(count, np.int64)
    column[np.fromiter(sparse, np.int64, len(sparse))] = np.fromiter(sparse.values(), np.int64, len(sparse))
    return column
