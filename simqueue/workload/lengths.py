"""Length distributions of prompts and outputs, in tokens. Each is one frozen record, and one TOML table."""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.checks import MAX_CV, MAX_TOKENS, require_whole, require_within


class Draws(NamedTuple):
    """Lengths in tokens, and the share of them that ``min`` or ``max`` changed."""

    tokens: NDArray[np.int64]
    clipped_share: float


class _Lengths(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="kind",
    kw_only=True,
):
    """Whole numbers: drawn, rounded to the nearest of at least 1, then clipped to ``min`` and ``max``."""

    min: int | None = None
    max: int | None = None

    def __post_init__(self) -> None:
        for key, value in (("min", self.min), ("max", self.max)):
            if value is not None:
                require_whole(self._name, key, value, "give tokens, or leave it out for no limit")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise WorkloadError(f"{self._name}: min = {self.min} is above max = {self.max}; swap them")

    @property
    def _name(self) -> str:
        return f"{self.__struct_config__.tag} lengths"

    def draw(self, requests: int, rng: Generator) -> Draws:
        """Independent lengths for ``requests`` requests.

        Raises:
            WorkloadError: a draw is beyond 2**31 - 1 tokens and there is no ``max``.
        """
        rounded = np.maximum(np.rint(self._draw(requests, rng)), 1)
        kept = np.clip(rounded, self.min, self.max) if (self.min or self.max) else rounded
        if not kept.max() <= MAX_TOKENS:
            raise WorkloadError(f"{self._name} drew {kept.max():.3g} tokens; set max, or lower the mean or the cv")
        return Draws(kept.astype(np.int64), float(np.mean(kept != rounded)))

    def _draw(self, requests: int, rng: Generator) -> NDArray[np.float64] | NDArray[np.int64]:
        raise NotImplementedError


class Fixed(_Lengths, frozen=True, tag="fixed"):
    """Always ``value`` tokens."""

    value: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole(self._name, "value", self.value, "give tokens")

    @property
    def mean(self) -> float:
        """Mean before clipping, in tokens."""
        return float(self.value)

    @property
    def cv(self) -> float:
        """Coefficient of variation before clipping."""
        return 0.0

    def _draw(self, requests: int, rng: Generator) -> NDArray[np.int64]:
        return np.full(requests, self.value)


class Uniform(_Lengths, frozen=True, tag="uniform"):
    """Every whole number from ``low`` to ``high``, both included, equally likely."""

    low: int
    high: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole(self._name, "low", self.low, "give tokens")
        require_whole(self._name, "high", self.high, "give tokens, no fewer than low", at_least=self.low)

    @property
    def mean(self) -> float:
        """Mean before clipping, in tokens."""
        return (self.low + self.high) / 2

    @property
    def cv(self) -> float:
        """Coefficient of variation before clipping; the variance of n neighbours is (n**2 - 1) / 12."""
        return math.sqrt(((self.high - self.low + 1) ** 2 - 1) / 12) / self.mean

    def _draw(self, requests: int, rng: Generator) -> NDArray[np.int64]:
        return rng.integers(self.low, self.high, requests, endpoint=True)


class Lognormal(_Lengths, frozen=True, tag="lognormal"):
    """Lognormal with this ``mean`` (tokens) and ``cv``, before rounding to at least 1 and clipping.

    The log has variance ``log(1 + cv**2)`` and mean ``log(mean)`` less half of that.
    """

    mean: float
    cv: float

    def __post_init__(self) -> None:
        super().__post_init__()
        # Below 1 too: rounding to at least 1 then lifts most draws.
        require_within(self._name, "mean", self.mean, 1e-6, MAX_TOKENS, "give the mean in tokens")
        require_within(self._name, "cv", self.cv, 0, MAX_CV, "give the standard deviation over the mean")

    def _draw(self, requests: int, rng: Generator) -> NDArray[np.float64]:
        variance = math.log1p(self.cv**2)
        return rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), requests)


class Geometric(_Lengths, frozen=True, tag="geometric"):
    """Geometric on 1, 2, ... with this ``mean``: every token is the last with probability 1 / mean."""

    mean: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within(self._name, "mean", self.mean, 1, MAX_TOKENS, "give the mean in tokens")

    @property
    def cv(self) -> float:
        """Coefficient of variation before clipping, ``sqrt(1 - 1 / mean)``."""
        return math.sqrt(1 - 1 / self.mean)

    def _draw(self, requests: int, rng: Generator) -> NDArray[np.int64]:
        return rng.geometric(1 / self.mean, requests)


class Empirical(_Lengths, frozen=True, tag="empirical"):
    """One of ``values``, each equally likely, with replacement."""

    values: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.structs.force_setattr(self, "values", tuple(self.values))
        if not self.values:
            raise WorkloadError(f"{self._name}: values = [] is empty; list the lengths to draw from")
        for index, value in enumerate(self.values):
            require_whole(self._name, f"values[{index}]", value, "give tokens")

    @property
    def mean(self) -> float:
        """Mean before clipping, in tokens."""
        return float(np.mean(self.values))

    @property
    def cv(self) -> float:
        """Coefficient of variation before clipping."""
        return float(np.std(self.values)) / self.mean

    def _draw(self, requests: int, rng: Generator) -> NDArray[np.int64]:
        return rng.choice(np.array(self.values, np.int64), requests)


Lengths = Fixed | Uniform | Lognormal | Geometric | Empirical
