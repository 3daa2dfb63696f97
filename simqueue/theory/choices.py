"""The power of d choices: many servers, each request joins the shortest of d queues drawn at random."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from simqueue.checks import at_least, positive
from simqueue.theory.load import stable

_WHERE = "PowerOfChoices"


@dataclass(frozen=True)
class PowerOfChoices:
    """The limit of infinitely many servers, each request in the shortest of ``choices`` queues drawn at random.

    Poisson arrivals at ``rate`` per second and server, exponential service with mean ``service_s``, first come first
    served at each server. One choice is M/M/1. With n servers the figures differ from the limit by about 1 / n.

    Source: Vvedenskaya, Dobrushin and Karpelevich (1996), "Queueing system with selection of the shortest of two
    queues: an asymptotic approach", Problems of Information Transmission 32; Mitzenmacher (1996), "The power of two
    choices in randomized load balancing", thesis, University of California, Berkeley.
    """

    rate: float
    service_s: float
    choices: int

    def __post_init__(self) -> None:
        positive(_WHERE, "rate", self.rate)
        positive(_WHERE, "service_s", self.service_s)
        at_least(_WHERE, "choices", self.choices, 1)
        stable(_WHERE, self.utilisation)

    @property
    def utilisation(self) -> float:
        """Busy share of each server's time, ``rate * service_s``."""
        return self.rate * self.service_s

    def _size_tail(self) -> Iterator[float]:
        """s[k], k = 1, 2, ..., until it is 0 to a double: the exponents 1 + d + ... + d^(k - 1) are (d^k-1) / (d-1)."""
        exponent = 1
        # 746 factors of 1 / e are 0; asked by division, as whole exponents may be too large for a double.
        while exponent < -746 / math.log(self.utilisation):
            yield self.utilisation**exponent
            exponent = self.choices * exponent + 1

    def size_ccdf(self, largest: int) -> list[float]:
        """s[k], the share of servers with k requests or more, waiting or in service, for k = 0, ..., ``largest``."""
        at_least(_WHERE, "largest", largest, 0)
        tail = [1.0, *(share for share, _ in zip(self._size_tail(), range(largest), strict=False))]
        return tail + [0.0] * (largest + 1 - len(tail))

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service: the sum of s[k], k >= 1, over ``rate`` (Little's law)."""
        if self.choices == 1:
            return self.service_s / (1 - self.utilisation)
        return math.fsum(self._size_tail()) / self.rate

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service."""
        return self.mean_response_s - self.service_s
