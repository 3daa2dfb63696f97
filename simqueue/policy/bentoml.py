"""BentoML's adaptive batching: it waits as long as waiting costs less than its requests have waited so far."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

import msgspec
import numpy as np

from simqueue.checks import at_least
from simqueue.plan import Release, Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy bentoml"
_POLL_S, _REFRESH_S, _REMEMBERED = 1e-3, 5.0, 50
_SHARE = 0.95


class BentoML(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bentoml"):
    """BentoML 1.4.39, one worker: free, it looks every millisecond; with n requests there, the newest of them of age x,
    it waits on while n < ``max_batch_size`` and n (x + 1 ms + a) <= 0.95 W, else it starts what is there.

    a is the slope of the least-squares line of batches' durations by their sizes, W the mean time that the first
    requests of batches have waited, both over the last 50 batches and refreshed at most every 5 s; at first both are 0.
    W feeds on itself, and the wait grows with the load. Left out: ``max_latency_ms``, beyond which requests are
    dropped (60 s by default), and several workers. The rule as found in BentoML's dispatcher and in recorded runs
    (docs/real_batchers.md).
    """

    max_batch_size: int = 100
    iteration_level: ClassVar[bool] = False
    release: ClassVar[Release] = "batch"

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)

    def decider(self, grid: Grid) -> BentoMLDecider:
        """The rule with its clock in ticks."""
        return BentoMLDecider(self.max_batch_size, grid)


class BentoMLDecider:
    """The dispatcher.

    Attributes:
        look: when it looks next; until then whoever arrives is not seen.
        started: when the batch that runs was started, and of how many; None while nothing runs.
        past: of the last batches, size, duration, and how long its first request had waited.
        slope, waited: a and W, in ticks.
        refreshed: when these were computed.
    """

    def __init__(self, max_batch: int, grid: Grid) -> None:
        self.max_batch = max_batch
        self.poll, self.refresh = grid.ticks(_POLL_S), grid.ticks(_REFRESH_S)
        self.look = 0
        self.started: tuple[int, int, int] | None = None
        self.past: deque[tuple[int, int, int]] = deque(maxlen=_REMEMBERED)
        self.slope = self.waited = 0.0
        self.refreshed = 0

    def decide(self, view: View) -> Step | Wait:
        """Start what is there, or look again."""
        now, waiting = view.now, view.waiting
        if self.started is not None:
            self._remember(now)
        if not waiting:
            return _IDLE
        if now < self.look:
            return Wait(self.look)
        age = now - view.arrival(view.arrived - 1)
        if waiting < self.max_batch and waiting * (age + self.poll + self.slope) <= _SHARE * self.waited:
            self.look = now + self.poll
            return Wait(self.look)
        size = min(waiting, self.max_batch)
        self.started = (now, size, now - view.oldest())
        return Step(admit=size, lasts="batch")

    def _remember(self, now: int) -> None:
        """The batch is over, and the replica free; what lies between the two is a part of a batch's duration."""
        assert self.started is not None
        begin, size, waited = self.started
        self.started = None
        self.past.append((size, now - begin, waited))
        if now - self.refreshed >= self.refresh:
            self.refreshed = now
            sizes, durations, waits = np.array(self.past, np.float64).T
            self.waited = float(waits.mean())
            spread = float(np.var(sizes))
            self.slope = float(np.mean((sizes - sizes.mean()) * durations)) / spread if spread else 0.0
