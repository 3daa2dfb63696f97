"""The measured table of a profile, or the curve fitted to it, as a cost model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from simqueue.cost.interpolate import along, between, by_rows
from simqueue.cost.prices import MOST_TICKS, Prices
from simqueue.errors import ProfileError
from simqueue.plan import Shape
from simqueue.profile import Profile
from simqueue.units import Grid

T = TypeVar("T")
# So many steps are priced beforehand; those of a curve take longer.
_MOST_PRICES, _MOST_OF_CURVE = 1 << 21, 1 << 19
_Prefills = dict[int, tuple[list[int], list[int]]]


class _Terms(NamedTuple):
    """What the table's times are multiplied by, and what serving adds, in seconds."""

    decode: float
    prefill: float
    start: float
    step: float = 0.0
    row: float = 0.0
    prefilling: float = 0.0
    prefill_row: float = 0.0
    start_row: float = 0.0


def _terms(profile: Profile) -> _Terms:
    """Tables and curves hold medians; queues feel the mean: pooled over the cells, or of the serving run."""
    serving = profile.serving
    if serving is None:
        mean = profile.noise.mean_over_median if profile.noise else 1.0
        return _Terms(mean, mean, mean)
    served = (
        *(serving.decode_factor, serving.prefill_factor, 1.0, serving.per_step_s),
        *(serving.per_row_s, serving.per_prefill_s, serving.per_prefill_row_s, serving.per_start_row_s),
    )
    return _Terms(*(serving.jitter.mean * value for value in served))


