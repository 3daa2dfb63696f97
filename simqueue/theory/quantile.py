"""Quantiles from tail probabilities."""

from __future__ import annotations

from collections.abc import Callable

from scipy.optimize import brentq

from simqueue.errors import ConfigError


def probability(where: str, q: float) -> None:
    """Refuse a quantile outside [0, 1)."""
    if not 0 <= q < 1:
        raise ConfigError(f"{where}: q = {q} must be at least 0 and below 1 (0.99 is the 99th percentile)")


def invert(where: str, ccdf: Callable[[float], float], q: float, scale_s: float) -> float:
    """The least t >= 0 with ``ccdf(t) <= 1 - q``, for a tail continuous after 0; starts at ``scale_s``."""
    probability(where, q)
    tail = 1 - q
    if ccdf(0.0) <= tail:
        return 0.0
    high = scale_s
    while ccdf(high) > tail:
        high *= 2
    return float(brentq(lambda t: ccdf(t) - tail, 0.0, high, xtol=1e-13 * scale_s, rtol=1e-13))
