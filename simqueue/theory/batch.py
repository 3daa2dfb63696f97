"""What the solvers for batch service take and return."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simqueue.errors import ConfigError

ServiceTime = float | Sequence[float] | NDArray[np.float64] | Callable[[int], float]
"""Seconds for n rows at once: a function of n = 1, 2, ..., the values for n = 1, 2, ..., or one constant."""


@dataclass(frozen=True, eq=False)
class BatchQueue:
    """The steady state of a server that works on several requests at once.

    A step is what the server runs without asking again: a whole batch, or one iteration of continuous
    batching.

    ``batch_size[n]`` is the share of steps with n rows (n = 0, 1, ...). Times are seconds: queueing from
    arrival to the start of the first step with the request in it, service from there to the end of its last
    one. ``throughput_rps`` is worked out from the chain alone and equals the arrival rate. ``tail`` bounds
    the stationary probability of the states that were cut off.
    """

    batch_size: NDArray[np.float64]
    mean_queueing_s: float
    mean_service_s: float
    utilisation: float
    throughput_rps: float
    tail: float

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of the last step."""
        return self.mean_queueing_s + self.mean_service_s

    @property
    def mean_per_step(self) -> float:
        """Mean rows of a step."""
        return float(self.batch_size @ np.arange(len(self.batch_size)))

    @property
    def mean_per_request(self) -> float:
        """Mean rows of a step as its rows see it: E[n^2] / E[n]."""
        return float(self.batch_size @ np.arange(len(self.batch_size)) ** 2) / self.mean_per_step

    @property
    def mean_waiting(self) -> float:
        """Mean number of requests waiting, over time (Little's law)."""
        return self.throughput_rps * self.mean_queueing_s


def service_times(where: str, service_s: ServiceTime, largest: int) -> NDArray[np.float64]:
    """Seconds for 1, 2, ..., ``largest`` rows, checked: positive and finite, and as many as needed."""
    if callable(service_s):
        times = np.array([service_s(n) for n in range(1, largest + 1)], np.float64)
    elif np.ndim(service_s) == 0:
        times = np.full(largest, service_s, np.float64)
    else:
        times = np.array(service_s, np.float64)
    if times.shape != (largest,):
        raise ConfigError(
            f"{where}: service_s has shape {times.shape} and must hold one time each for 1 to {largest} rows"
        )
    bad = np.flatnonzero(~(np.isfinite(times) & (times > 0)))
    if bad.size:
        raise ConfigError(
            f"{where}: service_s for {bad[0] + 1} rows is {times[bad[0]]} and must be positive and finite"
        )
    return times
