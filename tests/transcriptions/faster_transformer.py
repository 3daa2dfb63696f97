"""Request-level batching as Sarathi-Serve renders FasterTransformer's: ``FasterTransformerScheduler``.

Source: https://github.com/microsoft/sarathi-serve, ``sarathi/core/scheduler/faster_transformer_scheduler.py``
(4efda1bd189e67e88f7f9bf89a72a38bc9378114) over
``sarathi/core/block_space_manager/faster_transformer_block_space_manager.py``
(f101990e04fbe47d2b4be5c88d823084e1d8b59a), whose memory is Orca's.

A batch is formed when nobody runs, all prompts are computed whole in its first step, and nobody joins until the last of
the batch has finished. Whoever finishes earlier leaves the batch at once; the rows that are left get fewer.
(FasterTransformer itself goes on computing a finished row until its batch ends; Sarathi-Serve does not, nor does this.)

Knobs and their defaults: ``max_num_seqs`` 128, the model's ``max_model_len``, which each request reserves in full.
Left out: pipeline stages.
"""

from __future__ import annotations

from collections.abc import Iterable

from transcriptions.common import UNLIMITED, Decision, Memory, Price, Req, StepPlan, replay
from transcriptions.orca import ReservingScheduler, full_length


def run(
    requests: Iterable[Req],
    *,
    price: Price,
    max_model_len: int,
    memory: Memory | None = None,
    max_num_seqs: int = 128,
) -> list[StepPlan]:
    """The steps of one server over the requests."""
    memory = memory or UNLIMITED
    scheduler = FasterTransformerScheduler(memory, max_num_seqs, full_length(memory, max_model_len))
    return replay((r for r in requests if r.prompt + r.output <= max_model_len), scheduler, price)


class FasterTransformerScheduler(ReservingScheduler):
    def schedule(self, now: int) -> Decision:
        if self.running:
            return Decision(tokens=dict.fromkeys(self.running, 1), preempted=[])
        return super().schedule(now)
