"""vLLM's scheduler, version 1: one token budget for all, running requests first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.units import Grid

_IDLE = Wait()
_DECODE = Step()
_WHERE = "policy vllm"


class Vllm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="vllm"):
    """vLLM 0.11, ``vllm/v1/core/sched/scheduler.py``: in each step running requests are scheduled first, in order of
    admission, each with what it has left to compute; then, if nobody was preempted, waiting ones while there are
    tokens (``max_num_batched_tokens``), seats (``max_num_seqs``) and blocks.

    A prompt that exceeds the budget is computed in chunks (unless ``enable_chunked_prefill = false``: then it waits), none
    longer than ``long_prefill_token_threshold``, if that is not 0. Blocks are taken as tokens are computed. Where there
    are none, the last of the running is preempted (``policy = "priority"``: the least urgent, of those the last that
    arrived), to be computed again, and goes to the head of the queue. Left out: speculative decoding, encoders, LoRA
    limits, asynchronous scheduling, pipeline stages, transfers of the cache.
    """

    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 128
    policy: Literal["fcfs", "priority"] = "fcfs"
    long_prefill_token_threshold: int = 0
    enable_chunked_prefill: bool = True
    paged: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_num_seqs", self.max_num_seqs, 1)
        at_least(_WHERE, "long_prefill_token_threshold", self.long_prefill_token_threshold, 0)
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                f"{_WHERE}: max_num_batched_tokens = {self.max_num_batched_tokens} is less than max_num_seqs = "
                f"{self.max_num_seqs}: raise the first or lower the second"
            )

    def decider(self, grid: Grid) -> VllmDecider:
        """The rule."""
        return VllmDecider(self)


class VllmDecider:
    """The rule at work: nothing is remembered between steps."""

    def __init__(self, policy: Vllm) -> None:
        self.budget, self.seats = policy.max_num_batched_tokens, policy.max_num_seqs
        self.threshold = policy.long_prefill_token_threshold or policy.max_num_batched_tokens
        self.chunks, self.by_priority = policy.enable_chunked_prefill, policy.policy == "priority"

    def decide(self, view: PagedView) -> Step | Wait:
        """Running requests, then waiting ones."""
        running, waiting = view.running, view.waiting
        if view.prefilling or view.growth > view.free_blocks:
            return self._one_by_one(view)
        if not waiting:
            return _DECODE if running else _IDLE
        prefill, cut = self._admitted(view, self.budget - running, self.seats - running, view.free_blocks - view.growth)
        return Step(prefill=prefill, lasts="step" if cut else "change") if prefill or running else _IDLE

    def _one_by_one(self, view: PagedView) -> Step:
        """Somebody is partly prefilled, or there are not blocks for all: as the source has it, request by request."""
        rows, free, budget = list(view.seats), view.free_blocks, self.budget
        scheduled: dict[int, tuple[int, int]] = {}
        preempted: list[int] = []
        at = 0
        while at < len(rows) and budget:
            request = rows[at]
            tokens = min(view.backlog(request), self.threshold, budget)
            decodes = request not in view.prefilling
            need = int(view.grows(request)) if decodes else view.needs(request, tokens)
            while need > free and request not in preempted:
                victim = self._victim(view, rows)
                at -= rows.index(victim) < at
                rows.remove(victim)
                preempted.append(victim)
                given_back = scheduled.pop(victim, (0, 0))
                budget += given_back[0]
                free += given_back[1] + view.blocks(victim)
            if request in preempted:
                break
            scheduled[request] = tokens, need
            budget -= tokens
            free -= need
            at += 1
        prefill = tuple((i, tokens) for i, (tokens, _) in scheduled.items() if i in view.prefilling)
        cut = any(tokens < view.prefilling[i] for i, tokens in prefill)
        if not preempted:
            more, cut_too = self._admitted(view, budget, self.seats - len(rows), free)
            prefill, cut = prefill + more, cut or cut_too
        skip = tuple(i for i in rows if i not in scheduled and i not in view.prefilling)
        return Step(
            prefill=prefill, preempt=tuple(preempted), skip=skip, lasts="step" if cut or preempted else "change"
        )

    def _victim(self, view: PagedView, rows: list[int]) -> int:
        if not self.by_priority:
            return rows[-1]
        return max(rows, key=lambda i: (view.priority(i), view.arrival(i)))

    def _admitted(
        self, view: PagedView, budget: int, seats: int, free: int
    ) -> tuple[tuple[tuple[int, int], ...], bool]:
        """Who starts with how many tokens; and whether somebody would who does not for want of tokens."""
        chosen: list[tuple[int, int]] = []
        for request in self._queue(view):
            if not seats:
                return tuple(chosen), False
            backlog = view.backlog(request)
            tokens = min(backlog, self.threshold, budget)
            if not tokens or (tokens < backlog and not self.chunks):
                return tuple(chosen), True
            need = view.needs(request, tokens)
            if need > free:
                return tuple(chosen), False
            chosen.append((request, tokens))
            budget -= tokens
            free -= need
            seats -= 1
        return tuple(chosen), any(tokens < view.backlog(request) for request, tokens in chosen)

    def _queue(self, view: PagedView) -> Iterable[int]:
        if not self.by_priority:
            return view.queue()
        return sorted(view.queue(), key=lambda i: (view.priority(i), view.arrival(i), i))
