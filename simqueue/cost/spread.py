"""The noise of a profile: its residuals at the spread measured for a step's shape, or as its serving run scattered."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simqueue.cost.interpolate import along, by_rows
from simqueue.cost.noise import Spread
from simqueue.plan import Shape
from simqueue.profile import Jitter, Noise, Profile, Row

# No step is quicker than this share of its mean, however far out the residuals' tail is read.
_LEAST = 0.1
# What is left of a state after so long that it moves no digit.
_NOTHING = 1e-18


class ProfileSpread(Spread):
    """Multipliers 1 + cv z: z by the profile's standardised residuals, cv by the table at the step's shape."""

    def __init__(self, profile: Profile, noise: Noise) -> None:
        assert profile.decode is not None
        assert profile.prefill is not None
        self._table, self._prefill_table = profile.decode, profile.prefill
        self._cvs: dict[int, list[float]] = {}
        self._prefill_cvs: dict[tuple[int, int, int], float] = {}
        self._decode_z = _standardised(noise.probabilities, noise.decode)
        self._prefill_z = _standardised(noise.probabilities, noise.prefill)
        super().__init__(self._standardised)

    def _standardised(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """``(count, 2)``: each draw as the residual of a decode step, and as that of a step that prefills."""
        uniform = rng.random(count)
        return np.column_stack((np.interp(uniform, *self._decode_z), np.interp(uniform, *self._prefill_z)))

    def first(self, shape: Shape, draw: Sequence[float]) -> float:
        """A step that prefills varies as prefills do."""
        key = (shape.prefill_rows, shape.widest, shape.prefill_context and 1)
        cv = self._prefill_cvs.get(key)
        if cv is None:
            cv = self._prefill_cvs[key] = self._prefill_cv(*key)
        return max(_LEAST, 1 + cv * draw[1])

    def decode(self, rows: int, longest: int, draw: Sequence[float]) -> float:
        """Multiplier of a decode step."""
        cvs = self._of(rows)
        return max(_LEAST, 1 + cvs[longest if longest < len(cvs) else -1] * draw[0])

    def column(
        self, rows: NDArray[np.int64], longest: NDArray[np.int64], draws: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Multipliers of many decode steps."""

        def of(r: int, at: NDArray[np.bool_]) -> NDArray[np.float64]:
            cvs = np.array(self._of(r))
            return np.asarray(cvs[np.minimum(longest[at], len(cvs) - 1)])

        return np.maximum(_LEAST, 1 + by_rows(rows, of) * draws[:, 0])

    def _of(self, rows: int) -> list[float]:
        """The nearest measured rows' variation, by the longest context."""
        cvs = self._cvs.get(rows)
        if cvs is None:
            table = self._table
            near = min(bisect_left(table.rows, rows), len(table.rows) - 1)
            longest = np.arange(table.longest[-1] + 1)
            cvs = self._cvs[rows] = along(table.longest, np.array(table.cv[near]), longest, "ceil").tolist()
        return cvs

    def _prefill_cv(self, rows: int, width: int, chunk: int) -> float:
        table = self._prefill_table
        w = min(bisect_left(table.width, width), len(table.width) - 1)
        r = min(bisect_left(table.rows, rows), table.launch_rows(w, chunk) - 1)
        return table.cv[r][w][chunk] or 0.0


class ServingSpread(Spread):
    """Multipliers of mean 1: quantiles picked by a state that a step shares with the last one, and stalls.

    The state is a sum of Gaussian autoregressions, each with its share ``persistent`` of the variance and its
    ``memory``, and of what is new: a Gaussian copula (Cario and Nelson, Operations Research Letters 19, 1996) whose
    autocorrelation at lag k is the sum of ``persistent * memory ** k``.
    """

    def __init__(self, jitter: Jitter) -> None:
        self._jitter = jitter
        super().__init__(self._independent)

    def _independent(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """``(count, parts + 2)``: what is new in each part that persists and in the rest, and how many times its mean a
        step stalls."""
        stalls = np.zeros(count)
        stalled = rng.random(count) < self._jitter.stall_probability
        if stalled.any():
            stalls[stalled] = _quantile(self._jitter.stalls, rng.random(int(stalled.sum())))
        return np.column_stack((*rng.standard_normal((len(self._jitter.memory) + 1, count)), stalls))

    def blocks(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """``(steps, 2)``: each multiplier as that of a decode step, and as that of a step that prefills."""
        from scipy.special import ndtr

        jitter = self._jitter
        last = rng.standard_normal(len(jitter.memory)).tolist()
        for *parts, state, stalls in (block.T for block in super().blocks(rng)):
            state = np.sqrt(1 - sum(jitter.persistent)) * state
            for i, (share, keep) in enumerate(zip(jitter.persistent, jitter.memory, strict=True)):
                slow = _remembering(keep, last[i], np.sqrt(1 - keep**2) * parts[i])
                last[i] = float(slow[-1])
                state += np.sqrt(share) * slow
            uniform = ndtr(state)
            body = (_quantile(column, uniform) / np.mean(column) for column in (jitter.decode, jitter.prefill))
            yield np.column_stack([(multiplier + stalls) / jitter.mean for multiplier in body])

    def first(self, shape: Shape, draw: Sequence[float]) -> float:
        """A step that prefills varies as prefills do."""
        return draw[1]

    def decode(self, rows: int, longest: int, draw: Sequence[float]) -> float:
        """Multiplier of a decode step."""
        return draw[0]

    def column(
        self, rows: NDArray[np.int64], longest: NDArray[np.int64], draws: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Multipliers of many decode steps."""
        return draws[:, 0]


def _quantile(column: Row, uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read quantiles at ``(i + 1/2) / n``, linear between and flat beyond, so that the mean is that of the column."""
    return np.interp(uniform, (np.arange(len(column)) + 0.5) / len(column), column)


def _remembering(keep: float, last: float, new: NDArray[np.float64]) -> NDArray[np.float64]:
    """``y[n] = keep * y[n - 1] + new[n]`` with ``last`` before the first; each pass reaches twice as far back."""
    y = new.copy()
    y[0] += keep * last
    reach, weight = 1, keep
    while reach < len(y) and weight > _NOTHING:
        y[reach:] += weight * y[:-reach]
        reach, weight = 2 * reach, weight * weight
    return y


def _standardised(p: tuple[float, ...], z: tuple[float, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The quantile function made exactly mean 0 and variance 1 as read: linear between its points, flat beyond."""
    x = np.array([0.0, *p, 1.0])
    y = np.array([z[0], *z, z[-1]])
    width = np.diff(x)
    y = y - np.sum(width * (y[1:] + y[:-1]) / 2)
    variance = np.sum(width * (y[1:] ** 2 + y[1:] * y[:-1] + y[:-1] ** 2) / 3)
    return x, y / np.sqrt(variance) if variance > 0 else y
