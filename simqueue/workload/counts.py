"""How many of something: always as many, or geometric."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.workload.checks import MAX_TOKENS, require_whole, require_within


class GeometricCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="geometric"):
    """Geometric on 1, 2, ... with this ``mean``: each is the last with probability 1 / mean."""

    mean: float

    def __post_init__(self) -> None:
        require_within("geometric count", "mean", self.mean, 1, MAX_TOKENS, "give the mean number")


Count = int | GeometricCount


def require_count(what: str, key: str, count: Count, remedy: str) -> None:
    """Refuse everything but a whole number from 1 on, or a distribution of such."""
    if not isinstance(count, GeometricCount):
        require_whole(what, key, count, remedy)


def mean_count(count: Count) -> float:
    """Its mean."""
    return count.mean if isinstance(count, GeometricCount) else float(count)


def draw_counts(count: Count, size: int, rng: Generator) -> NDArray[np.int64]:
    """``size`` independent numbers."""
    return rng.geometric(1 / count.mean, size) if isinstance(count, GeometricCount) else np.full(size, count, np.int64)
