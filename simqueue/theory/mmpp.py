"""MMPP/M/1: Markov-modulated Poisson arrivals, exponential service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from simqueue.checks import positive, seconds
from simqueue.errors import ConfigError
from simqueue.theory.load import stable
from simqueue.theory.qbd import rate_matrix
from simqueue.theory.quantile import invert

_WHERE = "MMPPM1"
_Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class MMPPM1:
    """MMPP/M/1, one request at a time, first come first served.

    In state i requests arrive as a Poisson process of ``rates[i]`` per second (0 is allowed); a stay there is
    exponential with mean ``mean_stay_s[i]``, after which state j follows with probability
    ``transitions[i][j]`` (by default the states follow each other in a circle). Service is exponential with
    mean ``service_s``.

    Source: the matrix-geometric solution of a quasi-birth-death process, Neuts (1981), Matrix-Geometric
    Solutions in Stochastic Models, chapter 3; P(n present, state) = phi (I - R) R^n, because the states of
    the arrivals alone have the stationary distribution phi. The waiting time (derived here): an arrival finds
    n with the state distributed as phi (I - R) R^n Lambda / mean rate and waits for n exponential services,
    and the sum over n is a matrix exponential.
    """

    rates: Sequence[float]
    mean_stay_s: Sequence[float]
    service_s: float
    transitions: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        _check_states(self.rates, self.mean_stay_s)
        positive(_WHERE, "service_s", self.service_s)
        _check_shape(self.transitions, len(self.rates))
        _check_jumps(self._jumps, len(self.rates))
        positive(_WHERE, "mean arrival rate", self.mean_rate)
        stable(_WHERE, self.utilisation)

    @cached_property
    def _jumps(self) -> _Matrix:
        if self.transitions is None:
            return np.roll(np.eye(len(self.rates)), 1, axis=1)
        return np.array(self.transitions, np.float64)

    @cached_property
    def _generator(self) -> _Matrix:
        stays = np.asarray(self.mean_stay_s, np.float64)
        return (self._jumps - np.eye(len(stays))) / stays[:, None]

    @cached_property
    def state_share(self) -> _Matrix:
        """Share of time in each state of the arrivals."""
        system = np.vstack((self._generator.T, np.ones(len(self.rates))))
        right = np.append(np.zeros(len(self.rates)), 1.0)
        share: _Matrix = np.linalg.lstsq(system, right, rcond=None)[0]
        return share

    @cached_property
    def mean_rate(self) -> float:
        """Arrivals per second, over all states."""
        return float(self.state_share @ np.asarray(self.rates, np.float64))

    @property
    def utilisation(self) -> float:
        """Busy share of the time."""
        return self.mean_rate * self.service_s

    @cached_property
    def _seen(self) -> _Matrix:
        """Lambda 1 / mean rate: turns time averages by state into what arrivals see."""
        return np.asarray(self.rates, np.float64) / self.mean_rate

    @cached_property
    def _r(self) -> _Matrix:
        up = np.diag(np.asarray(self.rates, np.float64))
        down = np.eye(len(self.rates)) / self.service_s
        within = self._generator - up - down
        return rate_matrix(up, within, down)

    @cached_property
    def mean_in_system(self) -> float:
        """Mean number present, over time: phi R (I - R)^-1 1."""
        rest = np.eye(len(self.rates)) - self._r
        return float(self.state_share @ self._r @ np.linalg.solve(rest, np.ones(len(rest))))

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service (Little's law)."""
        return self.mean_in_system / self.mean_rate

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service."""
        return self.mean_response_s - self.service_s

    def system_size(self, largest: int) -> _Matrix:
        """P(n requests in the system), over time, for n = 0, 1, ..., ``largest``."""
        level = self.state_share @ (np.eye(len(self.rates)) - self._r)
        size = np.empty(largest + 1)
        for n in range(largest + 1):
            size[n] = level.sum()
            level = level @ self._r
        return size

    def queueing_ccdf(self, t_s: float) -> float:
        """P(queueing time > t) = phi R exp(-(I - R) t / service_s) Lambda 1 / mean rate."""
        return float(self.state_share @ self._r @ self._decayed(t_s)) if t_s >= 0 else 1.0

    def response_ccdf(self, t_s: float) -> float:
        """P(response time > t) = phi exp(-(I - R) t / service_s) Lambda 1 / mean rate."""
        return float(self.state_share @ self._decayed(max(t_s, 0.0)))

    def _decayed(self, t_s: float) -> _Matrix:
        rest = self._r - np.eye(len(self.rates))
        return np.asarray(expm(rest * (t_s / self.service_s)) @ self._seen, np.float64)

    def queueing_quantile_s(self, q: float) -> float:
        """The least t with P(queueing time <= t) >= q."""
        return invert(_WHERE, self.queueing_ccdf, q, self.service_s)

    def response_quantile_s(self, q: float) -> float:
        """The least t with P(response time <= t) >= q."""
        return invert(_WHERE, self.response_ccdf, q, self.service_s)


def _check_states(rates: Sequence[float], stays: Sequence[float]) -> None:
    if len(rates) == 0 or len(rates) != len(stays):
        raise ConfigError(
            f"{_WHERE}: {len(rates)} rates and {len(stays)} mean_stay_s: give one of each for every state"
        )
    for i, (rate, stay) in enumerate(zip(rates, stays, strict=True)):
        seconds(_WHERE, f"rates[{i}]", rate)
        positive(_WHERE, f"mean_stay_s[{i}]", stay)


def _check_shape(transitions: Sequence[Sequence[float]] | None, states: int) -> None:
    if transitions is not None and [len(row) for row in transitions] != [states] * states:
        raise ConfigError(f"{_WHERE}: transitions must have {states} rows of {states} probabilities")


def _check_jumps(jumps: _Matrix, states: int) -> None:
    if not (np.all(jumps >= 0) and np.allclose(jumps.sum(axis=1), 1.0, rtol=0, atol=1e-9)):
        raise ConfigError(f"{_WHERE}: every row of transitions must hold probabilities that sum to 1")
    if np.linalg.matrix_rank(jumps - np.eye(states)) < states - 1:
        raise ConfigError(f"{_WHERE}: transitions falls into parts that never meet: give one chain")
