"""Sarathi-Serve: decoding strictly first, prompts in chunks behind it."""

from __future__ import annotations

from itertools import chain
from typing import ClassVar

import msgspec

from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.kv import Reserve
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.units import Grid

_IDLE = Wait()
_DECODE = Step()
_WHERE = "policy sarathi"


class Sarathi(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sarathi"):
    """Sarathi-Serve (Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI
    2024) as in microsoft/sarathi-serve, ``sarathi_scheduler.py``: in each step everybody who decodes does, then
    prompts are computed with what decoding leaves of ``chunk_size`` tokens, first those begun, by arrival, then
    waiting ones, first come first served, while there are seats (``max_num_seqs``) and blocks for the whole prompt
    above ``watermark``.

    A request decodes only if a block is free, whether it takes one or not; if none is, whoever came last of those not
    yet looked at is preempted, to be computed again, and goes to the head of the queue. Left out: the dynamic
    chunking schedule, pipeline stages; and a slip of the source, in which a preempted request forgets how much it has
    emitted.
    """

    max_num_seqs: int = 128
    chunk_size: int = 512
    watermark: float = 0.01
    paged: ClassVar[bool] = True
    reserve: ClassVar[Reserve] = "prompt"
    headroom: ClassVar[int] = 1
    ordered: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_num_seqs", self.max_num_seqs, 1)
        if not 0 <= self.watermark < 1:
            raise ConfigError(f"{_WHERE}: watermark = {self.watermark} must be within 0 and 1")
        if self.chunk_size < self.max_num_seqs:
            raise ConfigError(
                f"{_WHERE}: chunk_size = {self.chunk_size} is less than max_num_seqs = {self.max_num_seqs}, all of "
                "which decode in a step: raise the first or lower the second"
            )

    def fits(self, view: PagedView, request: int, most: int) -> bool:
        """Whether it can ever decode its last token."""
        return most + max(1, int(self.watermark * view.total_blocks)) <= view.total_blocks

    def decider(self, grid: Grid) -> SarathiDecider:
        """The rule."""
        return SarathiDecider(self)


class SarathiDecider:
    """The rule at work: nothing is remembered between steps."""

    def __init__(self, policy: Sarathi) -> None:
        self.seats, self.chunk, self.watermark = policy.max_num_seqs, policy.chunk_size, policy.watermark

    def decide(self, view: PagedView) -> Step | Wait:
        """Decoding, then chunks of prompts."""
        running = view.running
        if not running and not view.waiting:
            return _IDLE
        if view.growth < view.free_blocks:
            preempted: list[int] = []
            free = view.free_blocks - view.growth
        else:
            preempted, free = self._short(view)
        if not (view.waiting or view.prefilling or preempted):
            return _DECODE
        chunks, cut = self._chunks(view, preempted, free)
        if not chunks and not running and not preempted:
            return _IDLE
        if not (cut or preempted or view.prefilling):
            return Step(len(chunks))
        return Step(prefill=chunks, preempt=tuple(preempted), lasts="step" if cut or preempted else "change")

    def _short(self, view: PagedView) -> tuple[list[int], int]:
        """Who is preempted, and the blocks that are left when all others decode."""
        rows = sorted(view.seats, key=lambda i: (view.arrival(i), i))
        preempted: list[int] = []
        free = view.free_blocks
        while rows:
            request = rows.pop(0)
            if request in view.prefilling:
                continue
            while free < 1 and request not in preempted:
                victim = rows.pop() if rows else request
                preempted.append(victim)
                free += view.blocks(victim)
            if request not in preempted:
                free -= view.grows(request)
        return preempted, free

    def _chunks(self, view: PagedView, preempted: list[int], free: int) -> tuple[tuple[tuple[int, int], ...], bool]:
        """Prompts, those under way first; and whether more of them follow in the next step."""
        begun = sorted((i for i in view.prefilling if i not in preempted), key=lambda i: (view.arrival(i), i))
        running = view.running - len(preempted)
        left = self.chunk - running + len(begun)
        chunks: list[tuple[int, int]] = []
        for request in begun:
            if tokens := min(view.backlog(request), left):
                chunks.append((request, tokens))
                left -= tokens
        cut = any(view.backlog(i) > tokens for i, tokens in chunks) or len(chunks) < len(begun)
        kept = int(self.watermark * view.total_blocks)
        for request in chain(reversed(preempted), view.queue()):
            if request not in preempted:
                backlog, need = view.demand(request)
            else:
                # As in the source, whoever was preempted in this step has not been reset yet.
                backlog, need = view.prefilling.get(request, 0), view.whole(request)
            if need + kept > free or running >= self.seats:
                break
            tokens = min(backlog, left)
            if not tokens:
                return tuple(chunks), True
            chunks.append((request, tokens))
            cut = cut or tokens < backlog or request in preempted
            left -= tokens
            free -= need
            running += 1
        return tuple(chunks), cut
