"""TensorRT-LLM: a capacity scheduler that says whom memory is enough for, and a micro batch of those."""

from __future__ import annotations

from itertools import takewhile
from typing import ClassVar, Literal

import msgspec

from simqueue.checks import at_least
from simqueue.kv import Reserve
from simqueue.plan import Lasts, Step, Wait
from simqueue.policy.base import PagedView
from simqueue.units import Grid

_IDLE = Wait()
_DECODE = Step()
_WHERE = "policy tensorrt-llm"


class TensorrtLlm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tensorrt-llm"):
    """TensorRT-LLM, ``batch_manager/capacityScheduler.cpp`` (cf6abc4) and ``microBatchScheduler.cpp`` (0a949d3). First
    the capacity scheduler chooses whom memory is enough for:

    - ``GUARANTEED_NO_EVICT``: who decodes, then, in order of arrival, whose prompt and maximum output fit what those
      leave who were chosen before.
    - ``MAX_UTILIZATION``: in order of arrival whose next step fits; where one does not, the last that has started is
      paused, to be computed again, and keeps its place in that order.
    - ``STATIC_BATCH``: as the first, but nobody is added while anybody decodes.

    Then, of these, as many are in the step as ``max_batch_size`` and ``max_num_tokens`` allow. A prompt that does not
    fit stops all behind it, or is cut to whole blocks with ``enable_chunked_context``. Left out: other chunking
    policies, beams, several micro batches, host memory, reuse of blocks in the estimate.
    """

    capacity_scheduler_policy: Literal["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"] = "GUARANTEED_NO_EVICT"
    max_batch_size: int = 2048
    max_num_tokens: int = 8192
    enable_chunked_context: bool = False
    paged: ClassVar[bool] = True
    prefixes: ClassVar[bool] = True
    reserve: ClassVar[Reserve] = "prompt"

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)
        at_least(_WHERE, "max_num_tokens", self.max_num_tokens, 1)

    def fits(self, view: PagedView, request: int, most: int) -> bool:
        """Whether its maximum output fits memory, and its prompt a step."""
        tokens = view.most_tokens(request)
        if _blocks(view, tokens) > view.total_blocks:
            return False
        paused = self.capacity_scheduler_policy == "MAX_UTILIZATION"
        return self.enable_chunked_context or self.max_num_tokens >= (
            tokens - 1 if paused else view.prompt_tokens(request)
        )

    def decider(self, grid: Grid) -> TensorrtLlmDecider:
        """The rule."""
        return TensorrtLlmDecider(self)


class TensorrtLlmDecider:
    """The rule at work: nothing is remembered between steps. Ids are in order of arrival."""

    def __init__(self, policy: TensorrtLlm) -> None:
        self.policy = policy
        self.seats, self.tokens = policy.max_batch_size, policy.max_num_tokens
        self.pauses = policy.capacity_scheduler_policy == "MAX_UTILIZATION"

    def decide(self, view: PagedView) -> Step | Wait:
        """Capacity, then the micro batch."""
        running = view.running
        if not running and not view.waiting:
            return _IDLE
        calm = not view.prefilling and running <= min(self.seats, self.tokens) and view.growth <= view.free_blocks
        if calm and not view.waiting:
            return _DECODE
        fitting, paused = self._utilising(view) if self.pauses else (self._guaranteed(view), ())
        decoding, chunks, cut = self._micro_batch(view, fitting)
        skip = tuple(i for i in view.seats if i not in decoding and i not in view.prefilling and i not in paused)
        if not decoding and not chunks and not paused:
            return _IDLE
        lasts: Lasts = "step" if cut or skip or paused else "change"
        return Step(prefill=chunks, preempt=tuple(paused), skip=skip, lasts=lasts)

    # Capacity.

    def _guaranteed(self, view: PagedView) -> list[int]:
        fitting = sorted(i for i in view.seats if i not in view.prefilling)[: self.seats]
        free = view.free_blocks - sum(self._to_come(view, i) for i in fitting)
        if fitting and self.policy.capacity_scheduler_policy == "STATIC_BATCH":
            return fitting
        for request in sorted((*view.prefilling, *self._queue(view))):
            left = self._to_come(view, request)
            if len(fitting) >= self.seats or left > free:
                break
            free -= left
            fitting.append(request)
        return fitting

    def _to_come(self, view: PagedView, request: int) -> int:
        """Blocks that it will take beyond those that it has."""
        return _blocks(view, view.most_tokens(request)) - self._held(view, request)

    def _held(self, view: PagedView, request: int) -> int:
        if request not in view.seats:
            return 0
        known = view.prompt_tokens(request) + view.emitted(request)
        return _blocks(view, known if request in view.prefilling else known - 1)

    def _utilising(self, view: PagedView) -> tuple[list[int], list[int]]:
        line = sorted((*view.seats, *self._queue(view)))
        fitting: list[int] = []
        paused: list[int] = []
        free, at = view.free_blocks, 0
        while at < len(line):
            request = line[at]
            need = self._next_step(view, request, paused)
            if len(fitting) < self.seats and need <= free:
                free -= need
                fitting.append(request)
                at += 1
                continue
            started = [k for k in range(at, len(line)) if line[k] in view.seats and line[k] not in paused]
            if not started:
                break
            victim = line[started[-1]]
            paused.append(victim)
            free += view.blocks(victim)
            line = line[: started[-1]]
        return fitting, paused

    def _next_step(self, view: PagedView, request: int, paused: list[int]) -> int:
        if request in view.prefilling:
            return 0
        if request in view.seats:
            return int(view.grows(request))
        return _blocks(view, view.prompt_tokens(request) + view.emitted(request))

    def _queue(self, view: PagedView) -> list[int]:
        """Of those who wait as many as could have a seat: whoever was paused, and the first of the others."""
        paused = list(takewhile(view.preempted, view.queue()))
        others = (i for i in view.queue() if not view.preempted(i))
        return paused + [i for i, _ in zip(others, range(self.seats), strict=False)]

    # The micro batch.

    def _micro_batch(self, view: PagedView, fitting: list[int]) -> tuple[set[int], tuple[tuple[int, int], ...], bool]:
        """Who decodes, who computes how much of a prompt, and whether somebody could go on next time who waits now."""
        decoding: set[int] = set()
        chunks: list[tuple[int, int]] = []
        taken = 0
        for request in fitting:
            prefills = request in view.prefilling or request not in view.seats
            tokens = view.backlog(request) if prefills else 1
            counted = 0 if prefills and self.policy.enable_chunked_context else tokens
            if taken + counted > self.tokens or len(decoding) + len(chunks) >= self.seats:
                return decoding, tuple(chunks), True
            taken += counted
            if prefills:
                chunks.append((request, tokens))
            else:
                decoding.add(request)
        if self.policy.enable_chunked_context and taken + sum(tokens for _, tokens in chunks) > self.tokens:
            return decoding, self._cut(view, chunks, self.tokens - taken), True
        return decoding, tuple(chunks), False

    def _cut(self, view: PagedView, chunks: list[tuple[int, int]], left: int) -> tuple[tuple[int, int], ...]:
        """The prompts in order, to whole blocks where they are cut; one of which nothing fits lets the next one try."""
        cut: list[tuple[int, int]] = []
        for request, rest in chunks:
            tokens = rest if rest <= left else left // view.block_size * view.block_size
            left -= tokens
            if tokens:
                cut.append((request, tokens))
        return tuple(cut)


def _blocks(view: PagedView, tokens: int) -> int:
    return -(-tokens // view.block_size)
