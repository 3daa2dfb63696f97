"""`profile`: the measured table of a profile as a cost model, or the curve fitted to it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.cost.base import StepCost
from simqueue.cost.linear import LinearCost
from simqueue.cost.noise import Spread
from simqueue.errors import ConfigError, ProfileError
from simqueue.plan import Shape
from simqueue.profile import Curve, Noise, Profile, load_profile
from simqueue.units import Grid

T = TypeVar("T", bound=np.generic)

# Tokens over which a slope is taken, so that the difference of two times keeps its digits.
_MANY = 1 << 20


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="profile", dict=True):
    """What steps cost as measured: ``name`` of a shipped profile, or ``path`` of a profile's JSON.

    ``curve = true`` takes the fitted curve in place of the table; ``extrapolate = true`` continues both beyond what was measured.

    Raises:
        ConfigError: neither or both of name and path.
        ProfileError: the profile cannot be used.
    """

    name: str | None = None
    path: str | None = None
    curve: bool = False
    extrapolate: bool = False

    def __post_init__(self) -> None:
        if (self.name is None) == (self.path is None):
            raise ConfigError("cost profile: give either name (of a shipped profile) or path (of a profile's JSON)")

    @cached_property
    def profile(self) -> Profile:
        """The profile itself, read once."""
        return load_profile(self.name or self.path or "")

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
        """The same cost in whole ticks."""
        totals = self.profile.curves.totals
        return TableCost(self, grid) if totals is None else SumCost(totals, grid)

    def spread(self) -> Spread:
        """The profile's own noise, for `EmpiricalNoise`."""
        if self.profile.noise is None:
            raise ConfigError(f"noise empirical: profile {self.profile.name} has no repeats to take it from")
        return ProfileSpread(self.profile, self.profile.noise)


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
        return _by_rows(rows, lambda r, at: self._line(r).column(rows[at], context[at], longest[at]))


