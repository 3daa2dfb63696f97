"""What a cost model is to the driver: the durations, in ticks, of a first step and of the decoding that follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from simqueue.plan import Shape

UNLIMITED = 1 << 200


class Timing(Protocol):
    """Durations of forward passes as they are run; each at least one tick. ``rows`` counts decoding and held rows."""

    needs_longest: bool
    """Whether the price of a decode step depends on the longest context, so that the engine must keep it."""

    def step(self, shape: Shape) -> int:
        """One step of any shape."""

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """``(j, duration)``: of ``steps`` decode steps the first j that together last ``limit`` or more, or all."""

    def series(self, rows: int, context: int, longest: int, steps: int) -> Iterator[int]:
        """The same steps one by one."""


class StepCost(Timing, Protocol):
    """A cost model: durations that depend on the shape alone, so that many can be had at once."""

    def column(
        self, rows: NDArray[np.int64], context: NDArray[np.int64], longest: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Many decode steps at once, each of its own shape."""
