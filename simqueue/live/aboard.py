"""`Aboard`: who is on the device of a live run, with which tokens, and who of them does not decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from simqueue.errors import DeviceError
from simqueue.live.executor import Emitted, Executor, Holding, Tokens
from simqueue.paged import PagedEngine
from simqueue.plan import Work
from simqueue.policy.base import BatchingPolicy
from simqueue.replica import Core


class Aboard:
    """Puts requests on the device, sets them aside and takes them off, as the engine has decided.

    Attributes:
        held: who is there and does not decode, for having lost the seat or in this step alone.
    """

    def __init__(self, executor: Executor, policy: BatchingPolicy, engine: Core) -> None:
        self._executor = executor
        self._holding = executor if isinstance(executor, Holding) else None
        self._engine = engine
        self._swaps = getattr(policy, "preemption", "recompute") == "swap"
        self._prompts: dict[int, Tokens] = {}
        self._there: set[int] = set()
        # Prompt and output so far, where seats can be lost: then it is computed again, or kept.
        self._known: dict[int, list[int]] | None = {} if isinstance(engine, PagedEngine) else None
        self.held: set[int] = set()
        # Of these, who has lost the seat, and whose cache is on the host, so that it takes no row.
        self._seatless: set[int] = set()
        self._away: set[int] = set()

    def come(self, request: int, prompt: Tokens) -> None:
        """It waits, with this to compute."""
        self._prompts[request] = prompt

    def forget(self, request: int) -> None:
        """It waits no longer; of one whose client has gone the cache goes too, if that was kept."""
        self._prompts.pop(request, None)
        if request in self._seatless:
            self.end([request])

    def begin(self, chunks: Sequence[tuple[int, int]]) -> Iterator[int]:
        """Whoever is to prefill is on the device; yields those who were not before."""
        for request, _ in chunks:
            if request not in self._there:
                self._find_row()
                prompt = self._prompts.pop(request)
                if self._known is not None:
                    self._known[request] = prompt.tolist()
                self._executor.begin(request, prompt)
                self._there.add(request)
                yield request

    def reseat(self, work: Work) -> None:
        """Before a step: who loses the seat, who is left out, and who decodes again."""
        engine = self._engine
        self._drop(engine.dropped)
        if not (self.held or engine.kept or engine.skipped):
            return
        self._seatless.update(engine.kept)
        self._seatless.difference_update(engine.resumed)
        # Where nobody decodes nobody goes on.
        out = {*self._seatless, *engine.skipped, *(self.held if work.paused else ())}
        for request in sorted(out - self.held):
            self._hold(request)
        for request in sorted(self.held - out):
            self._go_on(request)
        self.held = out

    def emitted(self, step: Emitted) -> None:
        """Its tokens are known from now on."""
        if self._known is not None:
            for request, token in zip(step.requests, step.tokens, strict=True):
                self._known[request].append(token)

    def end(self, requests: Sequence[int]) -> None:
        """They leave the device."""
        self._executor.end(requests)
        for known in (self._there, self.held, self._seatless, self._away):
            known.difference_update(requests)
        if self._known is not None:
            for request in requests:
                del self._known[request]

    def end_all(self) -> None:
        """Nobody is there any more."""
        self._executor.end(sorted(self._there))

    def _find_row(self) -> None:
        rows, kept = self._executor.max_rows, len(self._seatless - self._away)
        if len(self._there) - len(self._away) < rows:
            return
        if kept:
            raise DeviceError(
                f"the policy keeps the caches of {kept} requests that lost their seats, and the executor has no more "
                f"than {rows} rows for them and for those who run: give it more (live.max_rows), lower "
                'memory.num_blocks, or take preemption = "swap"'
            )
        raise DeviceError(
            f"the policy runs more than the {rows} requests that the executor has room for: lower its limit, or give "
            "the executor more rows (live.max_rows)"
        )

    def _drop(self, requests: Sequence[int]) -> None:
        """They lose their seats: what is known of them is a prompt to compute again."""
        if self._known is not None and requests:
            for request in requests:
                self._prompts[request] = np.array(self._known[request], np.int64)
            self.end(requests)

    def _hold(self, request: int) -> None:
        """It keeps what is computed of it, and does not decode."""
        assert self._known is not None
        if self._holding is None:
            raise DeviceError("the policy leaves out some who decode, which the device cannot: run it simulated")
        self._holding.hold(request, np.array(self._known[request], np.int64), on_host=self._swaps)
        if self._swaps:
            self._away.add(request)

    def _go_on(self, request: int) -> None:
        assert self._holding is not None
        if request in self._away:
            self._find_row()
            self._away.remove(request)
        self._holding.go_on(request)
