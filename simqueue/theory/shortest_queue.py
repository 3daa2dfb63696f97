"""Join the shortest queue: two servers, each with a queue of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import positive
from simqueue.theory.load import stable
from simqueue.theory.qbd import rate_matrix

_WHERE = "JoinShortestQueue"
_GAP = 32  # the probability of a difference d falls like (rho^2 / (2 + rho))^d, at least threefold with each d

_Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class JoinShortestQueue:
    """Two servers; an arrival joins the one with fewer requests, waiting or in service (a coin decides between equals).

    Poisson arrivals at ``rate`` per second for both together, exponential service with mean ``service_s``, first come
    first served at each server; nobody changes queues.

    Source: Haight (1958), "Two queues in parallel", Biometrika 45; Kingman (1961), "Two similar queues in parallel",
    Annals of Mathematical Statistics 32. No closed form is known that is easy to calculate. Here the difference of the
    queues is limited to 32, which leaves a chain with a matrix-geometric solution, in two ways that bound the mean
    number in the system: from below if a departure that would make it 33 takes its request from the longer queue
    instead, from above if that departure does not happen and the service begins anew. Source of both bounds: Adan, van
    Houtum and van der Wal (1994), "Upper and lower bounds for the waiting time in the symmetric shortest queue system",
    Annals of Operations Research 48. Rounding adds a relative error of about 1e-16 / (1 - load)^2.
    """

    rate: float
    service_s: float

    def __post_init__(self) -> None:
        positive(_WHERE, "rate", self.rate)
        positive(_WHERE, "service_s", self.service_s)
        stable(_WHERE, self.utilisation)

    @property
    def utilisation(self) -> float:
        """Busy share of each server's time, ``rate * service_s / 2``."""
        return self.rate * self.service_s / 2

    @cached_property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service, too low by ``error_s`` at most."""
        return self._mean_in_system(blocking=False) / self.rate

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service, too low by ``error_s`` at most."""
        return self.mean_response_s - self.service_s

    @cached_property
    def error_s(self) -> float:
        """Bound on the error of the mean times for the limited difference, without rounding."""
        return max(0.0, self._mean_in_system(blocking=True) / self.rate - self.mean_response_s)

    def _mean_in_system(self, blocking: bool) -> float:
        """Mean number present: twice the shorter queue m and the difference d, sum of pi[0] R^m (2 m + d)."""
        up, within, down = self._flows(blocking)
        ratio = rate_matrix(up, _leave(within, up, down), down)
        empty = _leave(self._within(), up)  # at the lowest level the shorter queue has nobody to depart
        solved = np.linalg.inv(np.eye(len(up)) - ratio)
        balance = (empty + ratio @ down).T
        # One balance equation is redundant, and that of equal queues is not one of the tail.
        balance[0] = solved.sum(axis=1)
        lowest = np.linalg.solve(balance, np.eye(len(up))[0])
        return float(lowest @ solved @ (2 * (ratio @ solved).sum(axis=1) + np.arange(len(up))))

    def _flows(self, blocking: bool) -> tuple[_Matrix, _Matrix, _Matrix]:
        """Rates from d to d' as the shorter queue grows by one, stays, and shrinks by one."""
        service = 1 / self.service_s
        up = np.diag(np.full(_GAP, self.rate), -1)
        within = self._within()
        if not blocking:
            within[_GAP, _GAP - 1] += service
        down = np.diag(np.full(_GAP, service), 1)
        down[0, 1] = 2 * service
        return up, within, down

    def _within(self) -> _Matrix:
        """Equal queues differ by an arrival; otherwise the longer one loses a request."""
        within = np.diag(np.full(_GAP, 1 / self.service_s), -1)
        within[0, 1] = self.rate
        return within


def _leave(within: _Matrix, *others: _Matrix) -> _Matrix:
    """``within`` with the rate of leaving each state on its diagonal."""
    leaving = within.sum(axis=1) + sum(other.sum(axis=1) for other in others)
    return np.asarray(within - np.diag(leaving), np.float64)
