"""M/D/1: constant service, with the whole waiting-time distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc, lambertw

from simqueue.checks import positive
from simqueue.theory.chain import poisson
from simqueue.theory.load import stable
from simqueue.theory.quantile import invert

_WHERE = "MD1"
_NATS = 40.0  # the queue length is followed until its tail has fallen by exp(-40), and is geometric beyond
_POISSON_TERMS = 60  # a Poisson variable of mean below 1 exceeds this with probability below 1e-80


@dataclass(frozen=True)
class MD1:
    """M/D/1: Poisson arrivals at ``rate`` per second, constant ``service_s``, first come first served.

    Erlang's alternating series for the waiting time loses all its digits within a few dozen services. Here
    every sum has positive terms only: the waiting time by Franx (2001), "A simple solution for the M/D/c
    waiting time distribution", Operations Research Letters 29, 221-229, from the queue length, and that by
    counting crossings of a level (derived here, see ``system_size``).
    """

    rate: float
    service_s: float

    def __post_init__(self) -> None:
        positive(_WHERE, "rate", self.rate)
        positive(_WHERE, "service_s", self.service_s)
        stable(_WHERE, self.utilisation)

    @property
    def utilisation(self) -> float:
        """Busy share of the time, ``rate * service_s``."""
        return self.rate * self.service_s

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service (Pollaczek-Khinchine)."""
        return self.utilisation * self.service_s / (2 * (1 - self.utilisation))

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service."""
        return self.mean_queueing_s + self.service_s

    @property
    def size_ratio(self) -> float:
        """P(n + 1 in system) / P(n in system) for large n: 1/z with log z = rho (z - 1), z > 1."""
        rho = self.utilisation
        return float(-rho / lambertw(-rho * math.exp(-rho), -1).real)

    @cached_property
    def system_size(self) -> NDArray[np.float64]:
        """P(n requests in the system), n = 0, 1, ..., as far as the tail has become geometric.

        Among the numbers left behind at departures, as many steps go up from n or fewer to more than n as go
        down from n + 1 to n: p[n+1] P(A = 0) = p[0] P(A > n) + sum over j = 1..n of p[j] P(A > n + 1 - j),
        with A arrivals in a service. No term is negative, so no digits are lost. Arrivals see the same
        distribution.
        """
        rho = self.utilisation
        last = 20 + math.ceil(_NATS / -math.log(self.size_ratio))
        exceeds = gammainc(np.arange(1, last + 2), rho)
        size = np.zeros(last + 1)
        size[0] = 1 - rho
        for n in range(last):
            up = size[0] * exceeds[n] + size[1 : n + 1] @ exceeds[n:0:-1]
            size[n + 1] = up * math.exp(rho)
        return size

    @cached_property
    def _waiting_exceeds(self) -> NDArray[np.float64]:
        """P(more than m requests wait), m = 0, 1, ...: the tail sums of ``system_size`` from m + 2 on."""
        beyond = self.system_size[-1] * self.size_ratio / (1 - self.size_ratio)
        return np.concatenate((beyond + np.cumsum(self.system_size[:1:-1])[::-1], (beyond,)))

    def _exceeds(self, m: NDArray[np.int64]) -> NDArray[np.float64]:
        known = self._waiting_exceeds
        at = np.minimum(m, len(known) - 1)
        return np.asarray(known[at] * self.size_ratio ** (m - at), np.float64)

    def queueing_ccdf(self, t_s: float) -> float:
        """P(queueing time > t), with a relative precision of about 1e-12 however small it is.

        With k the number of services begun by t and u = k service_s - t, Franx's formula, written for the
        tail, is P(W > t) = P(A >= k) + sum over j < k of P(A = j) P(more than k - 1 - j wait), A Poisson with
        mean rate u.
        """
        if t_s < 0:
            return 1.0
        k = math.floor(t_s / self.service_s) + 1
        mean = max(0.0, self.rate * (k * self.service_s - t_s))
        j = np.arange(min(k, _POISSON_TERMS))
        rest = float(gammainc(k, mean)) if k < _POISSON_TERMS else 0.0
        return rest + float(poisson(mean, j) @ self._exceeds(k - 1 - j))

    def response_ccdf(self, t_s: float) -> float:
        """P(response time > t)."""
        return self.queueing_ccdf(t_s - self.service_s)

    def queueing_quantile_s(self, q: float) -> float:
        """The least t with P(queueing time <= t) >= q."""
        return invert(_WHERE, self.queueing_ccdf, q, self.service_s)

    def response_quantile_s(self, q: float) -> float:
        """The least t with P(response time <= t) >= q."""
        return self.service_s + self.queueing_quantile_s(q)
