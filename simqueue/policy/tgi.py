"""Text Generation Inference: prompts of newcomers apart from decoding, all memory reserved beforehand."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.kv import Reserve
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.units import Grid

_IDLE = Wait()
_WHERE = "policy tgi"


class Tgi(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tgi"):
    """Text Generation Inference 2, ``backends/v3/src/backend.rs`` and ``queue.rs`` without chunking: a step is either
    the prompts of those who join or the decoding of all. While a batch runs, others join it only if they are at least
    ``waiting_served_ratio`` times as many, or once ``max_waiting_tokens`` steps have passed since somebody joined,
    and there is a decoding step between. Joining are the first of the queue, while their prompts have at most
    ``max_batch_prefill_tokens`` together and memory for prompts and maximum outputs is free, which they hold to their
    end.

    The defaults are the launcher's. Left out: the block that its health check takes; TGI 3 on back ends that compute
    prompts in chunks, where the ratio has no meaning.
    """

    waiting_served_ratio: float = 0.3
    max_waiting_tokens: int = 20
    max_batch_prefill_tokens: int = 4096
    max_batch_size: int | None = None
    paged: ClassVar[bool] = True
    mixes: ClassVar[bool] = False
    reserve: ClassVar[Reserve] = "max_cached"
    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.waiting_served_ratio < float("inf"):
            raise ConfigError(f"{_WHERE}: waiting_served_ratio = {self.waiting_served_ratio} must be at least 0")
        at_least(_WHERE, "max_waiting_tokens", self.max_waiting_tokens, 0)
        at_least(_WHERE, "max_batch_prefill_tokens", self.max_batch_prefill_tokens, 1)
        if self.max_batch_size is not None:
            at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)

    def prefill_tokens(self, block_size: int) -> int:
        """The budget of a prefill, in whole blocks."""
        return -(-self.max_batch_prefill_tokens // block_size) * block_size

    def fits(self, view: PagedView, request: int, most: int) -> bool:
        """Whether it is accepted at all."""
        tokens = view.total_blocks * view.block_size
        return view.prompt_tokens(request) <= self.prefill_tokens(view.block_size) and (
            view.most_tokens(request) <= tokens
        )

    def decider(self, grid: Grid) -> TgiDecider:
        """The rule."""
        return TgiDecider(self)


class TgiDecider:
    """Remembers when somebody joined last, and whether all decode next whoever waits."""

    def __init__(self, policy: Tgi) -> None:
        self.policy = policy
        self.joined_at = 0
        self.decodes_next = False

    def decide(self, view: PagedView) -> Step | Wait:
        """Who joins, or decoding."""
        running = view.running
        if self.decodes_next and running:
            self.decodes_next = False
            return Step(lasts="step")
        steps = 1 + view.clock - self.joined_at
        left = self.policy.max_waiting_tokens - steps
        least = int(running * self.policy.waiting_served_ratio) if running and left > 0 else 0
        joining = self._joining(view) if view.waiting else 0
        if joining and joining >= least:
            self.joined_at = view.clock
            self.decodes_next = running > 0
            return Step(joining, decode=False, lasts="step")
        if not running:
            return _IDLE
        # Those who are too few now are not when they have waited long enough.
        return Step(at_most=left if joining else None)

    def _joining(self, view: PagedView) -> int:
        """How many of the first of the queue there is room for."""
        policy, size = self.policy, view.block_size
        seats = view.waiting if policy.max_batch_size is None else policy.max_batch_size - view.running
        prompts, blocks = policy.prefill_tokens(size), view.free_blocks
        tokens = blocks * size
        joining = 0
        for request, backlog, need in view.demands():
            prompts -= backlog
            tokens -= view.most_tokens(request)
            blocks -= need
            if min(prompts, tokens, blocks) < 0 or joining >= seats:
                break
            joining += 1
        return joining
