"""The two schedulers of TensorRT-LLM, one behind the other: who has the memory (capacity), who is in the step (micro
batch).

Sources, of https://github.com/NVIDIA/TensorRT-LLM, below ``cpp/tensorrt_llm/batch_manager/``:

* ``capacityScheduler.cpp`` (cf6abc45df6e3470d8c378366896882e1f43e60c)
* ``microBatchScheduler.cpp`` (0a949d3128bfaf4ddedefb0259125622a9ec830f)
* ``scheduledBlocksManager.h`` (1ce9149bf3c290610ec8091806d68f6226ce3328) and, of ``kvCacheManager.cpp`` beside it,
  ``getNeededBlocksOneStep`` and ``getRemainingBlocksToCompletion``

The policies: GUARANTEED_NO_EVICT (default) admits who can run to the end with what those who run leave; MAX_UTILIZATION
admits who can make the next step, and pauses the last started when somebody cannot; STATIC_BATCH is the first, but
admits only when nobody generates.

Knobs and their defaults: ``capacity_scheduler_policy``, ``max_batch_size`` 2048, ``max_num_tokens`` 8192,
``enable_chunked_context`` off, ``context_chunking_policy`` first come first served in units of one block; the block
(``tokens_per_block``) has 32 tokens.

Left out: block reuse, beams, draft tokens, LoRA, encoders, pipelines (so one step of look-ahead), equal progress
chunking, agent trees, disaggregation. A paused request stays at its place in the line and computes its prompt and what
it has emitted anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from transcriptions.common import UNLIMITED, Decision, Memory, Price, Req, Seq, StepPlan, replay


def run(
    requests: Iterable[Req],
    *,
    price: Price,
    memory: Memory | None = None,
    capacity_scheduler_policy: str = "GUARANTEED_NO_EVICT",
    max_batch_size: int = 2048,
    max_num_tokens: int = 8192,
    enable_chunked_context: bool = False,
) -> list[StepPlan]:
    """The steps of one TensorRT-LLM executor over the requests."""
    scheduler = TensorrtLlmScheduler(
        memory=memory or UNLIMITED,
        policy=capacity_scheduler_policy,
        max_batch_size=max_batch_size,
        max_num_tokens=max_num_tokens,
        enable_chunked_context=enable_chunked_context,
    )
    return replay(requests, scheduler, price)


class TensorrtLlmScheduler:
    def __init__(
        self,
        *,
        memory: Memory,
        policy: str,
        max_batch_size: int,
        max_num_tokens: int,
        enable_chunked_context: bool,
    ) -> None:
        self.memory = memory
        self.policy = policy
        self.max_batch_size = max_batch_size
        self.max_num_tokens = max_num_tokens
        self.chunked = enable_chunked_context
        self.active: list[Seq] = []  # everybody, in order of arrival, whatever the state

    def fits(self, req: Req) -> bool:
        """A prompt is also computed anew after a pause, and then in one step unless it may be cut."""
        longest = req.prompt + (req.limit - 1 if self.policy == "MAX_UTILIZATION" else 0)
        whole = self.memory.blocks(req.prompt + req.limit)
        return whole <= self.memory.num_blocks and (self.chunked or longest <= self.max_num_tokens)

    def add(self, seq: Seq) -> None:
        self.active.append(seq)

    def finish(self, seq: Seq) -> None:
        self.active.remove(seq)

    def idle(self) -> bool:
        return not self.active

    def schedule(self, now: int) -> Decision:
        if self.policy == "MAX_UTILIZATION":
            fitting, paused = self._max_utilization()
        else:
            fitting, paused = self._no_evict(static=self.policy == "STATIC_BATCH"), []
        for seq in paused:
            seq.preempt()
        tokens = self._micro_batch(fitting)
        for seq, count in tokens.items():
            # A prompt takes its blocks with its first chunk.
            seq.blocks = max(seq.blocks, self.memory.blocks(max(seq.target, seq.computed + count)))
        return Decision(tokens=tokens, preempted=paused)

    # --- capacity ------------------------------------------------------------------------------------------------

    def _no_evict(self, static: bool) -> list[Seq]:
        generating = [seq for seq in self.active if not seq.prefilling][: self.max_batch_size]
        if static and generating:
            return generating
        fitting = generating
        available = self._free_blocks() - sum(self._to_completion(seq) for seq in generating)
        for seq in [seq for seq in self.active if seq.prefilling]:
            if len(fitting) >= self.max_batch_size or self._to_completion(seq) > available:
                break
            available -= self._to_completion(seq)
            fitting = [*fitting, seq]
        return fitting

    def _max_utilization(self) -> tuple[list[Seq], list[Seq]]:
        fitting: list[Seq] = []
        paused: list[Seq] = []
        line, available = list(self.active), self._free_blocks()
        while len(fitting) < len(line):
            seq = line[len(fitting)]
            if len(fitting) < self.max_batch_size and self._next_step(seq) <= available:
                available -= self._next_step(seq)
                fitting.append(seq)
                continue
            started = [other for other in line[len(fitting) :] if other.computed > 0]
            if not started:
                break
            # The last started gives its blocks; whoever stands behind it is not looked at in this step.
            victim = started[-1]
            available += victim.blocks
            paused.append(victim)
            line = line[: line.index(victim)]
        return fitting, paused

    def _to_completion(self, seq: Seq) -> int:
        """``getRemainingBlocksToCompletion``: up to the most that it may emit, less what it holds."""
        return self.memory.blocks(seq.req.prompt + seq.req.limit) - seq.blocks

    def _next_step(self, seq: Seq) -> int:
        """``getNeededBlocksOneStep``: the whole prompt with its first chunk, nothing with the others, then token by
        token."""
        if seq.prefilling:
            return self.memory.blocks(seq.target) if seq.computed == 0 else 0
        return self.memory.blocks(seq.tokens) - self.memory.blocks(seq.tokens - 1)

    def _free_blocks(self) -> int:
        return self.memory.num_blocks - sum(seq.blocks for seq in self.active)

    # --- micro batch -----------------------------------------------------------------------------------------------

    def _micro_batch(self, fitting: list[Seq]) -> dict[Seq, int]:
        chosen: dict[Seq, int] = {}
        for seq in fitting[: self.max_batch_size]:
            new = seq.target - seq.computed if seq.prefilling else 1
            cuttable = self.chunked and seq.prefilling
            taken = sum(count for other, count in chosen.items() if not (self.chunked and other.prefilling))
            if not cuttable and taken + new > self.max_num_tokens:
                break
            chosen[seq] = new
        return self._cut(chosen)

    def _cut(self, chosen: dict[Seq, int]) -> dict[Seq, int]:
        """Prompts that do not fit into the step as a whole are cut to whole blocks, first come first served."""
        if not self.chunked or sum(chosen.values()) <= self.max_num_tokens:
            return chosen
        capacity = self.max_num_tokens - sum(not seq.prefilling for seq in chosen)
        tokens: dict[Seq, int] = {}
        for seq, new in chosen.items():
            if seq.prefilling:
                count = new if new <= capacity else capacity // self.memory.block_size * self.memory.block_size
                capacity -= count
            else:
                count = 1
            if count > 0:
                tokens[seq] = count
        return tokens
