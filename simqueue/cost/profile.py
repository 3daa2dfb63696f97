"""`profile`: the measured table of a profile as a cost model, or the curve fitted to it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.cost.base import StepCost
from simqueue.cost.interpolate import by_rows
from simqueue.cost.linear import LinearCost
from simqueue.cost.noise import Spread
from simqueue.cost.scale import Scale, scaled
from simqueue.cost.spread import ProfileSpread, ServingSpread
from simqueue.cost.table import TableCost
from simqueue.errors import ConfigError
from simqueue.plan import Shape
from simqueue.profile import Curve, Profile, Serving, load_profile
from simqueue.units import Grid

# Tokens over which a slope is taken, so that the difference of two times keeps its digits.
_MANY = 1 << 20


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="profile", dict=True):
    """What steps cost as measured: ``name`` of a shipped profile, or ``path`` of a profile's JSON.

    ``curve = true`` takes the fitted curve in place of the table; ``extrapolate = true`` continues both beyond what
    was measured. ``scale`` says how many times as long steps take: see `Scale`.

    Raises:
        ConfigError: neither or both of name and path; the profile has no steps of a kind that is scaled.
        ProfileError: the profile cannot be used.
    """

    name: str | None = None
    path: str | None = None
    curve: bool = False
    extrapolate: bool = False
    scale: Scale = Scale()

    def __post_init__(self) -> None:
        if (self.name is None) == (self.path is None):
            raise ConfigError("cost profile: give either name (of a shipped profile) or path (of a profile's JSON)")

    @cached_property
    def profile(self) -> Profile:
        """The profile itself, read once, and scaled."""
        read = load_profile(self.name or self.path or "")
        return read if self.scale == Scale() else scaled(read, self.scale)

    def extrapolated(self) -> Measured:
        """The same, continued beyond what was measured."""
        return msgspec.structs.replace(self, extrapolate=True)

    def coefficients(self) -> tuple[float, ...]:
        """Table entries are rounded one by one, to picoseconds; only a curve over sums has coefficients."""
        curve = self.profile.curves.totals
        if curve is None:
            return ()
        slopes = (*curve.per_new_token_s, *curve.per_context_token_s)
        return (curve.floor_s, *curve.base_s, curve.per_row_s, *slopes)

    def on(self, grid: Grid) -> StepCost:
        """The same cost in whole ticks; the same object for the same grid, since it keeps what it has worked out."""
        if grid not in self._on:
            totals = self.profile.curves.totals
            self._on[grid] = (
                TableCost(self.profile, grid, curve=self.curve, extrapolate=self.extrapolate)
                if totals is None
                else SumCost(totals, grid)
            )
        return self._on[grid]

    @cached_property
    def _on(self) -> dict[Grid, StepCost]:
        return {}

    def spread(self) -> Spread:
        """The profile's own noise, for `EmpiricalNoise`."""
        if self.profile.noise is None:
            raise ConfigError(f"noise empirical: profile {self.profile.name} has no repeats to take it from")
        return ProfileSpread(self.profile, self.profile.noise)

    def serving_spread(self) -> Spread:
        """The noise of the profile's serving run, for `ServingNoise`."""
        return ServingSpread(self.serving("noise serving").jitter)

    def serving(self, what: str) -> Serving:
        """What the profile's serving run found. Raises ConfigError, saying that ``what`` needs it."""
        if self.profile.serving is None:
            raise ConfigError(
                f"{what}: profile {self.profile.name} has no serving run: use one that `simqueue calibrate` made "
                "with it"
            )
        return self.profile.serving


class SumCost:
    """A curve over the sums of a step: for given rows it is linear in the context, so each is a `LinearCost`."""

    needs_longest = False

    def __init__(self, curve: Curve, grid: Grid) -> None:
        self._curve, self._grid = curve, grid
        self._lines: dict[int, LinearCost] = {}

    def step(self, shape: Shape) -> int:
        """One step of any shape."""
        decoding = shape.decode_rows + shape.held_rows
        rows, new = decoding + shape.prefill_rows, decoding + shape.new_tokens
        return max(1, self._grid.ticks(self._curve.seconds(rows, new, shape.context + shape.prefill_context)))

    def _line(self, rows: int) -> LinearCost:
        line = self._lines.get(rows)
        if line is None:
            ticks, curve = self._grid.ticks, self._curve
            base = curve.line(rows, rows, 0)
            slope = (curve.line(rows, rows, _MANY) - base) / _MANY
            # Everything but the context is in the base; a step adds a token to each row's context.
            line = self._lines[rows] = LinearCost(ticks(base), 0, 0, ticks(slope), ticks(curve.floor_s))
        return line

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """The line of these rows, summed and inverted in closed form."""
        return self._line(rows).leap(rows, context, longest, steps, limit)

    def series(self, rows: int, context: int, longest: int, steps: int) -> Iterator[int]:
        """The same steps one by one."""
        return self._line(rows).series(rows, context, longest, steps)

    def column(
        self, rows: NDArray[np.int64], context: NDArray[np.int64], longest: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Many decode steps at once."""
        return by_rows(rows, lambda r, at: self._line(r).column(rows[at], context[at], longest[at]))
