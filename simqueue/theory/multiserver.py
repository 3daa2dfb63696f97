"""M/M/c: several servers, one queue, first come first served, with Erlang's formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from scipy.special import exprel

from simqueue.checks import at_least, positive
from simqueue.theory.load import stable
from simqueue.theory.quantile import invert, probability


def erlang_b(servers: int, offered: float) -> float:
    """Erlang's loss formula B(c, a): the share of requests that M/G/c/c, with no room to wait, turns away.

    ``offered`` is the offered load a in erlangs: arrivals per second times the mean service in seconds.

    Source: Erlang (1917), "Solution of some problems in the theory of probabilities of significance in automatic
    telephone exchanges"; the recursion B(n, a) = a B(n - 1, a) / (n + a B(n - 1, a)), which only adds positive terms,
    Cooper (1981), Introduction to Queueing Theory, chapter 3.

    Raises:
        ConfigError: ``servers`` is below 1, or ``offered`` is not positive.
    """
    _check("erlang_b", servers, offered)
    blocking = 1.0
    for n in range(1, servers + 1):
        blocking = offered * blocking / (n + offered * blocking)
    return blocking


def erlang_c(servers: int, offered: float) -> float:
    """Erlang's delay formula C(c, a): the share of requests that wait in M/M/c.

    ``offered`` is the offered load a in erlangs, as in :func:`erlang_b`.

    Source: Erlang (1917); C = c B / (c - a (1 - B)) with B = B(c, a), Cooper (1981), Introduction to Queueing Theory,
    chapter 3.

    Raises:
        ConfigError: ``servers`` is below 1, ``offered`` is not positive, or the load ``offered / servers`` is not
            below 1.
    """
    _check("erlang_c", servers, offered)
    stable("erlang_c", offered / servers)
    lost = erlang_b(servers, offered)
    return servers * lost / (servers - offered * (1 - lost))


def _check(where: str, servers: int, offered: float) -> None:
    at_least(where, "servers", servers, 1)
    positive(where, "offered", offered)


@dataclass(frozen=True)
class MMC:
    """M/M/c: Poisson arrivals at ``rate`` per second, ``servers`` alike, exponential service with mean ``service_s``.

    Source: Kleinrock (1975), Queueing Systems, volume 1, section 3.5; a request that waits does so for an exponential
    time, Cooper (1981), Introduction to Queueing Theory, chapter 3.
    """

    rate: float
    service_s: float
    servers: int

    def __post_init__(self) -> None:
        positive("MMC", "rate", self.rate)
        positive("MMC", "service_s", self.service_s)
        at_least("MMC", "servers", self.servers, 1)
        stable("MMC", self.utilisation)

    @property
    def utilisation(self) -> float:
        """Busy share of each server's time, ``rate * service_s / servers``."""
        return self.rate * self.service_s / self.servers

    @cached_property
    def waiting_probability(self) -> float:
        """P(queueing time > 0), Erlang's C."""
        return erlang_c(self.servers, self.rate * self.service_s)

    @property
    def decay_per_s(self) -> float:
        """Rate at which the tail of the queueing time falls."""
        return self.servers * (1 - self.utilisation) / self.service_s

    @property
    def mean_queueing_s(self) -> float:
        """Mean time from arrival to the start of service."""
        return self.waiting_probability / self.decay_per_s

    @property
    def mean_response_s(self) -> float:
        """Mean time from arrival to the end of service."""
        return self.mean_queueing_s + self.service_s

    def queueing_ccdf(self, t_s: float) -> float:
        """P(queueing time > t)."""
        return self.waiting_probability * math.exp(-self.decay_per_s * t_s) if t_s >= 0 else 1.0

    def response_ccdf(self, t_s: float) -> float:
        """P(response time > t): the service alone is longer, or a wait fills what it leaves of t."""
        time, served, decay = max(t_s, 0.0), 1 / self.service_s, self.decay_per_s
        # The integral of served exp(-served s - decay (t - s)) over s: exprel has no 0 / 0 where the rates are equal.
        both = served * time * math.exp(-min(served, decay) * time) * float(exprel(-abs(served - decay) * time))
        return math.exp(-served * time) + self.waiting_probability * both

    def queueing_quantile_s(self, q: float) -> float:
        """The least t with P(queueing time <= t) >= q."""
        probability("MMC", q)
        if self.waiting_probability <= 1 - q:
            return 0.0
        return math.log(self.waiting_probability / (1 - q)) / self.decay_per_s

    def response_quantile_s(self, q: float) -> float:
        """The least t with P(response time <= t) >= q."""
        return invert("MMC", self.response_ccdf, q, self.service_s)
