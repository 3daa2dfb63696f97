"""FasterTransformer behind a request-level scheduler, as Orca's paper compares itself with."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least
from simqueue.plan import Release, Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()


class FasterTransformer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fastertransformer"
):
    """FasterTransformer with the scheduler of Yu et al. ("Orca", OSDI 2022, sections 3.1 and 6): when the engine is
    idle it takes at most ``max_batch_size`` requests from the queue and runs them until the last has finished; answers
    leave together, finished rows are held, and nobody joins.

    Left out: microbatches of a pipeline over several GPUs.
    """

    max_batch_size: int
    iteration_level: ClassVar[bool] = False
    release: ClassVar[Release] = "batch"

    def __post_init__(self) -> None:
        at_least("policy fastertransformer", "max_batch_size", self.max_batch_size, 1)

    def decider(self, grid: Grid) -> FasterTransformer:
        """The policy remembers nothing: it is its own decider."""
        return self

    def decide(self, view: View) -> Step | Wait:
        """Start what waits, as far as it fits."""
        waiting = view.waiting
        return Step(admit=min(waiting, self.max_batch_size), lasts="batch") if waiting else _IDLE
