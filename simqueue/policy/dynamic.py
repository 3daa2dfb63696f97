"""Dynamic batching: a free server takes what waits, or waits a little for more."""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec

from simqueue.checks import at_least, one_of, seconds
from simqueue.errors import ConfigError
from simqueue.plan import Release, Step, Wait
from simqueue.policy.base import View
from simqueue.units import INT64_MAX, Grid

_IDLE = Wait()
_WHERE = "policy dynamic"


class Dynamic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="dynamic"):
    """A free server with n waiting requests starts min(n, max_batch) of them, to completion, as soon as n >= min_batch
    or the oldest has waited ``max_wait_s`` since its arrival (the timer runs while the server is busy too).

    ``max_wait_s = 0`` starts whatever is there. ``max_wait_s = inf`` with ``min_batch = a`` is the general bulk service
    rule (a, b) of Neuts (1967); what is left when no more requests can come is then started.
    ``min_batch`` is ``max_batch`` unless given; without ``max_batch`` there is no limit.
    """

    max_batch: int | None = None
    max_wait_s: float = 0.0
    min_batch: int | None = None
    release: Release = "batch"
    iteration_level: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.max_batch is not None:
            at_least(_WHERE, "max_batch", self.max_batch, 1)
        if self.min_batch is not None:
            at_least(_WHERE, "min_batch", self.min_batch, 1)
        if self.max_batch is not None and self.min_batch is not None and self.min_batch > self.max_batch:
            raise ConfigError(
                f"{_WHERE}: min_batch = {self.min_batch} is more than max_batch = {self.max_batch}, so no batch "
                "would ever be full enough: lower min_batch"
            )
        seconds(_WHERE, "max_wait_s", self.max_wait_s, infinite=True)
        if math.isinf(self.max_wait_s) and self.min_batch is None and self.max_batch is None:
            raise ConfigError(f"{_WHERE}: max_wait_s = inf never starts a batch: give min_batch or max_batch")
        one_of(_WHERE, "release", self.release, ("batch", "request"))

    def decider(self, grid: Grid) -> DynamicDecider:
        """The rule with its wait in ticks."""
        return DynamicDecider(self, grid)


class DynamicDecider:
    """The rule of `Dynamic` on one engine."""

    def __init__(self, policy: Dynamic, grid: Grid) -> None:
        self.max_batch = policy.max_batch or INT64_MAX
        self.min_batch = policy.min_batch or self.max_batch
        self.max_wait = None if math.isinf(policy.max_wait_s) else grid.ticks(policy.max_wait_s)

    def decide(self, view: View) -> Step | Wait:
        """Start what waits, or wait for more."""
        waiting = view.waiting
        if not waiting:
            return _IDLE
        if waiting < self.min_batch and self.max_wait != 0:
            if self.max_wait is None:
                if not view.closed:
                    return _IDLE
            elif view.now < (due := view.oldest() + self.max_wait):
                return Wait(due)
        return Step(admit=min(waiting, self.max_batch), lasts="batch")
