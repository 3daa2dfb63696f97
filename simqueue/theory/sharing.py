"""M/G/1-PS: all who are there share the server equally."""

from __future__ import annotations

from dataclasses import dataclass

from simqueue.checks import positive, seconds
from simqueue.theory.load import stable

_WHERE = "ProcessorSharing"


@dataclass(frozen=True)
class ProcessorSharing:
    """M/G/1-PS: n requests in the system are each served at 1 / n of the server's speed.

    Poisson arrivals at ``rate`` per second, service times (alone on the server) of mean ``service_s``. Of their
    distribution only the mean matters.

    Source: Kleinrock (1976), Queueing Systems, volume 2, chapter 4; Sakata, Noguchi and Oizumi (1971), "An analysis
    of the M/G/1 queue under round-robin scheduling", Operations Research 19.
    """

    rate: float
    service_s: float

    def __post_init__(self) -> None:
        positive(_WHERE, "rate", self.rate)
        positive(_WHERE, "service_s", self.service_s)
        stable(_WHERE, self.utilisation)

    @property
    def utilisation(self) -> float:
        """Busy share of the time, ``rate * service_s``."""
        return self.rate * self.service_s

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service."""
        return self.response_by_service_s(self.service_s)

    def response_by_service_s(self, service_s: float) -> float:
        """Mean time from arrival to the end of service of a request that alone would take ``service_s``."""
        seconds(_WHERE, "service_s", service_s)
        return service_s / (1 - self.utilisation)
