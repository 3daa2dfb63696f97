"""Random variation of step times: one draw per forward pass of a replica, indexed by its step number.

Because step n takes draw n whoever asks, leaping, cutting a leap and stepping meet the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, islice
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.checks import at_least, positive
from simqueue.cost.base import StepCost, Timing
from simqueue.plan import Shape

_BLOCK = 1 << 14
Draws = Callable[[np.random.Generator, int], NDArray[np.float64]]


class NoNoise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Every step lasts what the cost model says."""


class LognormalNoise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lognormal"):
    """Multipliers exp(s Z - s^2/2) with s^2 = log(1 + cv^2): mean 1, coefficient of variation ``cv``."""

    cv: float

    def __post_init__(self) -> None:
        positive("noise lognormal", "cv", self.cv)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """``count`` multipliers."""
        variance = np.log1p(self.cv**2)
        return np.asarray(np.exp(np.sqrt(variance) * rng.standard_normal(count) - variance / 2))


class ExponentialNoise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="exponential"):
    """Exponential multipliers with mean 1: memoryless service for single passes."""

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """``count`` multipliers."""
        return rng.standard_exponential(count)


class ErlangNoise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="erlang"):
    """Multipliers that are means of ``shape`` exponentials: mean 1, coefficient of variation 1/sqrt(shape)."""

    shape: int

    def __post_init__(self) -> None:
        at_least("noise erlang", "shape", self.shape, 1)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.float64]:
        """``count`` multipliers."""
        return rng.standard_gamma(self.shape, count) / self.shape


class EmpiricalNoise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="empirical"):
    """The residuals of the profile's own repeats, scaled to the spread measured at the step's shape."""


class ServingNoise(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="serving"):
    """As the profile's serving run scattered: its quantiles, correlated from step to step, and its stalls."""


Noise = NoNoise | LognormalNoise | ExponentialNoise | ErlangNoise | EmpiricalNoise | ServingNoise


class Spread:
    """Maps a draw (of whatever ``draw`` makes) to a step's multiplier: here the draw itself, whatever the shape."""

    def __init__(self, draw: Draws) -> None:
        self.draw = draw

    def blocks(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """The draws of all steps in order, in blocks, without end. What one step owes to the last lives in here."""
        while True:
            yield self.draw(rng, _BLOCK)

    def first(self, shape: Shape, draw: Any) -> float:
        """Multiplier of a step of any shape."""
        return float(draw)

    def decode(self, rows: int, longest: int, draw: Any) -> float:
        """Multiplier of a decode step."""
        return float(draw)

    def column(
        self, rows: NDArray[np.int64], longest: NDArray[np.int64], draws: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Multipliers of many decode steps."""
        return draws


class NoisyCost:
    """A cost model whose steps are multiplied, one draw each, in the order in which they run."""

    def __init__(self, cost: StepCost, spread: Spread, seed: np.random.SeedSequence) -> None:
        self.needs_longest = cost.needs_longest
        self._cost, self._spread = cost, spread
        self._blocks = spread.blocks(np.random.default_rng(seed))
        self._draws: list[Any] = []
        self._next = 0

    def _draw(self) -> Any:
        i = self._next
        if i == len(self._draws):
            self._draws, i = next(self._blocks).tolist(), 0
        self._next = i + 1
        return self._draws[i]

    def step(self, shape: Shape) -> int:
        """One step of any shape."""
        return int(self._cost.step(shape) * self._spread.first(shape, self._draw()) + 0.5) or 1

    def leap(self, rows: int, context: int, longest: int, steps: int, limit: int) -> tuple[int, int]:
        """Step by step, since every step has its own draw."""
        total = done = 0
        for duration in self.series(rows, context, longest, steps):
            total += duration
            done += 1
            if total >= limit:
                break
        return done, total

    def series(self, rows: int, context: int, longest: int, steps: int) -> Iterator[int]:
        """The same steps one by one; a step that is not taken draws nothing."""
        decode, draw = self._spread.decode, self._draw
        for age, duration in enumerate(self._cost.series(rows, context, longest, steps)):
            yield int(duration * decode(rows, longest + age, draw()) + 0.5) or 1


def path_of(cost: Timing, rows: int, context: int, longest: int, steps: int) -> list[int]:
    """Time from the start of the first of these decode steps to the end of each."""
    return list(accumulate(cost.series(rows, context, longest, steps)))


def all_draws(spread: Spread, seed: np.random.SeedSequence, count: int) -> NDArray[np.float64]:
    """The first ``count`` draws that a `NoisyCost` of the same seed takes."""
    blocks = list(islice(spread.blocks(np.random.default_rng(seed)), -(-count // _BLOCK)))
    return np.concatenate(blocks)[:count] if blocks else np.empty(0)
