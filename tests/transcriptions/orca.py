"""Two Orcas: the scheduler of the paper (Algorithm 1), and Sarathi-Serve's rendering of it.

Sources:

* Yu et al., "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI 2022, Algorithm 1,
  https://www.usenix.org/conference/osdi22/presentation/yu
* https://github.com/microsoft/sarathi-serve, ``sarathi/core/scheduler/orca_scheduler.py``
  (20b0999e80b08a6622276b6351c90006fdbd90b5) over ``sarathi/core/block_space_manager/orca_block_space_manager.py``
  (2db5d0b23dc5befe3801023c67778f81b2bc49da)

Both admit first come first served at every iteration, compute every prompt whole in its first iteration beside the rows
that decode, reserve all the memory that a request can ever need when it is admitted, and so never preempt.

The paper's knobs have no defaults: ``max_bs``, and ``n_slots`` of one token each (here ``memory``: blocks of any size).
Sarathi-Serve's are ``max_num_seqs`` 128 and the model's ``max_model_len``; its watermark is 0.

Left out: the pipeline of ``n_workers`` batches under way at once (``n_workers = 1`` here).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from transcriptions.common import UNLIMITED, Decision, Memory, Price, Req, Seq, StepPlan, replay


def run_paper(requests: Iterable[Req], *, price: Price, max_bs: int, memory: Memory | None = None) -> list[StepPlan]:
    """Algorithm 1: each request reserves its ``max_tokens``, which are its prompt and the most that it may emit."""
    memory = memory or UNLIMITED
    return replay(
        requests, ReservingScheduler(memory, max_bs, lambda req: memory.blocks(req.prompt + req.limit)), price
    )


def run(
    requests: Iterable[Req],
    *,
    price: Price,
    max_model_len: int,
    memory: Memory | None = None,
    max_num_seqs: int = 128,
) -> list[StepPlan]:
    """Sarathi-Serve's ``OrcaScheduler``: each request reserves ``max_model_len`` tokens, however short it is."""
    scheduler = ReservingScheduler(memory or UNLIMITED, max_num_seqs, full_length(memory or UNLIMITED, max_model_len))
    return replay((r for r in requests if r.prompt + r.output <= max_model_len), scheduler, price)


def full_length(memory: Memory, max_model_len: int) -> Callable[[Req], int]:
    """``OrcaBlockSpaceManager``: every request takes the blocks of the longest."""
    return lambda req: memory.blocks(max_model_len)


class ReservingScheduler:
    """Iterations over everybody admitted; ``reserve`` says how many blocks a request holds from admission to its
    end."""

    def __init__(self, memory: Memory, max_batch: int, reserve: Callable[[Req], int]) -> None:
        self.memory = memory
        self.max_batch = max_batch
        self.reserve = reserve
        self.waiting: list[Seq] = []
        self.running: list[Seq] = []

    def fits(self, req: Req) -> bool:
        return self.reserve(req) <= self.memory.num_blocks

    def add(self, seq: Seq) -> None:
        self.waiting.append(seq)

    def finish(self, seq: Seq) -> None:
        self.running.remove(seq)

    def idle(self) -> bool:
        return not self.waiting and not self.running

    def schedule(self, now: int) -> Decision:
        self._admit()
        return Decision(tokens={seq: seq.tokens - seq.computed for seq in self.running}, preempted=[])

    def _admit(self) -> None:
        """The head of the line blocks everybody behind it."""
        while self.waiting and len(self.running) < self.max_batch:
            reserved = sum(self.reserve(seq.req) for seq in self.running)
            if reserved + self.reserve(self.waiting[0].req) > self.memory.num_blocks:
                break
            self.running.append(self.waiting.pop(0))
