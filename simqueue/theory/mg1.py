"""M/G/1: mean values for any service distribution."""

from __future__ import annotations

from dataclasses import dataclass

from simqueue.checks import at_least, positive, seconds
from simqueue.theory.load import stable


@dataclass(frozen=True)
class MG1:
    """M/G/1, one request at a time, first come first served.

    Poisson arrivals at ``rate`` per second, independent service times with mean ``service_s`` and coefficient
    of variation ``cv``.

    Source: the Pollaczek-Khinchine formula; Kleinrock (1975), Queueing Systems, volume 1, chapter 5.
    """

    rate: float
    service_s: float
    cv: float

    def __post_init__(self) -> None:
        positive("MG1", "rate", self.rate)
        positive("MG1", "service_s", self.service_s)
        seconds("MG1", "cv", self.cv)
        stable("MG1", self.utilisation)

    @classmethod
    def erlang(cls, rate: float, service_s: float, shape: int) -> MG1:
        """Erlang service: the sum of ``shape`` equal exponential phases (1 is M/M/1)."""
        at_least("MG1.erlang", "shape", shape, 1)
        return cls(rate, service_s, shape**-0.5)

    @property
    def utilisation(self) -> float:
        """Busy share of the time, ``rate * service_s``."""
        return self.rate * self.service_s

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service: rate E[S^2] / (2 (1 - rho))."""
        second_moment = self.service_s**2 * (1 + self.cv**2)
        return self.rate * second_moment / (2 * (1 - self.utilisation))

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service."""
        return self.mean_queueing_s + self.service_s
