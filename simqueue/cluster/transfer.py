"""What moving a request's key/value cache from one replica to another costs."""

from __future__ import annotations

import msgspec
import numpy as np

from simqueue.checks import positive, seconds
from simqueue.errors import ConfigError
from simqueue.record import Column
from simqueue.replica import token_bytes
from simqueue.system import System
from simqueue.units import Grid

_GIB = 2**30


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The link that leads out of each replica: caches go over it one after the other, in the order in which they are
    ready.

    Attributes:
        gib_per_s: its bandwidth.
        latency_s: from a cache's last byte on the link to its being usable; the link is free then.
        kv_bytes_per_token: of keys and values in all layers; None: those of the profile's model.
    """

    gib_per_s: float
    latency_s: float = 0.0
    kv_bytes_per_token: float | None = None

    def __post_init__(self) -> None:
        positive("transfer", "gib_per_s", self.gib_per_s)
        seconds("transfer", "latency_s", self.latency_s)
        if self.kv_bytes_per_token is not None:
            positive("transfer", "kv_bytes_per_token", self.kv_bytes_per_token)

    def token_s(self, system: System) -> float:
        """Seconds on the link for each token in the cache. Raises ConfigError if nobody says how large one is."""
        if self.kv_bytes_per_token is not None:
            return self.kv_bytes_per_token / (self.gib_per_s * _GIB)
        try:
            return token_bytes(system) / (self.gib_per_s * _GIB)
        except ConfigError:
            raise ConfigError(
                "transfer: how many bytes a token's keys and values have follows from a profile's model, and the cost "
                "is none that says so: give kv_bytes_per_token"
            ) from None

    def arrivals(self, ready: Column, tokens: Column, link: Column, system: System, grid: Grid) -> Column:
        """When each cache is there, in ticks of ``grid``.

        ``ready``: when it may go; ``tokens``: how many it has; ``link``: over which link. All int64 ``(requests,)``.
        A queue with one server for each link, by Lindley's recursion (1952). Raises ConfigError where 64-bit time ends
        before.
        """
        token_s = self.token_s(system)
        last_s = grid.seconds(ready.max(initial=0)) + float(tokens.sum()) * token_s + self.latency_s
        if last_s >= grid.horizon_s:
            raise ConfigError(
                f"transfer: caches may be on their way until {last_s:.3g} s, beyond the {grid.horizon_s:.3g} s that "
                "64-bit time holds: give a higher gib_per_s, or a lower latency_s"
            )
        lasts = np.rint(tokens * (token_s * grid.ticks_per_s)).astype(np.int64)
        there = np.empty_like(ready)
        for one in np.unique(link):
            mine = np.flatnonzero(link == one)
            mine = mine[np.argsort(ready[mine], kind="stable")]
            there[mine] = served_in_turn(ready[mine], lasts[mine])
        return there + grid.ticks(self.latency_s)


def served_in_turn(ready: Column, lasts: Column) -> Column:
    """When one server is done with each of these, first come first served; ``ready`` ascends."""
    done = np.cumsum(lasts)
    return np.asarray(done + np.maximum.accumulate(ready - (done - lasts)))
