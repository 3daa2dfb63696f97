"""M/G/1, shortest job first: the service times are known, and the shortest that waits is next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import positive
from simqueue.errors import ConfigError
from simqueue.theory.load import stable
from simqueue.theory.priority import PriorityMG1

_WHERE = "ShortestJobFirst"


@dataclass(frozen=True)
class ShortestJobFirst:
    """M/G/1, non-preemptive, shortest job first; first come first served among equals.

    Poisson arrivals at ``rate`` per second. A service takes ``service_s[i]`` with probability ``probability[i]``,
    i = 0, 1, ..., the times increasing: a sample's are ``numpy.unique`` of it.

    Source: Phipps (1956), "Machine repair as a priority waiting-line problem", Operations Research 4: Cobham's
    priorities, with a class for each service time.
    """

    rate: float
    service_s: Sequence[float]
    probability: Sequence[float]

    def __post_init__(self) -> None:
        positive(_WHERE, "rate", self.rate)
        _check_points(self.service_s, self.probability)
        stable(_WHERE, self.utilisation)

    @cached_property
    def _classes(self) -> PriorityMG1:
        rates = [self.rate * share for share in self.probability]
        return PriorityMG1(rates, self.service_s, [0.0] * len(rates))

    @property
    def utilisation(self) -> float:
        """Busy share of the time."""
        return self.rate * float(np.dot(self.service_s, self.probability))

    @property
    def queueing_by_service_s(self) -> NDArray[np.float64]:
        """Mean time from arrival to the start of a service of ``service_s[i]``, i = 0, 1, ..."""
        return self._classes.class_queueing_s

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service."""
        return self._classes.mean_queueing_s

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service."""
        return self._classes.mean_response_s


def _check_points(service_s: Sequence[float], probability: Sequence[float]) -> None:
    if len(service_s) == 0 or len(service_s) != len(probability):
        raise ConfigError(
            f"{_WHERE}: {len(service_s)} service_s and {len(probability)} probabilities: "
            "give one for every service time"
        )
    for i, (time, share) in enumerate(zip(service_s, probability, strict=True)):
        positive(_WHERE, f"service_s[{i}]", time)
        positive(_WHERE, f"probability[{i}]", share)
    if not abs(sum(probability) - 1) < 1e-9:
        raise ConfigError(f"{_WHERE}: probability sums to {sum(probability):.9g} and must sum to 1")
    for i in range(1, len(service_s)):
        if not service_s[i - 1] < service_s[i]:
            raise ConfigError(
                f"{_WHERE}: service_s[{i}] = {service_s[i]} is not above the one before: sort the times, each once"
            )
