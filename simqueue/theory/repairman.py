"""M/M/1//N, the machine repairman: so many users who think, ask, and wait for their answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, gammaln, xlogy

from simqueue.checks import at_least, positive, seconds
from simqueue.theory.quantile import invert

_WHERE = "MachineRepairman"


@dataclass(frozen=True)
class MachineRepairman:
    """A closed loop of ``users`` and one exponential server with mean ``service_s``, first come first served.

    Each user thinks ``think_s`` in the mean, asks, waits for the answer, and thinks again. Only the mean of the think
    time matters, not its distribution (Baskett, Chandy, Muntz and Palacios 1975, "Open, closed, and mixed networks of
    queues with different classes of customers", Journal of the ACM 22).

    Source: Kleinrock (1975), Queueing Systems, volume 1, section 3.8.
    """

    users: int
    think_s: float
    service_s: float

    def __post_init__(self) -> None:
        at_least(_WHERE, "users", self.users, 1)
        seconds(_WHERE, "think_s", self.think_s)
        positive(_WHERE, "service_s", self.service_s)

    @cached_property
    def system_size(self) -> NDArray[np.float64]:
        """P(n requests in the system), n = 0 to ``users``: the number that think is Poisson with mean
        ``think_s / service_s``, given that it is at most ``users``."""
        thinking = np.arange(self.users, -1, -1)
        logs = xlogy(thinking, self.think_s / self.service_s) - gammaln(thinking + 1)
        weights = np.exp(logs - logs.max())
        return np.asarray(weights / weights.sum(), np.float64)

    @property
    def utilisation(self) -> float:
        """Busy share of the time."""
        return float(self.system_size[1:].sum())

    @property
    def throughput_rps(self) -> float:
        """Requests per second."""
        return self.utilisation / self.service_s

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service (Little's law)."""
        waiting = np.maximum(np.arange(self.users + 1) - 1, 0)
        return float(self.system_size @ waiting) / self.throughput_rps

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service."""
        return self.mean_queueing_s + self.service_s

    @cached_property
    def found(self) -> NDArray[np.float64]:
        """P(an arrival finds n requests), n = 0 to ``users - 1``: as if it were not one of the users.

        Source: Sevcik and Mitrani (1981), "The distribution of queuing network states at input and output instants",
        Journal of the ACM 28.
        """
        return replace(self, users=self.users - 1).system_size if self.users > 1 else np.ones(1)

    def queueing_ccdf(self, t_s: float) -> float:
        """P(queueing time > t): whoever finds n waits for n exponential services."""
        if t_s < 0:
            return 1.0
        return float(self.found[1:] @ gammaincc(np.arange(1, self.users), t_s / self.service_s))

    def response_ccdf(self, t_s: float) -> float:
        """P(response time > t)."""
        return float(self.found @ gammaincc(np.arange(1, self.users + 1), max(t_s, 0.0) / self.service_s))

    def queueing_quantile_s(self, q: float) -> float:
        """The least t with P(queueing time <= t) >= q."""
        return invert(_WHERE, self.queueing_ccdf, q, self.service_s)

    def response_quantile_s(self, q: float) -> float:
        """The least t with P(response time <= t) >= q."""
        return invert(_WHERE, self.response_ccdf, q, self.service_s)
