"""A batch to completion in which requests finish on the way, done piece by piece from finish to finish."""

from __future__ import annotations

from collections.abc import Sequence

from simqueue.cost.base import Timing
from simqueue.cost.noise import path_of


class Pieces:
    """How far the batch is; ``outputs``: of every request, by id."""

    def __init__(self, cost: Timing, outputs: Sequence[int]) -> None:
        self._cost, self._outputs = cost, outputs
        # Lengths of the answers from the last to finish on, and how many steps have been done.
        self._finishes: list[int] = []
        self._age = 0

    def start(self, requests: Sequence[int]) -> None:
        """A new batch, of these."""
        self._finishes = sorted((self._outputs[i] for i in requests), reverse=True)
        self._age = 0

    def ends(self, steps: int, start: int, first: int, after: tuple[int, int, int]) -> Sequence[int]:
        """The ends of the next steps, until the next requests finish, or at most so many; ``first``, ``after``: how
        long the first lasts if it prefills, and rows, context and longest of what follows."""
        begun = 1 if first else 0
        steps = min(steps, self._next_finish())
        ends = path_of(self._cost, *after, steps - begun) if steps > begun else []
        self._age += steps
        return [start + first, *(start + first + end for end in ends)][1 - begun :]

    def _next_finish(self) -> int:
        """Steps until the next requests of the batch finish."""
        while self._finishes[-1] <= self._age:
            self._finishes.pop()
        return self._finishes[-1] - self._age
