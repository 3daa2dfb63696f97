"""Costs that are linear in rows, new tokens and tokens in the cache, with a floor: `affine`, and fitted curves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from math import sqrt

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.checks import seconds
from simqueue.cost.prices import MOST_TICKS, Prices
from simqueue.errors import ConfigError
from simqueue.plan import Shape
from simqueue.units import Grid


class Affine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="affine"):
    """base + per_row * rows + per_new_token * tokens computed + per_context_token * tokens cached before the step.

    Rows count held ones too; a decoding or held row computes one token. Seconds, none negative, not all zero.
    """

    base_s: float = 0.0
    per_row_s: float = 0.0
    per_new_token_s: float = 0.0
    per_context_token_s: float = 0.0

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            seconds("cost affine", key, getattr(self, key))
        if not any(self.coefficients()):
            raise ConfigError("cost affine: every coefficient is 0, so a step would take no time: give base_s")

    def coefficients(self) -> tuple[float, ...]:
        """What must survive rounding to a grid."""
        return (self.base_s, self.per_row_s, self.per_new_token_s, self.per_context_token_s)

    def on(self, grid: Grid) -> LinearCost:
        """The same cost in whole ticks."""
        return LinearCost(*map(grid.ticks, self.coefficients()))


class LinearCost:
    """max(floor, base + per_row * rows + per_new * new tokens + per_context * context), in ticks."""

    needs_longest = False

    def __init__(self, base: int, per_row: int, per_new: int, per_context: int, floor: int = 0) -> None:
        self.base, self.per_row, self.per_new, self.per_context = base, per_row, per_new, per_context
        self.per_decode = per_row + per_new
        self.floor = max(floor, 1)

    def step(self, shape: Shape) -> int:
        """One step of any shape."""
        decoding = shape.decode_rows + shape.held_rows
        linear = (
            self.base
            + self.per_decode * decoding
            + self.per_row * shape.prefill_rows
            + self.per_new * shape.new_tokens
            + self.per_context * (shape.context + shape.prefill_context)
        )
        return linear if linear > self.floor else self.floor

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """The arithmetic series a + (a + b) + ..., summed and inverted in closed form."""
        first = self.base + self.per_decode * rows + self.per_context * context
        slope = self.per_context * rows
        if first < self.floor:
            return self._leap_from_floor(first, slope, steps, limit)
        total = first * steps + slope * (steps * (steps - 1) >> 1)
        if total <= limit:
            return steps, total
        if not slope:
            j = -(-limit // first)
            return j, first * j
        # The root of a j + b j (j - 1) / 2 = limit in a form without cancellation, then mended by whole steps.
        twice = 2 * first - slope
        j = int(4 * limit / (sqrt(twice * twice + 8 * slope * limit) + twice)) or 1
        total = first * j + slope * (j * (j - 1) >> 1)
        while total < limit:
            total += first + slope * j
            j += 1
        while (shorter := total - first - slope * (j - 1)) >= limit:
            total = shorter
            j -= 1
        return j, total

    def _leap_from_floor(self, first: int, slope: int, steps: int, limit: int) -> tuple[int, int]:
        floor = self.floor
        flat = min(steps, -((first - floor) // slope)) if slope else steps
        if flat * floor >= limit:
            flat = -(-limit // floor)
            return flat, flat * floor
        if flat == steps:
            return flat, flat * floor
        start, slope_part = first + slope * flat, slope
        rest = LinearCost(start, 0, 0, slope_part).leap(1, 0, 0, steps - flat, limit - flat * floor)
        return flat + rest[0], flat * floor + rest[1]

    def series(self, rows: int, context: int, longest: int, steps: int) -> Iterator[int]:
        """The same steps one by one."""
        first = self.base + self.per_decode * rows + self.per_context * context
        slope = self.per_context * rows
        if first >= self.floor:
            return iter(range(first, first + slope * steps, slope)) if slope else repeat(first, steps)
        flat = min(steps, -((first - self.floor) // slope)) if slope else steps
        rest = range(first + slope * flat, first + slope * steps, slope) if slope else ()
        return chain(repeat(self.floor, flat), rest)

    def column(
        self, rows: NDArray[np.int64], context: NDArray[np.int64], longest: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Many decode steps at once."""
        linear = self.base + self.per_decode * rows + self.per_context * context
        return np.asarray(np.maximum(linear, self.floor), np.int64)

    def prices(self, rows: int, widest: int, longest: int) -> Prices | None:
        """See `simqueue.cost.prices.Priced`."""
        most = self.floor + self.base + self.per_decode * rows + (self.per_new + self.per_context) * rows * longest
        if most * longest > MOST_TICKS:
            return None
        return Prices(linear=(self.base, self.per_row, self.per_new, self.per_context, self.floor))
