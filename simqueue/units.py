"""Integer time: seconds at the edges, whole ticks inside, converted here and nowhere else; numbers in files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simqueue.errors import ConfigError

INT64_MAX = 2**63 - 1
PICOSECONDS = 10**12
_FINEST = 10**17
_COARSEST = 10**6
_WORST_ROUNDING = 1e-6


def digits(value: float) -> float:
    """A measured number as files have it: seven digits, more than any repeat can tell, and they can be read."""
    return float(f"{value:.7g}")


@dataclass(frozen=True, slots=True)
class Grid:
    """A time grid of ``ticks_per_s`` ticks a second (picoseconds unless a system needs another)."""

    ticks_per_s: int = PICOSECONDS

    @property
    def horizon_s(self) -> float:
        """The longest time, in seconds, that a 64-bit column of ticks can hold."""
        return INT64_MAX / self.ticks_per_s

    def ticks(self, seconds: float) -> int:
        """Seconds to the nearest tick."""
        return round(seconds * self.ticks_per_s)

    def column(self, seconds: ArrayLike) -> NDArray[np.int64]:
        """Seconds to the nearest tick, for a whole column."""
        return np.rint(np.asarray(seconds, np.float64) * self.ticks_per_s).astype(np.int64)

    def seconds(self, ticks: ArrayLike) -> NDArray[np.float64]:
        """Ticks to seconds, for a whole column."""
        return np.asarray(ticks, np.float64) / self.ticks_per_s

    def holds(self, coefficients: Iterable[float]) -> bool:
        """Whether rounding to this grid moves no coefficient, hence no sum of them, by over 1e-6 of itself."""
        return all(
            abs(self.ticks(c) - c * self.ticks_per_s) <= _WORST_ROUNDING * c * self.ticks_per_s for c in coefficients
        )


def grid_for(coefficients: Iterable[float], wished_s: float) -> Grid:
    """The grid on which costs with these ``coefficients`` (seconds, not negative) can be summed exactly.

    Picoseconds where they do; finer where a coefficient would be rounded by more than 1e-6 of itself (a context
    token costs about 8 ns); coarser where ``wished_s`` seconds would not fit 64 bits and the coefficients allow it.

    Raises:
        ConfigError: the largest coefficient is too large, or too small, for any grid.
    """
    wanted = [c for c in coefficients if c > 0]
    most = max(wanted, default=1.0)
    if most > INT64_MAX / _COARSEST or not Grid(_FINEST).holds([most]):
        raise ConfigError(
            f"cost: {most:.3g} s is beyond what 64-bit time can count: give the time of a step in seconds"
        )
    ticks_per_s = PICOSECONDS
    while not Grid(ticks_per_s).holds(wanted) and ticks_per_s < _FINEST:
        ticks_per_s *= 10
    while Grid(ticks_per_s).horizon_s < wished_s and ticks_per_s > _COARSEST and Grid(ticks_per_s // 10).holds(wanted):
        ticks_per_s //= 10
    return Grid(ticks_per_s)
