"""The scheduler of SGLang, release 0.5.23: ``Scheduler.get_next_batch_to_run`` with ``PrefillAdder``.

Sources, of the release 0.5.23 (its wheel on PyPI), below
https://github.com/sgl-project/sglang/blob/v0.5.23/python/sglang/srt/:

* ``managers/scheduler.py``: ``get_next_batch_to_run``, ``_get_new_batch_prefill_raw``, ``update_running_batch``
* ``managers/schedule_policy.py``: ``SchedulePolicy``, ``PrefillAdder``; ``mem_cache/prefill_budget.py``
* ``managers/schedule_batch.py``: ``check_decode_mem``, ``retract_decode``, ``filter_batch``
* ``managers/scheduler_components/new_token_ratio_tracker.py``

A step is either a prefill or a decode of everybody who runs; prefill goes first. Admission reserves, for everybody who
runs, only a share of the tokens that are still allowed (the new-token ratio, which decays with every decode step); when
the cache is full all the same, running requests are retracted and the ratio goes up.

Knobs and their defaults: ``max_running_requests`` (chosen by memory), ``chunked_prefill_size`` 8192 on a GPU of 80 GB
(2048 to 16384 by memory; None: off), ``max_prefill_tokens`` 16384, ``schedule_policy`` "fcfs",
``schedule_conservativeness`` 1.0; a page has ``Memory.block_size`` tokens, 1 for most back ends.

Left out: the radix cache (no prefix is ever shared; so "lpm" is "fcfs"), "shortest-prefill-first", "random",
priorities, ``enable_mixed_chunk``, ``prefill_max_requests``, ``prefill_decode_interval``, the prefill delayer, overlap
of scheduling and execution, requests that ignore the end token (they are admitted by another estimate), and everything
for hybrid models. One thing is not as in the source: it cuts a ``max_new_tokens`` that could never fit; here the
request is left out.

Its plans were compared with those of the release's own ``PrefillAdder``, in the same loop, on a thousand random
workloads, and were equal.
"""

from __future__ import annotations

from collections.abc import Iterable

from transcriptions.common import UNLIMITED, Decision, Memory, Price, Req, Seq, StepPlan, replay

INIT_NEW_TOKEN_RATIO = 0.7
MIN_NEW_TOKEN_RATIO_FACTOR = 0.14
NEW_TOKEN_RATIO_DECAY_STEPS = 600
RETRACT_DECODE_STEPS = 20
CLIP_MAX_NEW_TOKENS = 4096


def run(
    requests: Iterable[Req],
    *,
    price: Price,
    max_running_requests: int,
    memory: Memory | None = None,
    chunked_prefill_size: int | None = 8192,
    max_prefill_tokens: int = 16384,
    schedule_policy: str = "fcfs",
    schedule_conservativeness: float = 1.0,
) -> list[StepPlan]:
    """The steps of one SGLang server over the requests; ``schedule_policy`` is "fcfs" or "lof" (longest output
    first)."""
    scheduler = SglangScheduler(
        memory=memory or UNLIMITED,
        max_running_requests=max_running_requests,
        chunked_prefill_size=chunked_prefill_size,
        max_prefill_tokens=max_prefill_tokens,
        schedule_policy=schedule_policy,
        schedule_conservativeness=schedule_conservativeness,
    )
    return replay(requests, scheduler, price)


