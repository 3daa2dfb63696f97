"""LitServe's dynamic batching: windows that follow each other, whoever is there."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least, seconds
from simqueue.plan import Release, Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy litserve"


class LitServe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="litserve"):
    """LitServe 0.2.19, one worker: free, its loop opens a window of ``batch_timeout`` seconds and starts what is there
    at ``max_batch_size`` requests, or at the window's end; a window that ends empty is followed by the next at once.

    So whoever finds the worker idle waits for what is left of a window, and after a batch a whole window passes unless
    a full batch is there. ``batch_timeout = 0`` takes whatever waits. Left out: several workers, streaming. The rule as
    found in LitServe's worker loops and in recorded runs (docs/real_batchers.md).
    """

    max_batch_size: int = 1
    batch_timeout: float = 0.0
    iteration_level: ClassVar[bool] = False
    release: ClassVar[Release] = "batch"

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)
        seconds(_WHERE, "batch_timeout", self.batch_timeout)

    def decider(self, grid: Grid) -> LitServeDecider:
        """The rule with its window in ticks."""
        return LitServeDecider(self.max_batch_size, grid.ticks(self.batch_timeout))


class LitServeDecider:
    """One worker; ``opened``: when the first window since the last batch opened, None while a batch runs."""

    def __init__(self, max_batch: int, window: int) -> None:
        self.max_batch, self.window = max_batch, window
        self.opened: int | None = 0

    def decide(self, view: View) -> Step | Wait:
        """Start what is there, or wait for the end of the window that the oldest came in."""
        waiting, now = view.waiting, view.now
        if self.opened is None:
            self.opened = now
        if not waiting:
            return _IDLE
        if waiting < self.max_batch and self.window:
            came = max(0, view.oldest() - self.opened)
            end = self.opened + (came // self.window + 1) * self.window
            if now < end:
                return Wait(end)
        self.opened = None
        return Step(admit=min(waiting, self.max_batch), lasts="batch")
