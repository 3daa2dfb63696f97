"""Clipper's adaptive batching: the largest batch is found by additive increase and multiplicative decrease."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least, positive, seconds
from simqueue.errors import ConfigError
from simqueue.plan import Release, Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy clipper"


class Clipper(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="clipper"):
    """Clipper (Crankshaw et al., NSDI 2017, section 4.3), one model container: a free container starts what waits, at
    most as many as the batch size of the moment, which begins at 1, grows by ``additive_increase`` after a full batch
    that took at most ``latency_objective_s``, and is multiplied by ``backoff`` after one that took longer.

    ``batch_wait_timeout_s`` is the paper's delayed batching: a batch that is not full waits until its oldest request
    has waited so long. The paper gives the backoff (10 %), not the increase. A batch that was not full tells nothing of
    the next size. Left out: quantile regression as the other way of finding the size, and the prediction cache.
    """

    latency_objective_s: float
    additive_increase: int = 1
    backoff: float = 0.9
    batch_wait_timeout_s: float = 0.0
    iteration_level: ClassVar[bool] = False
    release: ClassVar[Release] = "batch"

    def __post_init__(self) -> None:
        positive(_WHERE, "latency_objective_s", self.latency_objective_s)
        at_least(_WHERE, "additive_increase", self.additive_increase, 1)
        seconds(_WHERE, "batch_wait_timeout_s", self.batch_wait_timeout_s)
        if not 0 < self.backoff < 1:
            raise ConfigError(f"{_WHERE}: backoff = {self.backoff} must be between 0 and 1, both excluded")

    def decider(self, grid: Grid) -> ClipperDecider:
        """The rule with its times in ticks."""
        return ClipperDecider(self, grid)


class ClipperDecider:
    """One container; ``started``: when the batch that runs was, and whether it was full; None while none runs."""

    def __init__(self, policy: Clipper, grid: Grid) -> None:
        self.policy = policy
        self.objective, self.timeout = map(grid.ticks, (policy.latency_objective_s, policy.batch_wait_timeout_s))
        self.size = 1
        self.started: tuple[int, bool] | None = None

    def decide(self, view: View) -> Step | Wait:
        """Start what waits, or wait for more."""
        now, waiting = view.now, view.waiting
        if self.started is not None:
            self._adapt(now)
        if not waiting:
            return _IDLE
        if waiting < self.size and now < (due := view.oldest() + self.timeout):
            return Wait(due)
        self.started = (now, waiting >= self.size)
        return Step(admit=min(waiting, self.size), lasts="batch")

    def _adapt(self, now: int) -> None:
        """The batch is over, and the container free."""
        assert self.started is not None
        (begin, full), self.started = self.started, None
        if now - begin > self.objective:
            self.size = max(1, int(self.size * self.policy.backoff))
        elif full:
            self.size += self.policy.additive_increase