class TableCost:
    """Decode steps depend on rows and the longest context: for given rows they are a list, summed once.

    A leap is then a difference of two sums, and a cut a bisection, whatever the form of the table. A prefill is looked
    up by its widest row and its rows.
    """

    needs_longest = True

    def __init__(self, profile: Profile, grid: Grid, *, curve: bool, extrapolate: bool) -> None:
        assert profile.decode is not None
        assert profile.prefill is not None
        self._name, self._grid, self._beyond = profile.name, grid, extrapolate
        self._table, self._prefill = profile.decode, profile.prefill
        self._curve = profile.curves.decode if curve else None
        self._prefill_curves = (profile.curves.prefill, profile.curves.chunk) if curve else (None, None)
        self._terms = _terms(profile)
        # A held row of a runner with slots stays at the end of its window, where that was measured.
        whole_window = profile.decode.longest[-1] >= profile.model.max_context - 1
        self._holds_at_end = profile.iteration_level and whole_window and not extrapolate
        # By rows: every decode step by the longest context, and the sums before each.
        self._each: dict[int, list[int]] = {}
        self._sums: dict[int, list[int]] = {}
        self._arrays: dict[int, NDArray[np.int64]] = {}
        # By the widest row, from a prompt's start or on a context: every prefill by rows, beside decoding ones and
        # alone.
        self._prefills: tuple[_Prefills, _Prefills] = ({}, {})
        self._mixed = grid.ticks(profile.mixed_s * self._terms.prefill)
        self._prices = Prices()

    def step(self, shape: Shape) -> int:
        """Prefill, decode, and what doing both in one step saves or costs."""
        if not shape.prefill_rows:
            return self._decode(shape.decode_rows + shape.held_rows, shape.longest)[shape.longest]
        chunk = 1 if shape.prefill_context else 0
        prefills = self._prefills[chunk].get(shape.widest)
        if prefills is None or shape.prefill_rows >= len(prefills[0]):
            prefills = self._prefill_by_rows(shape.widest, chunk, shape.prefill_rows)
        rows = shape.decode_rows + shape.held_rows
        if not rows:
            return prefills[1][shape.prefill_rows]
        each = self._each.get(rows)
        if each is None or shape.longest >= len(each):
            each = self._decode(rows, shape.longest)
        total = prefills[0][shape.prefill_rows] + each[shape.longest] + self._mixed
        return total if total > 0 else 1

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """The difference of two sums, or the first sum that reaches the limit."""
        sums = self._sums.get(rows)
        if sums is None:
            self._decode(rows, longest)
            sums = self._sums[rows]
        last = longest + steps
        if last < len(sums):
            start = sums[longest]
            total = sums[last] - start
            if total <= limit:
                return steps, total
        else:
            last = len(sums) - 1
            if longest >= last or sums[last] - sums[longest] < limit:
                self._decode(rows, longest + steps)
                return self.leap(rows, context, longest, steps, limit)
            start = sums[longest]
        j = bisect_left(sums, start + limit, longest + 1, last)
        return j - longest, sums[j] - start

    def series(self, rows: int, context: int, longest: int, steps: int) -> Iterator[int]:
        """The same steps one by one; one outside the range is refused only when it is reached."""
        each = self._each.get(rows) or self._decode(rows, longest)
        if longest + steps <= len(each):
            return iter(each[longest : longest + steps])
        return self._beyond_known(each, rows, longest, steps)

    def _beyond_known(self, each: list[int], rows: int, longest: int, steps: int) -> Iterator[int]:
        yield from each[longest:]
        known = max(longest, len(each))
        yield from self._decode(rows, longest + steps)[known : longest + steps]

    def column(
        self, rows: NDArray[np.int64], context: NDArray[np.int64], longest: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Many decode steps at once."""
        return by_rows(rows, lambda r, at: self._array(r, int(longest[at].max()))[longest[at]])

    def prices(self, rows: int, widest: int, longest: int) -> Prices | None:
        """See `simqueue.cost.prices.Priced`. Kept, and made anew, twice as far, where more is asked for."""
        # Beyond what was measured there is no end of it.
        if self._beyond:
            return None
        known = self._prices
        rows = min(rows, self._table.rows[-1], self._prefill.rows[-1])
        longest = longest if self._holds_at_end else min(longest, self._table.longest[-1])
        widest = min(widest, self._prefill.width[-1])
        have = len(known.decode_of) - 1, known.prefill_of.shape[1] - 1, known.sums.shape[1] - 2
        if any(asked > there for asked, there in zip((rows, widest, longest), have, strict=True)):
            most = max(rows, have[0]), max(2 * widest, have[1]), max(longest, have[2])
            if most[0] * (most[1] + most[2]) > (_MOST_PRICES if self._curve is None else _MOST_OF_CURVE):
                return None
            self._prices = known = self._priced(*most)
        return known if known.sums[:, -1].max() < MOST_TICKS else None

    def _priced(self, rows: int, widest: int, longest: int) -> Prices:
        widest = min(widest, self._prefill.width[-1])
        for n in range(1, rows + 1):
            self._decode(n, longest)
        decode_of, lists = _shared([self._sums[n] for n in range(1, rows + 1)])
        columns = min(map(len, lists))
        # Not every profile knows of prompts in chunks.
        kinds = (0, 1) if len(self._prefill.context) > 1 else (0,)
        widths = range(1, widest + 1)
        prefill_of, pairs = _shared([self._prefill_by_rows(width, chunk, rows) for chunk in kinds for width in widths])
        by_width = np.full((2, widest + 1), -1)
        by_width[: len(kinds), 1:] = np.reshape(prefill_of, (len(kinds), widest))
        return Prices(
            decode_of=np.array([0, *decode_of]),
            sums=np.array([one[:columns] for one in lists]),
            prefill_of=by_width,
            beside=np.array([beside[: rows + 1] for beside, _ in pairs]),
            alone=np.array([alone[: rows + 1] for _, alone in pairs]),
            mixed=self._mixed,
        )

    def _array(self, rows: int, longest: int) -> NDArray[np.int64]:
        """`_decode` as an array."""
        each = self._decode(rows, longest)
        known = self._arrays.get(rows)
        if known is None or len(known) < len(each):
            known = self._arrays[rows] = np.array(each, np.int64)
        return known

    def _decode(self, rows: int, longest: int) -> list[int]:
        """Every decode step of so many rows, as far as was measured, or up to ``longest``."""
        known = self._each.get(rows)
        if known is not None and longest < len(known):
            return known
        table = self._table
        most = table.longest[-1]
        if not self._beyond:
            if rows > table.rows[-1]:
                raise self._outside("rows in a step", rows, table.rows[-1])
            if longest > most and not self._holds_at_end:
                raise self._outside("tokens in the cache of a row", longest, most)
        padded = rows
        if table.rule == "ceil" and rows <= table.rows[-1]:
            padded = table.rows[bisect_left(table.rows, rows)]
        # Rows that are padded to the same size share a list, unless each row costs something of its own.
        alike = rows if self._terms.row else padded
        known = self._each.get(alike)
        if known is None or longest >= len(known):
            # Twice as far as asked, so that growing costs little.
            self._fill(alike, padded, (most if longest <= most else 2 * longest) + 1)
        self._each[rows], self._sums[rows] = self._each[alike], self._sums[alike]
        return self._each[rows]

    def _fill(self, rows: int, padded: int, count: int) -> None:
        longest = np.arange(count)
        if self._holds_at_end:
            longest = np.minimum(longest, self._table.longest[-1])
        if self._curve is None:
            seconds = self._by_table(padded, longest)
        else:
            tokens, at = np.unique(longest, return_inverse=True)
            seconds = np.array([self._curve.decode(padded, n) for n in tokens.tolist()])[at]
        served = seconds * self._terms.decode + (self._terms.step + self._terms.row * rows)
        each = self._at_least_a_tick(served)
        self._each[rows] = each
        self._sums[rows] = [0, *np.cumsum(each).tolist()]

    def _by_table(self, rows: int, longest: NDArray[np.int64]) -> NDArray[np.float64]:
        table = self._table
        return along(table.longest, between(table.rows, np.array(table.seconds), rows, table.rule), longest, table.rule)

    def _prefill_by_rows(self, width: int, chunk: int, rows: int) -> tuple[list[int], list[int]]:
        """Every prefill whose widest row computes so many tokens, up to as many rows as were measured, and the same
        alone in their steps."""
        table, most = self._prefill, self._prefill.rows[-1]
        if chunk and len(table.context) == 1:
            raise ProfileError(
                f"profile {self._name} did not measure prompts in chunks (prefill on tokens already in the cache): "
                "use a policy without max_tokens, or a profile of the graph runner"
            )
        if not self._beyond:
            if width > table.width[-1]:
                raise self._outside("prompt tokens of a row in a step", width, table.width[-1])
            if rows > most:
                raise self._outside("rows in a step", rows, most)
        padded = width
        if table.rule == "ceil" and width <= table.width[-1]:
            padded = table.width[bisect_left(table.width, width)]
        known = self._prefills[chunk]
        if padded not in known or rows >= len(known[padded][0]):
            each = np.arange(1, max(most, 2 * rows if rows > most else 0) + 1)
            launched, terms = self._launches(padded, chunk, each), self._terms
            beside = launched * terms.prefill + (terms.prefilling + terms.prefill_row * each)
            alone = launched * terms.start + terms.start_row * each
            known[padded] = [0, *self._grid.column(beside).tolist()], [0, *self._at_least_a_tick(alone)]
        known[width] = known[padded]
        return known[width]

    def _at_least_a_tick(self, seconds: NDArray[np.float64]) -> list[int]:
        return np.maximum(self._grid.column(seconds), 1).tolist()  # type: ignore[no-any-return]

    def _launches(self, width: int, chunk: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        table, curve = self._prefill, self._prefill_curves[chunk]
        if curve is not None:
            behind = table.context[-1] if chunk else 0
            w = min(bisect_left(table.width, width), len(table.width) - 1)
            return self._grouped(
                w, chunk, rows, lambda n: np.array([curve.prefill(r, width, behind) for r in n.tolist()])
            )
        by_width = np.array([self._at_width(w, chunk, rows) for w in range(len(table.width))])
        return between(table.width, by_width, width, table.rule)

    def _at_width(self, w: int, chunk: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        table = self._prefill
        fits = table.launch_rows(w, chunk)
        column = np.array([plane[w][chunk] for plane in table.seconds[:fits]], np.float64)
        return self._grouped(w, chunk, rows, lambda n: along(table.rows[:fits], column, n, table.rule))

    def _grouped(
        self, w: int, chunk: int, rows: NDArray[np.int64], launch: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Groups of as many rows as one launch holds at that width, one after another, then what is left."""
        most = self._prefill.rows[self._prefill.launch_rows(w, chunk) - 1]
        if most == self._prefill.rows[-1]:
            return launch(rows)
        groups, left = np.divmod(rows, most)
        return np.asarray(groups * launch(np.array([most]))[0] + np.where(left > 0, launch(np.maximum(left, 1)), 0.0))

    def _outside(self, what: str, asked: int, most: int) -> ProfileError:
        return ProfileError(
            f"profile {self._name} was measured for 1 to {most} {what}, and {asked} are asked for: stay within (policy "
            "limits, lengths) or set extrapolate = true"
        )


def _shared(items: Sequence[T]) -> tuple[list[int], list[T]]:
    """The different ones of these, and which of them each is; two are the same if they are one object."""
    different = {id(one): one for one in items}
    place = {name: i for i, name in enumerate(different)}
    return [place[id(one)] for one in items], list(different.values())