class TableCost:
    """Decode steps depend on rows and the longest context: for given rows they are a list, summed once.

    A leap is then a difference of two sums, and a cut a bisection, whatever the form of the table.
    """

    needs_longest = True

    def __init__(self, spec: Measured, grid: Grid) -> None:
        profile = spec.profile
        assert profile.decode is not None
        assert profile.prefill is not None
        self._name, self._grid, self._beyond = profile.name, grid, spec.extrapolate
        self._table, self._prefill_table = profile.decode, profile.prefill
        self._curve = profile.curves.decode if spec.curve else None
        self._prefill_curve = profile.curves.prefill if spec.curve else None
        self._each: dict[int, list[int]] = {}
        self._sums: dict[int, list[int]] = {}
        self._prefills: dict[tuple[int, int, int], int] = {}
        self._mixed = grid.ticks(profile.mixed_s)

    def step(self, shape: Shape) -> int:
        """Prefill, decode, and what doing both in one step saves or costs."""
        key = (shape.prefill_rows, shape.widest, shape.prefill_context and 1)
        prefill = self._prefills.get(key) or self._prefill(key)
        rows = shape.decode_rows + shape.held_rows
        if not rows:
            return prefill
        each = self._each.get(rows) or self._decode(rows)
        try:
            return max(1, prefill + each[shape.longest] + self._mixed)
        except IndexError:
            return max(1, prefill + self._longer(rows, shape.longest)[shape.longest] + self._mixed)

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """The difference of two sums, or the first sum that reaches the limit."""
        sums = self._sums.get(rows)
        if sums is None:
            self._decode(rows)
            sums = self._sums[rows]
        last = longest + steps
        if last < len(sums):
            start = sums[longest]
            total = sums[last] - start
            if total <= limit:
                return steps, total
        else:
            end = len(sums) - 1
            if longest >= end or sums[end] - sums[longest] < limit:
                self._longer(rows, last)
                return self.leap(rows, context, longest, steps, limit)
            start, last = sums[longest], end
        j = bisect_left(sums, start + limit, longest + 1, last)
        return j - longest, sums[j] - start

    def series(self, rows: int, context: int, longest: int, steps: int) -> Iterator[int]:
        """The same steps one by one; one outside the range is refused only when it is reached."""
        each = self._each.get(rows) or self._decode(rows)
        yield from islice(each, longest, longest + steps)
        known = max(longest, len(each))
        if known < longest + steps:
            yield from self._longer(rows, known)[known : longest + steps]

    def column(
        self, rows: NDArray[np.int64], context: NDArray[np.int64], longest: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Many decode steps at once."""

        def of(r: int, at: NDArray[np.bool_]) -> NDArray[np.int64]:
            deepest = int(longest[at].max())
            each = self._each.get(r) or self._decode(r)
            if deepest >= len(each):
                each = self._longer(r, deepest)
            return np.array(each, np.int64)[longest[at]]

        return _by_rows(rows, of)

    def _decode(self, rows: int) -> list[int]:
        """Every decode step of so many rows, by the longest context: as far as was measured."""
        return self._extend(rows, self._table.longest[-1] + 1)

    def _longer(self, rows: int, longest: int) -> list[int]:
        most = self._table.longest[-1]
        if not self._beyond:
            raise self._outside("tokens in the cache of a row", longest, most)
        return self._extend(rows, max(2 * most, longest) + 1)

    def _extend(self, rows: int, count: int) -> list[int]:
        if rows > self._table.rows[-1] and not self._beyond:
            raise self._outside("rows in a step", rows, self._table.rows[-1])
        longest = np.arange(count)
        seconds = self._by_curve(rows, longest) if self._curve else self._by_table(rows, longest)
        each = np.maximum(self._grid.column(seconds), 1)
        self._each[rows] = ticks = each.tolist()
        self._sums[rows] = [0, *np.cumsum(each).tolist()]
        return ticks

    def _by_table(self, rows: int, longest: NDArray[np.int64]) -> NDArray[np.float64]:
        table = self._table
        cells = np.array(table.seconds)
        at_rows = [_along(table.rows, column, np.array([rows]), table.rule)[0] for column in cells.T]
        return _along(table.longest, np.array(at_rows), longest, table.rule)

    def _by_curve(self, rows: int, longest: NDArray[np.int64]) -> NDArray[np.float64]:
        assert self._curve is not None
        return np.array([self._curve.decode(rows, tokens) for tokens in longest.tolist()])

    def _prefill(self, key: tuple[int, int, int]) -> int:
        rows, width, chunk = key
        table = self._prefill_table
        if chunk and len(table.context) == 1:
            raise ProfileError(
                f"profile {self._name} did not measure prompts in chunks (prefill on tokens already in the cache): "
                "use a policy without max_tokens, or a profile of the graph runner"
            )
        if width > table.width[-1] and not self._beyond:
            raise self._outside("prompt tokens of a row in a step", width, table.width[-1])
        if rows > table.rows[-1] and not self._beyond:
            raise self._outside("rows in a step", rows, table.rows[-1])
        ticks = self._prefills[key] = max(1, self._grid.ticks(self._prefill_seconds(rows, width, chunk)))
        return ticks

    def _prefill_seconds(self, rows: int, width: int, chunk: int) -> float:
        """Groups of as many rows as one launch holds, one after another, then what is left."""
        table = self._prefill_table
        widths = len(table.width)
        at = range(widths) if table.rule == "linear" else [min(bisect_left(table.width, width), widths - 1)]
        launch = min(table.rows[table.launch_rows(w, chunk) - 1] for w in at if table.width[w] <= width or len(at) == 1)
        if launch == table.rows[-1]:
            groups, left = 0, rows
        else:
            groups, left = divmod(rows, launch)
        whole = groups * self._launch_seconds(launch, width, chunk) if groups else 0.0
        return whole + (self._launch_seconds(left, width, chunk) if left else 0.0)

    def _launch_seconds(self, rows: int, width: int, chunk: int) -> float:
        if self._prefill_curve is not None:
            return self._prefill_curve.prefill(rows, width, chunk and self._prefill_table.context[1])
        table = self._prefill_table
        columns = [self._width_column(w, rows, chunk) for w in range(len(table.width))]
        return float(_along(table.width, np.array(columns), np.array([width]), table.rule)[0])

    def _width_column(self, w: int, rows: int, chunk: int) -> float:
        table = self._prefill_table
        fits = table.launch_rows(w, chunk)
        column = np.array([plane[w][chunk] for plane in table.seconds[:fits]], np.float64)
        return float(_along(table.rows[:fits], column, np.array([rows]), table.rule)[0])

    def _outside(self, what: str, asked: int, most: int) -> ProfileError:
        return ProfileError(
            f"profile {self._name} was measured for 1 to {most} {what}, and {asked} are asked for: stay within (policy "
            "limits, lengths) or set extrapolate = true"
        )


class ProfileSpread(Spread):
    """Multipliers 1 + cv z: z by the profile's standardised residuals, cv by the table at the step's shape."""

    def __init__(self, profile: Profile, noise: Noise) -> None:
        assert profile.decode is not None
        assert profile.prefill is not None
        self._table, self._prefill_table = profile.decode, profile.prefill
        self._cvs: dict[int, NDArray[np.float64]] = {}
        self._prefill_cvs: dict[tuple[int, int, int], float] = {}
        self._decode_z = _standardised(noise.probabilities, noise.decode)
        self._prefill_z = _standardised(noise.probabilities, noise.prefill)
        super().__init__(lambda rng, count: rng.random(count))

    def first(self, shape: Shape, draw: float) -> float:
        """A step that prefills varies as prefills do."""
        key = (shape.prefill_rows, shape.widest, shape.prefill_context and 1)
        cv = self._prefill_cvs.get(key)
        if cv is None:
            cv = self._prefill_cvs[key] = self._prefill_cv(*key)
        return max(_LEAST, 1 + cv * float(np.interp(draw, *self._prefill_z)))

    def decode(self, rows: int, longest: int, draw: float) -> float:
        """Multiplier of a decode step."""
        cvs = self._of(rows)
        return max(_LEAST, 1 + cvs[min(longest, len(cvs) - 1)] * float(np.interp(draw, *self._decode_z)))

    def column(
        self, rows: NDArray[np.int64], longest: NDArray[np.int64], draws: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Multipliers of many decode steps."""
        z = np.interp(draws, *self._decode_z)

        def of(r: int, at: NDArray[np.bool_]) -> NDArray[np.float64]:
            cvs = self._of(r)
            return cvs[np.minimum(longest[at], len(cvs) - 1)]

        return np.maximum(_LEAST, 1 + _by_rows(rows, of) * z)

    def _of(self, rows: int) -> NDArray[np.float64]:
        """The nearest measured rows' variation, by the longest context."""
        cvs = self._cvs.get(rows)
        if cvs is None:
            table = self._table
            near = min(bisect_left(table.rows, rows), len(table.rows) - 1)
            longest = np.arange(table.longest[-1] + 1)
            cvs = self._cvs[rows] = _along(table.longest, np.array(table.cv[near]), longest, "ceil")
        return cvs

    def _prefill_cv(self, rows: int, width: int, chunk: int) -> float:
        table = self._prefill_table
        w = min(bisect_left(table.width, width), len(table.width) - 1)
        r = min(bisect_left(table.rows, rows), table.launch_rows(w, chunk) - 1)
        return table.cv[r][w][chunk] or 0.0


# No step is quicker than this share of its mean, however far out the residuals' tail is read.
_LEAST = 0.1


def _standardised(p: tuple[float, ...], z: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The quantile function made exactly mean 0 and variance 1 as it is read: linear between its points, flat beyond."""
    x = np.array([0.0, *p, 1.0])
    y = np.array([z[0], *z, z[-1]])
    width = np.diff(x)
    y = y - np.sum(width * (y[1:] + y[:-1]) / 2)
    variance = np.sum(width * (y[1:] ** 2 + y[1:] * y[:-1] + y[:-1] ** 2) / 3)
    return x, y / np.sqrt(variance) if variance > 0 else y


def _along(axis: tuple[int, ...], column: NDArray[np.float64], x: NDArray[np.int64], rule: str) -> NDArray[np.float64]:
    """Values at ``x``: between axis points as the rule says, beyond the last by the line through the last two."""
    knots = np.array(axis)
    if rule == "linear":
        y = np.interp(x, knots, column)
    else:
        y = column[np.minimum(np.searchsorted(knots, x), len(knots) - 1)]
    if len(knots) > 1:
        slope = max(0.0, (column[-1] - column[-2]) / (knots[-1] - knots[-2]))
        y = y + slope * np.maximum(x - knots[-1], 0)
    return np.asarray(y, np.float64)


def _by_rows(rows: NDArray[np.int64], of: Callable[[int, NDArray[np.bool_]], NDArray[T]]) -> NDArray[T]:
    """Evaluate ``of(rows, where they are so many)`` once for each number of rows."""
    out: NDArray[T] | None = None
    for r in np.unique(rows).tolist():
        at = rows == r
        values = of(r, at)
        if out is None:
            out = np.empty(len(rows), values.dtype)
        out[at] = values
    return np.empty(0) if out is None else out  # type: ignore[return-value]
