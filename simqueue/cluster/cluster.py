"""`Cluster`: several replicas and the router before them."""

from __future__ import annotations

from typing import Self

import msgspec

from simqueue.checks import within
from simqueue.cluster.autoscaling import Autoscaling
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.failures import Failures
from simqueue.cluster.fleet import Router
from simqueue.cluster.least_kv_use import LeastKvUse
from simqueue.cluster.least_requests import LeastRequests
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.prefix_affinity import PrefixAffinity
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.session_affinity import SessionAffinity
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.errors import ConfigError
from simqueue.system import System

ROUTERS = (
    RoundRobin,
    RandomSplit,
    LeastRequests,
    LeastTokens,
    LeastKvUse,
    ShortestQueue,
    PowerOfChoices,
    SessionAffinity,
    PrefixAffinity,
)


MOST_REPLICAS = 10_000
"""Each takes a fifth of a millisecond and 10 KiB to begin with, and a row in every report."""


class Cluster(msgspec.Struct, frozen=True):
    """Replicas, equal or not, and how requests are dealt to them: hand it to `simulate_cluster` with a workload.

    Attributes:
        systems: one a replica, by its number from 0.
        router: who gets the next request.
        failures: when replicas fail, and what becomes of their requests; None: never.
        autoscaling: how many of them there are, and when; None: always all.
    """

    systems: tuple[System, ...]
    router: Router = RoundRobin()
    failures: Failures | None = None
    autoscaling: Autoscaling | None = None

    def __post_init__(self) -> None:
        if not self.systems:
            raise ConfigError("cluster: there is no system: give at least one replica")
        if self.failures and self.autoscaling:
            raise ConfigError("cluster: failures and autoscaling are both given: leave one of them out")
        if self.autoscaling:
            within("cluster", "autoscaling.min_replicas", self.autoscaling.min_replicas, 1, len(self.systems))
        for outage in self.failures.outages if self.failures else ():
            within("cluster", "failures.outages: replica", outage.replica, 0, len(self.systems) - 1)

    @property
    def distinct(self) -> tuple[System, ...]:
        """Each system once, by identity."""
        return tuple({id(system): system for system in self.systems}.values())

    @property
    def blind(self) -> bool:
        """Whether the arrivals of each replica are known beforehand."""
        return self.router.blind and self.failures is None and self.autoscaling is None

    @classmethod
    def of(
        cls,
        replicas: int,
        system: System,
        router: Router,
        failures: Failures | None = None,
        autoscaling: Autoscaling | None = None,
    ) -> Self:
        """So many equal replicas. Raises ConfigError if there is none, or if there are more than 10,000."""
        within("cluster", "replicas", replicas, 1, MOST_REPLICAS)
        return cls((system,) * replicas, router, failures, autoscaling)
