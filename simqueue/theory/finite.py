"""M/M/c/K: room for so many requests; whoever finds it taken is turned away."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import at_least, positive
from simqueue.errors import ConfigError
from simqueue.theory.chain import birth_death

_WHERE = "MMCK"


@dataclass(frozen=True)
class MMCK:
    """M/M/c/K, first come first served: at most ``capacity`` requests in the system, waiting or in service.

    Poisson arrivals at ``rate`` per second, ``servers`` alike, exponential service with mean ``service_s``. Those who
    find ``capacity`` requests are turned away and do not come back, so that any load has a steady state.

    Source: Kleinrock (1975), Queueing Systems, volume 1, sections 3.6 (one server) and 3.10; what an arrival finds is
    what there is over time, Wolff (1982), "Poisson arrivals see time averages", Operations Research 30.
    """

    rate: float
    service_s: float
    servers: int
    capacity: int

    def __post_init__(self) -> None:
        positive(_WHERE, "rate", self.rate)
        positive(_WHERE, "service_s", self.service_s)
        at_least(_WHERE, "servers", self.servers, 1)
        at_least(_WHERE, "capacity", self.capacity, 1)
        if self.capacity < self.servers:
            raise ConfigError(f"{_WHERE}: capacity = {self.capacity} must be at least servers = {self.servers}")

    @cached_property
    def system_size(self) -> NDArray[np.float64]:
        """P(n requests in the system), n = 0 to ``capacity``."""
        served = np.minimum(np.arange(1, self.capacity + 1), self.servers) / self.service_s
        return birth_death(np.full(self.capacity, self.rate), served)

    @property
    def blocking_probability(self) -> float:
        """The share of arrivals that is turned away."""
        return float(self.system_size[-1])

    @property
    def throughput_rps(self) -> float:
        """Requests served per second."""
        return self.rate * float(self.system_size[:-1].sum())

    @property
    def utilisation(self) -> float:
        """Busy share of each server's time."""
        return self.throughput_rps * self.service_s / self.servers

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service of those admitted (Little's law)."""
        waiting = np.maximum(np.arange(self.capacity + 1) - self.servers, 0)
        return float(self.system_size @ waiting) / self.throughput_rps

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service of those admitted."""
        return self.mean_queueing_s + self.service_s
