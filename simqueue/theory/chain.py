"""Markov chains on 0, 1, 2, ...: where to cut them off, and their stationary distribution."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from simqueue.errors import ConfigError

TAIL = 1e-13
MOST_STATES = 4000  # a dense matrix of this size takes 128 MB and about two seconds
THETAS = np.geomspace(1e-6, 5.0, 3000)


def poisson(mean: float | NDArray[np.float64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    """P(A = k) for A Poisson with this mean; arguments are broadcast, negative ``k`` have probability 0."""
    count = k.astype(np.float64)
    at = np.maximum(count, 0.0)
    return np.where(count < 0, 0.0, np.exp(xlogy(at, mean) - mean - gammaln(at + 1)))


def drift_moment(log_factor: NDArray[np.float64], log_constant: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of a bound on E exp(theta N), given E[exp(theta N') | N] <= factor exp(theta N) + constant.

    In the steady state the inequality gives E exp(theta N) <= constant / (1 - factor) wherever factor < 1,
    and nothing (infinity) elsewhere (Hajek 1982, "Hitting-time and occupation-time bounds implied by drift
    analysis with applications", Advances in Applied Probability 14).
    """
    bound = np.full_like(log_factor, np.inf)
    good = log_factor < 0
    bound[good] = log_constant[good] - np.log(-np.expm1(log_factor[good]))
    return bound


def last_state(log_moment: NDArray[np.float64]) -> int:
    """The least n for which P(N > n) <= TAIL follows from ``log_moment``, log E exp(theta N) at THETAS."""
    least = np.min((log_moment - math.log(TAIL)) / THETAS)
    return math.ceil(least) if math.isfinite(least) else MOST_STATES + 1


def affordable(where: str, last: int) -> None:
    """Refuse a chain that is too large to be solved."""
    if last > MOST_STATES:
        raise ConfigError(
            f"{where}: the load is so close to 1, or the batches so large, that the exact chain needs "
            f"more than {MOST_STATES} states: lower the rate"
        )


def stationary(transition: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stationary distribution of a finite chain; what its rows lack to 1 goes to the last state.

    ``transition`` (n x n) is consumed.
    """
    transition[:, -1] += 1 - transition.sum(axis=1)
    often = _often_visited(transition)
    system = transition.T
    system[np.diag_indices_from(system)] -= 1
    # One balance equation is redundant. Rounding errors grow with the time to return to the state whose equation
    # is given up, so it must not be one of the tail.
    system[often] = 1.0
    right = np.zeros(len(system))
    right[often] = 1.0
    solution = np.maximum(np.linalg.solve(system, right), 0.0)
    return np.asarray(solution / solution.sum(), np.float64)


def birth_death(up: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stationary distribution on 0, 1, ..., n: ``up[i]`` is the rate from i to i + 1, ``down[i]`` that from i + 1 to i.

    Both (n,) and positive. Source: Kleinrock (1975), Queueing Systems, volume 1, chapter 3.
    """
    logs = np.concatenate(([0.0], np.cumsum(np.log(up / down))))
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum(), np.float64)


def _often_visited(transition: NDArray[np.float64]) -> int:
    """A state near the middle of the stationary distribution: follow the mean of the next state."""
    means = transition @ np.arange(len(transition))
    state = 0
    for _ in range(1000):
        state = round(means[state])
    return state
