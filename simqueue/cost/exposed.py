"""`ExposedCost`: steps that also take what the host does between two of them, where the device does not hide it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from simqueue.cost.base import UNLIMITED, StepCost
from simqueue.cost.prices import MOST_TICKS, Priced, Prices
from simqueue.plan import Shape, Work


class ExposedCost:
    """Another cost, to which a step in which somebody decodes adds ``step`` and ``row`` for each of them, and one that
    stops those who decode ``pause`` and ``pause_row`` for each of those. All in ticks."""

    def __init__(self, cost: StepCost, step: int, row: int, pause: int, pause_row: int) -> None:
        self.needs_longest = cost.needs_longest
        self._cost, self._step, self._row, self._pause, self._pause_row = cost, step, row, pause, pause_row

    def step(self, shape: Shape) -> int:
        """One step of any shape."""
        rows, taken = shape.decode_rows + shape.held_rows, self._cost.step(shape)
        if rows:
            return taken + self._added(rows)
        paused = shape.paused if isinstance(shape, Work) else 0
        return taken + self._pause + self._pause_row * paused if paused else taken

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """By bisection between two bounds: no fewer steps reach the limit than without the host's part of the most that
        it could be, and no more than without any of it."""
        leap, added = self._cost.leap, self._added(rows)
        most, total = leap(rows, context, longest, steps, limit)
        if total + added * (most - 1) < limit:
            return most, total + added * most
        least = 1
        if most > 1 and (left := limit - added * most) > 0:
            least = leap(rows, context, longest, most, left)[0]
        while least < most:
            middle = (least + most) >> 1
            if leap(rows, context, longest, middle, UNLIMITED)[1] + added * middle >= limit:
                most = middle
            else:
                least = middle + 1
        return most, leap(rows, context, longest, most, UNLIMITED)[1] + added * most

    def series(self, rows: int, context: int, longest: int, steps: int) -> Iterator[int]:
        """The same steps one by one."""
        added = self._added(rows)
        return (duration + added for duration in self._cost.series(rows, context, longest, steps))

    def column(
        self, rows: NDArray[np.int64], context: NDArray[np.int64], longest: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Many decode steps at once."""
        return self._cost.column(rows, context, longest) + (self._step + self._row * rows)

    def prices(self, rows: int, widest: int, longest: int) -> Prices | None:
        """See `simqueue.cost.prices.Priced`."""
        known = self._cost.prices(rows, widest, longest) if isinstance(self._cost, Priced) else None
        if known is None or self._added(rows) * longest > MOST_TICKS:
            return None
        return known._replace(added=self._step, added_row=self._row)

    def _added(self, rows: int) -> int:
        return self._step + self._row * rows
