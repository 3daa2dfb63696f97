"""Noise whose draws can be taken back, since a leap may be cut after it was drawn."""

from __future__ import annotations

from typing import Any

import numpy as np

from simqueue.cost.base import StepCost
from simqueue.cost.noise import NoisyCost, Spread


class RedrawnCost(NoisyCost):
    """A `NoisyCost` that gives the draws of the last leap again: step n takes draw n, also if it is priced twice."""

    def __init__(self, cost: StepCost, spread: Spread, seed: np.random.SeedSequence) -> None:
        super().__init__(cost, spread, seed)
        self._kept = 0

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """See `Timing.leap`."""
        self._kept = self._next
        return super().leap(rows, context, longest, steps, limit)

    def take_back(self) -> None:
        """The last leap has not been run."""
        self._next = self._kept

    def _draw(self) -> Any:
        if self._next == len(self._draws):
            self._draws = self._draws[self._kept :] + next(self._blocks).tolist()
            self._next -= self._kept
            self._kept = 0
        i, self._next = self._next, self._next + 1
        return self._draws[i]
