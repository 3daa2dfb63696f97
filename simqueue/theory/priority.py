"""M/G/1 with classes of requests: non-preemptive priorities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import positive, seconds
from simqueue.errors import ConfigError
from simqueue.theory.load import stable

_WHERE = "PriorityMG1"


@dataclass(frozen=True)
class PriorityMG1:
    """M/G/1 with non-preemptive priorities: the free server takes the first who waits of the best class that waits.

    Class k = 0, 1, ... (0 is served first) arrives as a Poisson process of ``rates[k]`` per second, with service times
    of mean ``service_s[k]`` and coefficient of variation ``cv[k]``. A service that has begun is finished.

    Source: Cobham (1954), "Priority assignment in waiting line problems", Operations Research 2.
    """

    rates: Sequence[float]
    service_s: Sequence[float]
    cv: Sequence[float]

    def __post_init__(self) -> None:
        _check_classes(self.rates, self.service_s, self.cv)
        stable(_WHERE, self.utilisation)

    @cached_property
    def _loads(self) -> NDArray[np.float64]:
        return np.asarray(self.rates, np.float64) * np.asarray(self.service_s, np.float64)

    @property
    def utilisation(self) -> float:
        """Busy share of the time, with requests of any class."""
        return float(self._loads.sum())

    @cached_property
    def class_queueing_s(self) -> NDArray[np.float64]:
        """Mean time from arrival to the start of service, for each class.

        R / ((1 - s) (1 - s')), where R is the mean rest of the service found, half the sum of rate E[S^2], s is the
        load of the better classes, and s' that with the class itself.
        """
        second_moments = np.asarray(self.service_s) ** 2 * (1 + np.asarray(self.cv) ** 2)
        rest_s = np.asarray(self.rates) @ second_moments / 2
        left = 1 - np.concatenate(([0.0], np.cumsum(self._loads)))
        return np.asarray(rest_s / (left[:-1] * left[1:]), np.float64)

    @property
    def class_response_s(self) -> NDArray[np.float64]:
        """Mean time from arrival to the end of service, for each class."""
        return self.class_queueing_s + np.asarray(self.service_s, np.float64)

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service, over requests of all classes."""
        return float(np.average(self.class_queueing_s, weights=self.rates))

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service, over requests of all classes."""
        return float(np.average(self.class_response_s, weights=self.rates))


def _check_classes(rates: Sequence[float], service_s: Sequence[float], cv: Sequence[float]) -> None:
    if len(rates) == 0 or not len(rates) == len(service_s) == len(cv):
        raise ConfigError(
            f"{_WHERE}: {len(rates)} rates, {len(service_s)} service_s and {len(cv)} cv: "
            "give one of each for every class"
        )
    for k, (rate, mean, variation) in enumerate(zip(rates, service_s, cv, strict=True)):
        positive(_WHERE, f"rates[{k}]", rate)
        positive(_WHERE, f"service_s[{k}]", mean)
        seconds(_WHERE, f"cv[{k}]", variation)
