"""SGLang: prefill first, memory promised by an estimate that learns, and retraction where it was too low."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.units import Grid

_IDLE = Wait()
_DECODE = Step()
_WHERE = "policy sglang"
# SGLANG_INIT_NEW_TOKEN_RATIO, SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR, SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS,
# SGLANG_RETRACT_DECODE_STEPS, SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION; and the queue that is too long to be matched.
_RATIO, _LEAST, _DECAY_STEPS, _RETRACT_STEPS, _CLIP, _LONG_QUEUE = 0.7, 0.14, 600, 20, 4096, 128


class Sglang(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sglang"):
    """SGLang 0.5.23, ``managers/scheduler.py`` and ``schedule_policy.py``: a step is either prompts or decoding, and
    prompts go first. Requests start in the order of ``schedule_policy`` (``fcfs``; ``lpm``: longest match in the
    prefix cache, as long as at most 128 wait; ``lof``: longest maximum output; ``shortest-prefill-first``) while
    seats (``max_running_requests``), tokens (``max_prefill_tokens``; a prompt beyond ``chunked_prefill_size`` is cut)
    and memory last: prompts, and of the maximum outputs of all a share, the new-token ratio. It begins at 0.7 times
    ``schedule_conservativeness``, falls with each decoding step to 0.14 of that within 600, and rises when there is
    too little: then those with the fewest tokens are retracted, to be computed again, and go to the end of the queue.

    ``chunked_prefill_size = None``: prompts are not cut. Left out: mixed chunks, priorities, overlap of scheduling
    and running, speculative decoding, what it takes for requests that ignore the end of a text. A request that can
    never have its maximum output is rejected (upstream cuts that output).
    """

    max_running_requests: int = 256
    chunked_prefill_size: int | None = 8192
    max_prefill_tokens: int = 16384
    schedule_policy: Literal["fcfs", "lpm", "lof", "shortest-prefill-first"] = "fcfs"
    schedule_conservativeness: float = 1.0
    paged: ClassVar[bool] = True
    mixes: ClassVar[bool] = False
    prefixes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_running_requests", self.max_running_requests, 1)
        at_least(_WHERE, "max_prefill_tokens", self.max_prefill_tokens, 1)
        if self.chunked_prefill_size is not None:
            at_least(_WHERE, "chunked_prefill_size", self.chunked_prefill_size, 1)
        if not 0 <= self.schedule_conservativeness < float("inf"):
            raise ConfigError(
                f"{_WHERE}: schedule_conservativeness = {self.schedule_conservativeness} must be at least 0"
            )

    def fits(self, view: PagedView, request: int, most: int) -> bool:
        """Whether there is room for its maximum output and a block."""
        return view.most_tokens(request) + view.block_size < view.total_blocks * view.block_size

    def decider(self, grid: Grid) -> SglangDecider:
        """The rule."""
        return SglangDecider(self)


class SglangDecider:
    """The scheduler between two steps.

    Attributes:
        waiting, running: who waits and who decodes, in its own orders.
        fresh: who was in the last step, if that was a prefill.
        chunked: whose prompt is half computed.
        full: no prompt starts before somebody has left.
        ratio: the share of the maximum outputs for which memory is promised, as of step ``decayed`` of the clock.
    """

    def __init__(self, policy: Sglang) -> None:
        self.policy = policy
        self.waiting: list[int] = []
        self.running: list[int] = []
        self.fresh: list[int] = []
        self.chunked: int | None = None
        self.full = False
        self.start = min(_RATIO * policy.schedule_conservativeness, 1.0)
        self.least = self.start * _LEAST
        self.decay = (self.start - self.least) / _DECAY_STEPS
        self.ratio, self.decayed, self.seen = self.start, 0, 0

    def decide(self, view: PagedView) -> Step | Wait:
        """Prompts, or decoding."""
        self._look(view)
        if not (self.waiting or self.running or self.chunked is not None):
            self.ratio = self.start
            return _IDLE
        if chunks := self._prefill(view):
            self.fresh = [request for request, _ in chunks]
            started = set(self.fresh)
            self.waiting = [i for i in self.waiting if i not in started]
            return Step(prefill=tuple(chunks), decode=False, lasts="step")
        if not self.running:
            return _IDLE
        if view.growth <= view.free_blocks:
            return _DECODE
        return self._retract(view)

    def _look(self, view: PagedView) -> None:
        """Who has come, who has gone, how far the ratio has fallen."""
        self.waiting += range(self.seen, view.arrived)
        self.seen = view.arrived
        if len(self.waiting) != view.waiting:
            here = set(view.queue())
            self.waiting = [i for i in self.waiting if i in here]
        before = self.running + self.fresh
        self.running = [i for i in before if i in view.seats and i not in view.prefilling]
        self.full = self.full and len(self.running) == len(before)
        self.fresh = []
        self.chunked = next(iter(view.prefilling), None)
        for _ in range(view.clock - self.decayed):
            if self.ratio == self.least:
                break
            self.ratio = max(self.ratio - self.decay, self.least)
        self.decayed = max(self.decayed, view.clock)

    def _prefill(self, view: PagedView) -> list[tuple[int, int]]:
        self.full = self.full and bool(self.running)
        if self.chunked is None:
            if self.full or not self.waiting:
                return []
            if len(self.running) >= self.policy.max_running_requests:
                self.full = True
                return []
        self._sort(view)
        room = _Room(view, self.policy, sum(self._promise(view, i) * self.ratio for i in self.running))
        chunks: list[tuple[int, int]] = []
        if self.chunked is not None:
            chunks.append((self.chunked, room.goes_on(self.chunked)))
        for request in self.waiting:
            state = room.state
            if state == "no tokens":
                break
            if len(chunks) >= self.policy.max_running_requests - len(self.running):
                self.full = True
            if self.full:
                break
            backlog, need = view.demand(request)
            found = room.found(backlog, need)
            wanted = backlog + found + self._promise(view, request) + room.page
            if not wanted < room.free - room.promised:
                self.full = bool(chunks or self.running)
                break
            tokens = room.starts(request, backlog, found, first=not chunks)
            if not tokens:
                break
            chunks.append((request, tokens))
            if room.state == "no memory":
                self.full = True
                break
        return chunks

    def _promise(self, view: PagedView, request: int) -> int:
        """Output that it may still have, as far as that is believed."""
        left = view.most_tokens(request) - view.prompt_tokens(request) - view.emitted(request)
        return min(left, _CLIP)

    def _sort(self, view: PagedView) -> None:
        """In place: who came later is put in its order among those who are there."""
        by = self.policy.schedule_policy
        if by == "lof":
            self.waiting.sort(key=lambda i: view.prompt_tokens(i) - view.most_tokens(i))
        elif by == "shortest-prefill-first":
            self.waiting.sort(key=view.backlog)
        elif by == "lpm" and len(self.waiting) <= _LONG_QUEUE:
            self.waiting.sort(key=lambda i: view.backlog(i) - view.prompt_tokens(i) - view.emitted(i))

    def _retract(self, view: PagedView) -> Step:
        """The fewest tokens go first, of those the longest prompts; at least one goes, and one stays."""
        rows = self.running
        rows.sort(key=lambda i: (view.emitted(i), -view.prompt_tokens(i)), reverse=True)
        out: list[int] = []
        free, growth = view.free_blocks, view.growth
        while len(rows) > 1 and (growth > free or not out):
            victim = rows.pop()
            out.append(victim)
            free += view.blocks(victim)
            growth -= view.grows(victim)
        self.waiting += out
        self.full = False
        emitted = sum(view.emitted(i) for i in rows)
        most = sum(view.most_tokens(i) - view.prompt_tokens(i) for i in rows)
        self.ratio = min(1.0, (emitted + _RETRACT_STEPS * len(rows)) / (most + 1))
        self.decayed = view.clock + 1
        return Step(preempt=tuple(out), lasts="step")


class _Room:
    """What is left for the prompts of one step, in tokens.

    Attributes:
        free: of memory; ``promised`` to outputs and to those who have started, ``taken`` by these.
    """

    def __init__(self, view: PagedView, policy: Sglang, promised: float) -> None:
        self.view, self.page = view, view.block_size
        self.free, self.promised, self.taken = view.free_blocks * self.page, promised, 0
        self.input = policy.max_prefill_tokens
        self.chunk = policy.chunked_prefill_size

    @property
    def state(self) -> str:
        """Whether more can start."""
        if self.free - self.promised <= 0 or self.free - self.taken <= 0:
            return "no memory"
        return "no tokens" if self.input <= 0 or (self.chunk is not None and self.chunk <= 0) else "room"

    def goes_on(self, request: int) -> int:
        """The next tokens of the prompt that is half computed."""
        rest = self.view.prefilling[request]
        assert self.chunk is not None
        limit = min(self.chunk, int(self.free - self.promised))
        tokens = min(rest, limit if limit > 0 else self.chunk)
        self._take(tokens, self._output(request) if tokens == rest else 0)
        return tokens

    def starts(self, request: int, backlog: int, found: int, *, first: bool) -> int:
        """The first tokens of a prompt, none if it has to wait."""
        whole = -(-backlog // self.page) * self.page
        if self.chunk is None:
            if not first and whole >= self.input:
                return 0
        elif whole > self.chunk:
            tokens = self.chunk // self.page * self.page
            if tokens:
                self._take(tokens, 0, found)
            return tokens
        self._take(backlog, self._output(request), found)
        return backlog

    def found(self, backlog: int, need: int) -> int:
        """Tokens in the prefix cache that nobody uses, and that it would: they are free no longer."""
        return (need - -(-backlog // self.page)) * self.page

    def _output(self, request: int) -> int:
        return min(self.view.most_tokens(request) - self.view.prompt_tokens(request), _CLIP)

    def _take(self, tokens: int, output: int, found: int = 0) -> None:
        tokens = -(-tokens // self.page) * self.page
        self.input -= tokens
        if self.chunk is not None:
            self.chunk -= tokens
        self.promised += tokens + found + self.page + output
        self.taken += tokens + found + self.page
