"""The batcher of Text Generation Inference 2 (TGI), for back ends that do not chunk: ``batching_task`` and
``next_batch``.

Sources, of https://github.com/huggingface/text-generation-inference:

* ``backends/v3/src/backend.rs`` (1d0847a90e6bee759ab0af1cc854e78b09892d93), the loop over prefill and decode
* ``backends/v3/src/queue.rs`` (120d5773e8ce58b5adcaeb526014bc9046092951), who joins
* ``backends/v3/src/block_allocator.rs`` (136bcc812870e36aea69c3bb9cb8012f0a63d973), ``SimpleAllocator``

A step is either the prefill of the prompts that join or a decode of everybody in the batch. Those who join reserve
everything that they may need. A prefill is always followed by a decode when others were running.

Knobs and their defaults (the launcher's where the router's differs): ``waiting_served_ratio`` 0.3 (router: 1.2),
``max_waiting_tokens`` 20, ``max_batch_prefill_tokens`` 4096, ``max_batch_size`` None (no limit),
``max_batch_total_tokens`` measured at the start: here ``Memory.num_blocks`` blocks of ``Memory.block_size`` tokens.

Left out: chunked prefill and the radix cache of TGI 3, padding, windows, speculation, clients that hang up, and the one
block that TGI keeps for its health check. ``max_batch_size`` reached means that nobody joins (the source of this commit
takes 0 free seats for no limit; later ones do not). The product of batch size and ratio is a double here and a float
there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from transcriptions.common import UNLIMITED, Decision, Memory, Price, Req, Seq, StepPlan, replay


def run(
    requests: Iterable[Req],
    *,
    price: Price,
    memory: Memory | None = None,
    waiting_served_ratio: float = 0.3,
    max_waiting_tokens: int = 20,
    max_batch_prefill_tokens: int = 4096,
    max_batch_size: int | None = None,
) -> list[StepPlan]:
    """The steps of one TGI server over the requests."""
    scheduler = TgiScheduler(
        memory=memory or UNLIMITED,
        waiting_served_ratio=waiting_served_ratio,
        max_waiting_tokens=max_waiting_tokens,
        max_batch_prefill_tokens=max_batch_prefill_tokens,
        max_batch_size=max_batch_size,
    )
    return replay(requests, scheduler, price)


class TgiScheduler:
    def __init__(
        self,
        *,
        memory: Memory,
        waiting_served_ratio: float,
        max_waiting_tokens: int,
        max_batch_prefill_tokens: int,
        max_batch_size: int | None,
    ) -> None:
        self.memory = memory
        self.waiting_served_ratio = waiting_served_ratio
        self.max_waiting_tokens = max_waiting_tokens
        # The budget is rounded up to whole blocks.
        self.prefill_budget = memory.blocks(max_batch_prefill_tokens) * memory.block_size
        self.max_batch_size = math.inf if max_batch_size is None else max_batch_size
        self.waiting: list[Seq] = []
        self.batch: list[Seq] = []
        self.waiting_tokens = 0  # decode steps since somebody joined, and one
        self.owes_decode = False  # others have waited for a prefill: they decode now

    def fits(self, req: Req) -> bool:
        whole = req.prompt + req.limit
        return req.prompt <= self.prefill_budget and whole <= self.memory.num_blocks * self.memory.block_size

    def add(self, seq: Seq) -> None:
        self.waiting.append(seq)

    def finish(self, seq: Seq) -> None:
        self.batch.remove(seq)

    def idle(self) -> bool:
        return not self.waiting and not self.batch

    def schedule(self, now: int) -> Decision:
        joining = [] if self.owes_decode else self._next_batch()
        if joining:
            self.owes_decode = bool(self.batch)
            self.waiting_tokens = 1
            self.batch += joining
            return Decision(tokens={seq: seq.tokens for seq in joining}, preempted=[])
        self.owes_decode = False
        self.waiting_tokens += 1
        return Decision(tokens=dict.fromkeys(self.batch, 1), preempted=[])

    def _next_batch(self) -> list[Seq]:
        """``next_batch``: from the head of the queue, as many as the budgets allow; nobody if they are too few."""
        joining: list[Seq] = []
        while self.waiting and len(self.batch) + len(joining) < self.max_batch_size:
            seq = self.waiting[0]
            if not self._affordable([*joining, seq]):
                break
            joining.append(self.waiting.pop(0))
        if len(joining) < self._min_size():
            self.waiting = joining + self.waiting
            return []
        return joining

    def _min_size(self) -> int:
        if not self.batch or self.waiting_tokens >= self.max_waiting_tokens:
            return 0
        return math.floor(len(self.batch) * self.waiting_served_ratio)

    def _affordable(self, joining: list[Seq]) -> bool:
        """By three accounts: prompt tokens of this prefill, all tokens in the cache, and blocks."""
        prompts = sum(seq.req.prompt for seq in joining)
        answers = sum(seq.req.limit for seq in joining)
        held = sum(self._reserved(seq) for seq in self.batch)
        free = self.memory.num_blocks - held
        needed = sum(self._reserved(seq) for seq in joining)
        return prompts <= self.prefill_budget and prompts + answers <= free * self.memory.block_size and needed <= free

    def _reserved(self, seq: Seq) -> int:
        return self.memory.blocks(seq.req.prompt + seq.req.limit - 1)
