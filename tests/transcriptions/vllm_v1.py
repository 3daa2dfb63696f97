"""The scheduler of vLLM v1, release 0.33.0: ``Scheduler.schedule`` and ``KVCacheManager.allocate_slots``.

Sources, both of the release 0.33.0 (its wheel on PyPI):

* https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/core/sched/scheduler.py
* https://github.com/vllm-project/vllm/blob/v0.33.0/vllm/v1/core/kv_cache_manager.py (with
  ``single_type_kv_cache_manager.py``, ``block_pool.py`` and ``sched/request_queue.py`` beside it)

Knobs and their defaults in ``SchedulerConfig``: ``max_num_batched_tokens`` 2048, ``max_num_seqs`` 128 (the server
chooses by GPU instead: 8192 and 1024 on an H100 or H200, 2048 and 256 on a smaller GPU),
``long_prefill_token_threshold`` 0 (off), ``policy`` "fcfs", ``scheduler_reserve_full_isl`` on, ``watermark`` 0.0; the
block size is 16.

Left out: asynchronous scheduling, speculation, LoRA, encoders, connectors, sliding windows, Mamba, pausing,
``max_num_active_seqs``, ``max_num_scheduled_tokens``, ``long_prefill_token_threshold_adaptive``,
``prefill_schedule_interval``, and chunked prefill switched off. Prefix caching is on when ``hashes`` are given.
Its plans were compared with those of the release's own ``Scheduler`` on hundreds of random workloads, and were equal.
``Memory.num_blocks`` are usable blocks: vLLM keeps one more, the null block, and takes its watermark as a share of all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from transcriptions.common import Decision, Memory, Price, Req, Seq, StepPlan, replay
from transcriptions.vllm_blocks import Block, BlockPool


def run(
    requests: Iterable[Req],
    *,
    price: Price,
    memory: Memory | None = None,
    max_num_batched_tokens: int = 2048,
    max_num_seqs: int = 128,
    long_prefill_token_threshold: int = 0,
    policy: str = "fcfs",
    scheduler_reserve_full_isl: bool = True,
    hashes: Mapping[int, Sequence[Hashable]] | None = None,
) -> list[StepPlan]:
    """The steps of one vLLM engine over the requests.

    Args:
        hashes: names of the full blocks of each prompt, by id of the request; equal names: equal tokens up to there.
    """
    requests = list(requests)
    memory = memory or Memory(block_size=16, num_blocks=sum(1 + (r.prompt + r.output) // 16 for r in requests))
    scheduler = VllmScheduler(
        memory=memory,
        hashes=hashes,
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        long_prefill_token_threshold=long_prefill_token_threshold,
        policy=policy,
        scheduler_reserve_full_isl=scheduler_reserve_full_isl,
    )
    return replay(requests, scheduler, price)


class VllmScheduler:
    def __init__(
        self,
        *,
        memory: Memory,
        hashes: Mapping[int, Sequence[Hashable]] | None,
        max_num_batched_tokens: int,
        max_num_seqs: int,
        long_prefill_token_threshold: int,
        policy: str,
        scheduler_reserve_full_isl: bool,
    ) -> None:
        self.memory = memory
        self.pool = BlockPool(memory, hashes)
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_num_seqs = max_num_seqs
        self.long_prefill_token_threshold = long_prefill_token_threshold
        self.policy = policy
        self.scheduler_reserve_full_isl = scheduler_reserve_full_isl
        self.waiting: list[Seq] = []
        self.running: list[Seq] = []

    def fits(self, req: Req) -> bool:
        """vLLM does not start with a ``max_model_len`` that its cache cannot hold: nobody may outgrow the cache."""
        return self.memory.blocks(req.prompt + req.output) <= self.memory.num_blocks

    def add(self, seq: Seq) -> None:
        self.waiting.append(seq)

    def finish(self, seq: Seq) -> None:
        self.running.remove(seq)
        self.pool.release(seq)

    def idle(self) -> bool:
        return not self.waiting and not self.running

    def schedule(self, now: int) -> Decision:
        # Nobody can be starved by the only request: the threshold is for two or more.
        alone = len(self.running) + len(self.waiting) <= 1
        self.threshold = 0 if alone else self.long_prefill_token_threshold
        self.budget = self.max_num_batched_tokens
        self.decision = Decision(tokens={}, preempted=[])
        self._schedule_running()
        if not self.decision.preempted:
            self._schedule_waiting()
        return self.decision

    def _schedule_running(self) -> None:
        # The list is walked by index because a preemption takes members out of it, before or after the walker.
        self.index = 0
        while self.index < len(self.running) and self.budget > 0:
            seq = self.running[self.index]
            new = self._new_tokens(seq)
            while not self.pool.room(seq, seq.computed + new, hits=[], watermark=0):
                victim = self._victim()
                self._preempt(victim)
                if victim is seq:
                    break
            if seq in self.running:
                self._grant(seq, new, hits=[])
                self.index += 1
            elif self.policy == "fcfs":
                break
            # By priority, those behind one that preempted itself matter more than it did: they are tried as well.

    def _schedule_waiting(self) -> None:
        while self.waiting and self.budget > 0 and len(self.running) < self.max_num_seqs:
            seq = self._first_waiting()
            hits = self.pool.hits(seq)
            seq.computed = len(hits) * self.memory.block_size
            new = self._new_tokens(seq)
            if not self._fits_now(seq, new, hits):
                seq.computed = 0
                break
            self.waiting.remove(seq)
            self.running.append(seq)
            self._grant(seq, new, hits)

    def _new_tokens(self, seq: Seq) -> int:
        new = seq.tokens - seq.computed
        if 0 < self.threshold < new:
            new = self.threshold
        return min(new, self.budget)

    def _grant(self, seq: Seq, new: int, hits: Sequence[Block]) -> None:
        self.pool.take(seq, seq.computed + new, hits)
        self.decision.tokens[seq] = new
        self.budget -= new

    def _first_waiting(self) -> Seq:
        return min(self.waiting, key=_rank) if self.policy == "priority" else self.waiting[0]

    def _victim(self) -> Seq:
        return max(self.running, key=_rank) if self.policy == "priority" else self.running[-1]

    def _preempt(self, victim: Seq) -> None:
        if self.running.index(victim) < self.index:
            self.index -= 1
        self.running.remove(victim)
        # By priority the victim may have been scheduled in this very step: its tokens go back to the budget.
        self.budget += self.decision.tokens.pop(victim, 0)
        self.pool.release(victim)
        victim.preempt()
        self.waiting.insert(0, victim)
        self.decision.preempted.append(victim)

    def _fits_now(self, seq: Seq, new: int, hits: Sequence[Block]) -> bool:
        """A waiting request must leave the watermark free unless nobody runs. Its whole prompt must have room, but only
        the blocks of its first chunk are taken."""
        watermark = self.memory.watermark_blocks if self.running else 0
        whole = seq.tokens if self.scheduler_reserve_full_isl else seq.computed + new
        return self.pool.room(seq, whole, hits, watermark)


def _rank(seq: Seq) -> tuple[int, int, int]:
    """Who matters less, by priority: vLLM compares (priority, arrival), where no two arrivals are ever equal; ids say
    which of two that are equal here came first. (Without that, two such requests can preempt each other for ever.)"""
    return seq.req.priority, seq.req.arrival, seq.id
