"""The scheduler of Sarathi-Serve: ``SarathiScheduler`` over ``VLLMBlockSpaceManager``.

Sources, the main branch of https://github.com/microsoft/sarathi-serve as of these commits:

* ``sarathi/core/scheduler/sarathi_scheduler.py`` (4efda1bd189e67e88f7f9bf89a72a38bc9378114)
* ``sarathi/core/scheduler/base_scheduler.py`` (20b0999e80b08a6622276b6351c90006fdbd90b5)
* ``sarathi/core/block_space_manager/base_block_space_manager.py`` (d6e7e2031d9eade2fa83b1e8fbfd3720ceba1cde)
* ``sarathi/core/datatypes/sequence.py`` (4efda1bd189e67e88f7f9bf89a72a38bc9378114), what a preempted sequence looks
  like

Knobs and their defaults: ``max_num_seqs`` 128, ``chunk_size`` 512; the watermark is 0.01 and the block size 16.

Left out: the dynamic chunk schedule, pipeline stages, the limit ``max_model_len``. One thing is not as in the source,
where it is a slip: there, a preempted sequence forgets how many tokens it has emitted and emits ``max_tokens`` more.
"""

from __future__ import annotations

from collections.abc import Iterable

from transcriptions.common import UNLIMITED, Decision, Memory, Price, Req, Seq, StepPlan, replay


def run(
    requests: Iterable[Req],
    *,
    price: Price,
    memory: Memory | None = None,
    max_num_seqs: int = 128,
    chunk_size: int = 512,
) -> list[StepPlan]:
    """The steps of one Sarathi-Serve replica over the requests.

    Raises:
        ValueError: more sequences than tokens in a step, which the source would schedule with negative chunks.
    """
    if max_num_seqs > chunk_size:
        raise ValueError(f"max_num_seqs {max_num_seqs} is more than chunk_size {chunk_size}")
    scheduler = SarathiScheduler(memory or UNLIMITED, max_num_seqs, chunk_size)
    return replay(requests, scheduler, price)


class SarathiScheduler:
    def __init__(self, memory: Memory, max_num_seqs: int, chunk_size: int) -> None:
        self.memory = memory
        self.max_num_seqs = max_num_seqs
        self.chunk_size = chunk_size
        self.waiting: list[Seq] = []
        self.running: list[Seq] = []

    def fits(self, req: Req) -> bool:
        """The source has no such check and would wait for ever: for the watermark at admission, or, alone and with
        every block taken, for the free block without which nobody decodes."""
        kept_free = max(1, self.memory.watermark_blocks)
        return self.memory.blocks(req.prompt + req.output) + kept_free <= self.memory.num_blocks

    def add(self, seq: Seq) -> None:
        self.waiting.append(seq)

    def finish(self, seq: Seq) -> None:
        self.running.remove(seq)

    def idle(self) -> bool:
        return not self.waiting and not self.running

    def schedule(self, now: int) -> Decision:
        self.decision = Decision(tokens={}, preempted=[])
        # Phase 1: whoever runs. The queue shrinks from both ends: the oldest are served, the youngest are preempted.
        self.queue = sorted(self.running, key=lambda seq: (seq.req.arrival, seq.id))
        self.running, self.prefilling = [], []
        while self.queue:
            seq = self.queue.pop(0)
            if seq.prefilling:
                self.prefilling.append(seq)
            else:
                self._decode(seq)
        while self.prefilling:
            seq = self.prefilling.pop(0)
            self._grant(seq, self._chunk(seq))
        # Phase 2: whoever waits.
        self._admit()
        # What a victim has computed is forgotten only when all has been decided: phase 2 still saw it.
        for victim in self.decision.preempted:
            victim.computed, victim.target = 0, victim.tokens
        return self.decision

    def _decode(self, seq: Seq) -> None:
        # Nobody decodes without a free block, whether it needs one or not (``can_append_slot``).
        while self._free_blocks(seq) == 0:
            victim = self.queue.pop() if self.queue else seq
            self._preempt(victim)
            if victim is seq:
                return
        seq.blocks = self.memory.blocks(seq.tokens)
        self._grant(seq, 1)

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_num_seqs:
            seq = self.waiting[0]
            needed = self.memory.blocks(seq.tokens)
            if self._free_blocks() - needed < self.memory.watermark_blocks:
                break
            # No tokens: the step is full, or a victim of this very step has its prefill behind it.
            if self._chunk(seq) == 0:
                break
            self.waiting.pop(0)
            seq.blocks = needed
            self._grant(seq, self._chunk(seq))

    def _chunk(self, seq: Seq) -> int:
        missing = max(seq.target - seq.computed, 0)
        return min(missing, self.chunk_size - sum(self.decision.tokens.values()))

    def _grant(self, seq: Seq, new: int) -> None:
        self.running.append(seq)
        if new > 0:
            self.decision.tokens[seq] = new

    def _preempt(self, victim: Seq) -> None:
        victim.blocks = 0
        self.waiting.insert(0, victim)
        self.decision.preempted.append(victim)

    def _free_blocks(self, *more: Seq) -> int:
        holders = [*self.running, *self.prefilling, *self.queue, *more]
        return self.memory.num_blocks - sum(seq.blocks for seq in holders)
