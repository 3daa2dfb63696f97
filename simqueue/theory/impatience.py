"""M/M/c+M, Erlang A: requests that give up when their service has not begun in time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import at_least, positive
from simqueue.errors import ConfigError
from simqueue.theory.chain import TAIL, birth_death

_WHERE = "ErlangA"
_FIRST_TRY = 64
_MOST_WAITING = 2**22  # a vector of so many states takes 32 MB


@dataclass(frozen=True)
class ErlangA:
    """M/M/c+M, first come first served: who has waited for an exponential time of mean ``patience_s`` leaves.

    Poisson arrivals at ``rate`` per second, ``servers`` alike, exponential service with mean ``service_s``; nobody
    leaves whose service has begun. Any load has a steady state.

    Source: Palm (1946, in English 1957), "Research on telephone traffic carried by full availability groups", Tele;
    Garnett, Mandelbaum and Reiman (2002), "Designing a call center with impatient customers", Manufacturing & Service
    Operations Management 4. The number present is a birth-death chain.

    The chain is cut off at a state N = c + m. With r < 1 the rate of arrivals over that of leaving state N + 1, each
    state beyond N is at most r times as likely as the one before, so that the mean number waiting there is at most p[N]
    (m r / (1 - r) + r / (1 - r)^2); m is doubled until this is below 1e-13 of the mean number waiting. Hence that, the
    abandonment probability and the mean time are those of the whole chain to a relative 1e-13, rounding aside (derived
    here).
    """

    rate: float
    service_s: float
    servers: int
    patience_s: float

    def __post_init__(self) -> None:
        positive(_WHERE, "rate", self.rate)
        positive(_WHERE, "service_s", self.service_s)
        at_least(_WHERE, "servers", self.servers, 1)
        positive(_WHERE, "patience_s", self.patience_s)

    @cached_property
    def system_size(self) -> NDArray[np.float64]:
        """P(n requests in the system), n = 0, 1, ..., N: waiting or in service."""
        waiting = _FIRST_TRY
        while waiting <= _MOST_WAITING:
            size = self._cut_off(waiting)
            if size is not None:
                return size
            waiting *= 2
        raise ConfigError(
            f"{_WHERE}: patience_s = {self.patience_s} lets more than {_MOST_WAITING} requests wait: "
            "lower it or the rate"
        )

    def _leaving(self, last: int) -> NDArray[np.float64]:
        """Requests served or lost per second with n = 1, ..., ``last`` in the system."""
        present = np.arange(1, last + 1)
        served = np.minimum(present, self.servers)
        return np.asarray(served / self.service_s + (present - served) / self.patience_s, np.float64)

    def _cut_off(self, waiting: int) -> NDArray[np.float64] | None:
        """The chain with at most so many waiting, unless that leaves out too much."""
        ratio = self.rate / (self.servers / self.service_s + (waiting + 1) / self.patience_s)
        if ratio >= 1:
            return None
        last = self.servers + waiting
        size = birth_death(np.full(last, self.rate), self._leaving(last))
        left_out = float(size[-1]) * ratio / (1 - ratio) * (waiting + 1 / (1 - ratio))
        return size if left_out <= TAIL * float(size[self.servers :] @ np.arange(waiting + 1)) else None

    @property
    def mean_waiting(self) -> float:
        """Mean number of requests waiting, over time."""
        return float(self.system_size[self.servers :] @ np.arange(len(self.system_size) - self.servers))

    @property
    def abandonment_probability(self) -> float:
        """The share of arrivals that leaves unserved: each who waits does at rate 1 / ``patience_s``."""
        return self.mean_waiting / (self.patience_s * self.rate)

    @property
    def throughput_rps(self) -> float:
        """Requests served per second."""
        busy = np.minimum(np.arange(len(self.system_size)), self.servers)
        return float(self.system_size @ busy) / self.service_s

    @property
    def utilisation(self) -> float:
        """Busy share of each server's time."""
        return self.throughput_rps * self.service_s / self.servers

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival until service begins or the request gives up, over all requests (Little's law)."""
        return self.mean_waiting / self.rate

    @property
    def mean_queueing_served_s(self) -> float:
        """Mean time from arrival to the start of service of those who are served.

        Who finds m waiting and all servers busy would wait for V, the sum of independent exponential times of rates
        c / service_s + k / patience_s, k = 0, ..., m. Being served means V is within the patience; with
        the transform of V at s = 1 / patience_s, E[V exp(-s V)] is the product telescoped to
        (c / service_s) / (c / service_s + (m + 1) s), times the sum of 1 / (c / service_s + k s), k = 1, ..., m + 1
        (derived here).
        """
        full = self.servers / self.service_s
        after = self._leaving(len(self.system_size))[self.servers :]
        waited = full / after * np.cumsum(1 / after)
        return self.rate * float(self.system_size[self.servers :] @ waited) / self.throughput_rps
