"""The closed-form bound on the mean response time of greedy batching without a cap."""

from __future__ import annotations

from simqueue.checks import positive, seconds
from simqueue.theory.load import stable

_WHERE = "inoue_response_bound_s"


def inoue_response_bound_s(rate: float, base_s: float, per_request_s: float) -> float:
    """Upper bound on the mean response time when a batch of all n who wait takes base_s + per_request_s n.

    Poisson arrivals at ``rate`` per second, no cap, no timeout. The exact value is that of
    ``unlimited_batching``.

    Source: Inoue (2021), "Queueing analysis of GPU-based inference servers with dynamic batching: A
    closed-form characterization", Performance Evaluation 147: the lesser of two bounds. Derived again here:
    let x = rate per_request_s, t = base_s, and m and v the first two moments of the batch size B. The next
    batch is A + 1{A = 0} with A Poisson of mean rate (t + per_request_s B), so v follows from m: v (1 - x^2)
    = m (1 + 2 rate x t) + (rate t)^2. The mean response time, rate E[S^2] / (2 m) of queueing and E[B S] / m
    of service, is then a decreasing function of m alone, and m is at least 1 (first bound) and at least rate
    t / (1 - x), because m (1 - x) = rate t + P(A = 0) (second).

    Raises:
        ConfigError: a parameter is out of its range, or the load ``rate * per_request_s`` is not below 1.
    """
    positive(_WHERE, "rate", rate)
    seconds(_WHERE, "base_s", base_s)
    positive(_WHERE, "per_request_s", per_request_s)
    x = rate * per_request_s
    stable(_WHERE, x)
    alone = base_s + per_request_s
    light = alone / (2 * (1 - x)) * (1 + 2 * rate * base_s + (1 - rate * base_s) / (1 + x))
    heavy = 1.5 * base_s / (1 - x) + per_request_s / 2 * (x + 2) / (1 - x**2)
    return min(light, heavy)
