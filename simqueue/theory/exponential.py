"""M/M/1 and GI/M/1: exponential service, one request at a time, first come first served."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from scipy.optimize import brentq

from simqueue.checks import positive
from simqueue.errors import ConfigError
from simqueue.theory.load import stable
from simqueue.theory.quantile import probability


@dataclass(frozen=True)
class _ExponentialService(ABC):
    """An arrival finds n requests with probability (1 - sigma) sigma^n; everything follows from sigma."""

    rate: float
    service_s: float

    def __post_init__(self) -> None:
        name = type(self).__name__
        positive(name, "rate", self.rate)
        positive(name, "service_s", self.service_s)
        stable(name, self.utilisation)

    @property
    @abstractmethod
    def idle_found(self) -> float:
        """1 - sigma, the probability that an arrival finds the server idle."""

    @property
    def utilisation(self) -> float:
        """Busy share of the time, ``rate * service_s``."""
        return self.rate * self.service_s

    @property
    def decay_per_s(self) -> float:
        """Rate at which the tails of waiting and response time fall."""
        return self.idle_found / self.service_s

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service."""
        return (1 - self.idle_found) / self.decay_per_s

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service."""
        return 1 / self.decay_per_s

    def queueing_ccdf(self, t_s: float) -> float:
        """P(queueing time > t)."""
        return (1 - self.idle_found) * self.response_ccdf(t_s) if t_s >= 0 else 1.0

    def response_ccdf(self, t_s: float) -> float:
        """P(response time > t)."""
        return math.exp(-self.decay_per_s * max(t_s, 0.0))

    def queueing_quantile_s(self, q: float) -> float:
        """The least t with P(queueing time <= t) >= q."""
        probability(type(self).__name__, q)
        return max(0.0, math.log((1 - self.idle_found) / (1 - q)) / self.decay_per_s)

    def response_quantile_s(self, q: float) -> float:
        """The least t with P(response time <= t) >= q."""
        probability(type(self).__name__, q)
        return -math.log1p(-q) / self.decay_per_s


@dataclass(frozen=True)
class MM1(_ExponentialService):
    """M/M/1: Poisson arrivals at ``rate`` per second, exponential service with mean ``service_s``.

    Source: Kleinrock (1975), Queueing Systems, volume 1, chapters 3 and 5.
    """

    @property
    def idle_found(self) -> float:
        """1 - rho: Poisson arrivals see time averages."""
        return 1 - self.utilisation


@dataclass(frozen=True)
class GIM1(_ExponentialService):
    """GI/M/1: renewal arrivals at ``rate`` per second, exponential service with mean ``service_s``.

    ``transform(s)`` is the Laplace-Stieltjes transform E exp(-s A) of the gap A between arrivals, for s >= 0
    per second; sigma is the root in (0, 1) of sigma = transform((1 - sigma) / service_s).

    Source: Kleinrock (1975), Queueing Systems, volume 1, chapter 6.
    """

    transform: Callable[[float], float]

    @classmethod
    def gamma(cls, rate: float, cv: float, service_s: float) -> GIM1:
        """Gamma gaps with mean ``1 / rate`` and coefficient of variation ``cv`` (1 is Poisson)."""
        positive(cls.__name__, "rate", rate)
        positive(cls.__name__, "cv", cv)
        shape = cv**-2
        return cls(rate, service_s, lambda s: math.exp(-shape * math.log1p(s / (shape * rate))))

    @cached_property
    def idle_found(self) -> float:
        """1 - sigma, to the last digits even where sigma is close to 1."""

        def excess(gap: float) -> float:
            return self.transform(gap / self.service_s) - 1 + gap

        # Convex, 0 at 0 and falling there (load below 1): the root sought is the other one.
        low = 0.5
        while excess(low) >= 0:
            low /= 2
            if low < 1e-12:
                raise ConfigError(
                    f"GIM1: transform is not that of gaps with mean {1 / self.rate:.6g} s: check the rate"
                )
        return float(brentq(excess, low, 1.0, xtol=1e-16, rtol=1e-14))
