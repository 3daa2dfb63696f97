"""vLLM's scheduler, version 1: one token budget for all, running requests first."""

from __future__ import annotations

from collections.abc import Iterator
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
    """vLLM 0.33, ``vllm/v1/core/sched/scheduler.py``: in each step running requests are scheduled first, in order of
    admission, each with what it has left to compute; then, if nobody was preempted, waiting ones while there are
    tokens (``max_num_batched_tokens``), seats (``max_num_seqs``) and blocks: all of the prompt's (unless
    ``scheduler_reserve_full_isl = false``: then those of its first chunk), and ``watermark`` of all, if anybody runs.

    A prompt that exceeds the budget is computed in chunks, none longer than ``long_prefill_token_threshold``, if that
    is not 0 and anybody else is there. Blocks are taken as tokens are computed. Where there are none, the last of the
    running is preempted (``policy = "priority"``: the least urgent, of those the last that arrived), to be computed
    again, and goes to the head of the queue. The defaults are those of ``SchedulerConfig``; a server on a H100 or
    H200 starts with 8192 tokens and 1024 seats. Left out: ``enable_chunked_prefill = false``, speculative decoding,
    encoders, LoRA limits, asynchronous scheduling, pipeline stages, transfers of the cache; and that prompts that start
    in the same step find each other's blocks in the prefix cache.
    """

    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 128
    policy: Literal["fcfs", "priority"] = "fcfs"
    long_prefill_token_threshold: int = 0
    scheduler_reserve_full_isl: bool = True
    watermark: float = 0.0
    paged: ClassVar[bool] = True
    prefixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_num_seqs", self.max_num_seqs, 1)
        at_least(_WHERE, "long_prefill_token_threshold", self.long_prefill_token_threshold, 0)
        if not 0 <= self.watermark < 1:
            raise ConfigError(f"{_WHERE}: watermark = {self.watermark} must be within 0 and 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                f"{_WHERE}: max_num_batched_tokens = {self.max_num_batched_tokens} is less than max_num_seqs = "
                f"{self.max_num_seqs}: raise the first or lower the second"
            )

    @property
    def ordered(self) -> bool:
        """Whether it takes the queue as it stands."""
        return self.policy == "fcfs"

    def decider(self, grid: Grid) -> VllmDecider:
        """The rule."""
        return VllmDecider(self)


class VllmDecider:
    """The rule at work: nothing is remembered between steps."""

    def __init__(self, policy: Vllm) -> None:
        self.budget, self.seats = policy.max_num_batched_tokens, policy.max_num_seqs
        self.longest_chunk = policy.long_prefill_token_threshold or policy.max_num_batched_tokens
        self.whole, self.by_priority = policy.scheduler_reserve_full_isl, policy.policy == "priority"
        self.watermark = policy.watermark
        self.threshold = 0

    def decide(self, view: PagedView) -> Step | Wait:
        """Running requests, then waiting ones."""
        running, waiting = view.running, view.waiting
        self.threshold = self.longest_chunk if running + waiting > 1 else self.budget
        growth, free = view.growth, view.free_blocks
        if view.prefilling or (growth > free and self.by_priority):
            return self._one_by_one(view)
        if growth > free:
            return self._without_the_last(view, growth, free)
        if not waiting or running == self.seats:
            return _DECODE if running else _IDLE
        chosen, cut = self._admitted(view, self.budget - running, running, free - growth)
        if not chosen and not running:
            return _IDLE
        if cut or self.by_priority:
            return Step(prefill=tuple(chosen), lasts="step" if cut else "change")
        return Step(len(chosen))

    def _without_the_last(self, view: PagedView, growth: int, free: int) -> Step:
        """All decode and there are not blocks for all: the last lose their seats, one after the other."""
        rows, preempted = list(view.seats), []
        while growth > free:
            victim = rows.pop()
            preempted.append(victim)
            free += view.blocks(victim)
            growth -= view.grows(victim)
        return Step(preempt=tuple(preempted), lasts="step")

    def _one_by_one(self, view: PagedView) -> Step:
        """Somebody is partly prefilled, or the least urgent go: as the source has it, request by request."""
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
                continue
            scheduled[request] = tokens, need
            budget -= tokens
            free -= need
            at += 1
        prefill = tuple((i, tokens) for i, (tokens, _) in scheduled.items() if i in view.prefilling)
        cut = any(tokens < view.prefilling[i] for i, tokens in prefill)
        if not preempted:
            more, cut_too = self._admitted(view, budget, len(rows), free)
            prefill, cut = (*prefill, *more), cut or cut_too
        skip = tuple(i for i in rows if i not in scheduled and i not in view.prefilling)
        return Step(
            prefill=prefill, preempt=tuple(preempted), skip=skip, lasts="step" if cut or preempted else "change"
        )

    def _victim(self, view: PagedView, rows: list[int]) -> int:
        if not self.by_priority:
            return rows[-1]
        return max(rows, key=lambda i: (view.priority(i), view.arrival(i), i))

    def _admitted(self, view: PagedView, budget: int, running: int, free: int) -> tuple[list[tuple[int, int]], bool]:
        """Who starts with how many tokens; and whether tokens are what somebody lacks, so that more follows."""
        chosen: list[tuple[int, int]] = []
        cut, longest, seats = False, self.threshold, self.seats
        kept = int(self.watermark * view.total_blocks) if self.watermark else 0
        for request, tokens, need in self._queue(view):
            if running == seats:
                break
            if not budget:
                return chosen, True
            room = free - kept if running else free
            if self.whole and need > room:
                break
            whole = tokens <= longest and tokens <= budget
            if not whole:
                tokens = min(longest, budget)
                need = view.needs(request, tokens)
            if need > room:
                break
            chosen.append((request, tokens))
            cut = cut or not whole
            budget -= tokens
            free -= need
            running += 1
        return chosen, cut

    def _queue(self, view: PagedView) -> Iterator[tuple[int, int, int]]:
        if not self.by_priority:
            return view.demands()
        ranked = sorted(view.queue(), key=lambda i: (view.priority(i), view.arrival(i), i))
        return ((i, *view.demand(i)) for i in ranked)
