"""Orca: iteration-level scheduling with all memory reserved beforehand."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least
from simqueue.kv import Reserve
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.units import Grid

_IDLE = Wait()
_DECODE = Step()


class Orca(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="orca"):
    """Orca (Yu et al., OSDI 2022, Algorithm 1, one worker): at most ``max_bs`` requests in each iteration, first come
    first served, each with its whole prompt in its first one, and admitted only if memory for its prompt and its
    maximum output is free, which it holds to its end. Slots of the paper are tokens of `simqueue.Memory` (block_size
    = 1).

    Left out: pipeline stages (``n_workers``), selective batching (which is the cost model's to tell).
    """

    max_bs: int
    paged: ClassVar[bool] = True
    reserve: ClassVar[Reserve] = "max_output"
    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("policy orca", "max_bs", self.max_bs, 1)

    def decider(self, grid: Grid) -> OrcaDecider:
        """The rule."""
        return OrcaDecider(self)


class OrcaDecider:
    """The rule at work: nothing is remembered between iterations."""

    def __init__(self, policy: Orca) -> None:
        self.max_bs = policy.max_bs

    def decide(self, view: PagedView) -> Step | Wait:
        """Whoever runs, and from the queue as many as fit."""
        running = view.running
        starts, seats = 0, self.max_bs - running
        if seats and view.waiting:
            free = view.free_blocks
            for _, _, need in view.demands():
                if starts == seats or need > free:
                    break
                free -= need
                starts += 1
        if not starts:
            return _DECODE if running else _IDLE
        return Step(starts)