class SglangScheduler:
    def __init__(
        self,
        *,
        memory: Memory,
        max_running_requests: int,
        chunked_prefill_size: int | None,
        max_prefill_tokens: int,
        schedule_policy: str,
        schedule_conservativeness: float,
    ) -> None:
        self.memory = memory
        self.page = memory.block_size
        self.max_running_requests = max_running_requests
        self.chunked_prefill_size = chunked_prefill_size
        self.max_prefill_tokens = max_prefill_tokens
        self.schedule_policy = schedule_policy
        self.init_ratio = min(INIT_NEW_TOKEN_RATIO * schedule_conservativeness, 1.0)
        self.min_ratio = min(self.init_ratio * MIN_NEW_TOKEN_RATIO_FACTOR, 1.0)
        self.ratio = self.init_ratio
        self.waiting: list[Seq] = []
        self.running: list[Seq] = []  # whoever decodes
        self.prefilled: list[Seq] = []  # the last step, if it was a prefill
        self.chunked: Seq | None = None  # the one prompt that is only partly computed
        self.full = False  # ``batch_is_full``: do not even try to admit

    def fits(self, req: Req) -> bool:
        """Alone on an idle server it must pass the check of admission."""
        return req.prompt + req.limit + self.page < self.memory.num_blocks * self.page

    def add(self, seq: Seq) -> None:
        self.waiting.append(seq)

    def finish(self, seq: Seq) -> None:
        seq.blocks = 0

    def idle(self) -> bool:
        return not self.waiting and not self.running and self.chunked is None

    def schedule(self, now: int) -> Decision:
        self._merge()
        if self.idle():
            self.ratio = self.init_ratio
        tokens = self._prefill()
        if tokens:
            self.prefilled = list(tokens)
            return Decision(tokens=tokens, preempted=[])
        retracted = self._make_room() if self.running else []
        return Decision(tokens=dict.fromkeys(self.running, 1), preempted=retracted)

    def _merge(self) -> None:
        """Whoever has its prompt behind it decodes from now on; whoever has finished is gone and leaves room."""
        stays = [seq for seq in self.prefilled if not seq.done and seq is not self.chunked]
        alive = [seq for seq in self.running if not seq.done]
        if len(stays) < len(self.prefilled) or len(alive) < len(self.running):
            self.full = False
        self.running, self.prefilled = alive + stays, []

    # --- prefill -------------------------------------------------------------------------------------------------

    def _prefill(self) -> dict[Seq, int]:
        """The next prefill, empty when there is none."""
        if not self.running:
            self.full = False
        if self.chunked is None:
            if self.full or not self.waiting:
                return {}
            if len(self.running) >= self.max_running_requests:
                self.full = True
                return {}
        if self.schedule_policy == "lof":
            self.waiting.sort(key=lambda seq: -seq.req.limit)
        self._open_budget()
        self.tokens: dict[Seq, int] = {}
        if self.chunked is not None:
            self._continue_chunk(self.chunked)
        for seq in list(self.waiting):
            if not self._try(seq):
                break
        self.waiting = [seq for seq in self.waiting if seq not in self.tokens]
        return self.tokens

    def _open_budget(self) -> None:
        """``PrefillAdder``: what is left for this prefill, in tokens."""
        self.free = self._free_tokens()
        # The order of these sums of floats is the source's.
        self.promised = sum([min(s.req.limit - s.emitted, CLIP_MAX_NEW_TOKENS) * self.ratio for s in self.running])
        self.taken = 0
        self.left_input = self.max_prefill_tokens
        self.left_chunk = self.chunked_prefill_size

    def _continue_chunk(self, seq: Seq) -> None:
        assert self.left_chunk is not None
        limit = min(self.left_chunk, int(self.free - self.promised))
        if limit <= 0:
            limit = self.left_chunk
        missing = seq.tokens - seq.computed
        new = min(missing, limit)
        self._take(seq, new, new_tokens=self._most(seq) if new == missing else 0)
        self.chunked = seq if new < missing else None

    def _try(self, seq: Seq) -> bool:
        """Admit if possible, and say whether to go on with the next."""
        if self._exhausted() == "pass":
            return False
        if len(self.tokens) >= self.max_running_requests - len(self.running):
            self.full = True
        if self.full:
            return False
        verdict = self._admit(seq) or self._exhausted()
        if verdict == "memory":
            self.full = bool(self.tokens) or bool(self.running)
        return verdict is None

    def _admit(self, seq: Seq) -> str | None:
        """``add_one_req``: None if admitted, else what is missing."""
        new = seq.tokens
        still_allowed = min(max(seq.req.limit - seq.emitted, 0), CLIP_MAX_NEW_TOKENS)
        if not new + still_allowed + self.page < self.free - self.promised:
            return "memory"
        if self.left_chunk is None:
            if self.tokens and self._ceil(new) >= self.left_input:
                return "pass"
        elif self._ceil(new) > self.left_chunk:
            cut = self.left_chunk // self.page * self.page
            if cut <= 0:
                return "pass"
            self._take(seq, cut, new_tokens=0)
            self.chunked = seq
            return None
        self._take(seq, new, new_tokens=self._most(seq))
        return None

    def _take(self, seq: Seq, new: int, new_tokens: int) -> None:
        """Schedule so many tokens of the prompt, reserve ``new_tokens`` for the answer, and a page for the rounding."""
        self.tokens[seq] = new
        seq.blocks = self.memory.blocks(seq.computed + new)
        self.promised += self._ceil(new) + self.page + new_tokens
        self.taken += self._ceil(new) + self.page
        self.left_input -= self._ceil(new)
        if self.left_chunk is not None:
            self.left_chunk -= self._ceil(new)

    def _exhausted(self) -> str | None:
        """``budget_state``: is it the memory that is used up, or what one pass may compute?"""
        if self.free - self.promised <= 0 or self.free - self.taken <= 0:
            return "memory"
        if self.left_input <= 0 or (self.left_chunk is not None and self.left_chunk <= 0):
            return "pass"
        return None

    def _ceil(self, tokens: int) -> int:
        return self.memory.blocks(tokens) * self.page

    def _most(self, seq: Seq) -> int:
        return min(seq.req.limit, CLIP_MAX_NEW_TOKENS)

    # --- decode --------------------------------------------------------------------------------------------------

    def _make_room(self) -> list[Seq]:
        """``update_running_batch``: retract until the next tokens of all others have room."""
        retracted: list[Seq] = []
        if self._decodes_fit(self.running):
            decay = (self.init_ratio - self.min_ratio) / NEW_TOKEN_RATIO_DECAY_STEPS
            self.ratio = max(self.ratio - decay, self.min_ratio)
        else:
            # Most emitted first, then shortest prompt: the last is retracted first. The batch keeps this order.
            self.running.sort(key=lambda seq: (seq.emitted, -seq.req.prompt), reverse=True)
            while len(self.running) > 1 and not (retracted and self._decodes_fit(self.running)):
                retracted.append(self.running.pop())
                retracted[-1].preempt()
            emitted = sum(seq.emitted for seq in self.running)
            allowed = sum(seq.req.limit for seq in self.running)
            self.ratio = min(1.0, (emitted + RETRACT_DECODE_STEPS * len(self.running)) / (allowed + 1))
            self.waiting += retracted
            self.full = False
        for seq in self.running:
            seq.blocks = self.memory.blocks(seq.computed + 1)
        return retracted

    def _decodes_fit(self, seqs: list[Seq]) -> bool:
        pages = sum(seq.computed % self.page == 0 for seq in seqs)
        return pages * self.page <= self._free_tokens()

    def _free_tokens(self) -> int:
        holders = [*self.running, *([self.chunked] if self.chunked else [])]
        return (self.memory.num_blocks - sum(seq.blocks for seq in holders)) * self.page
