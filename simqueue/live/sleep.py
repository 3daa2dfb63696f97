"""`SleepExecutor`: a device that is pretended, and takes the time that a cost model says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from simqueue.cost.base import Timing
from simqueue.cost.noise import NoisyCost, Spread
from simqueue.live.executor import Emitted, Tokens, now_ns
from simqueue.plan import Work
from simqueue.system import CostSpec
from simqueue.units import Grid, grid_for

# The operating system wakes a sleeper this late, about; the rest is waited for awake.
_OVERSLEPT_NS = 200_000
VOCABULARY = 50_257
# What runs, and on what.
NOWHERE = {"runner": "sleep", "model": "none", "gpu": "none"}


class SleepExecutor:
    """Runs any policy without a device: a step lasts what ``cost`` says, times a draw of ``spread`` where there is one.

    Its tokens can be told beforehand: see `token`.
    """

    iteration_level = True
    streams = True
    vocabulary = VOCABULARY

    def __init__(
        self,
        cost: CostSpec,
        spread: Spread | None = None,
        *,
        seed: int = 0,
        max_rows: int = 1 << 20,
        window: int = 1 << 20,
    ) -> None:
        grid = grid_for(cost.coefficients(), 0.0)
        exact = cost.on(grid)
        self._cost: Timing = exact if spread is None else NoisyCost(exact, spread, np.random.SeedSequence(seed))
        self._grid: Grid = grid
        # Of the prompt, but of none who is held.
        self._left: dict[int, int] = {}
        self._emitted: dict[int, int] = {}
        self._due_ns = 0
        self._begun = False
        self._still: set[int] = set()
        self.max_rows, self.window = max_rows, window

    def begin(self, request: int, prompt: Tokens) -> None:
        """A request is on the device; nothing of its prompt is computed yet."""
        self._left[request] = len(prompt)
        self._emitted[request] = 0

    def launch(self, chunks: Sequence[tuple[int, int]], work: Work) -> None:
        """Note when the step will be over; where it has begun, that was when the last one was over."""
        begin = self._due_ns if self._begun else now_ns()
        self._begun = False
        self._still = {request for request, left in self._left.items() if left == 0} if work.paused else set()
        for request, tokens in chunks:
            self._left[request] -= tokens
        self._due_ns = begin + self._cost.step(work) * 10**9 // self._grid.ticks_per_s

    def ahead(self, leaving: Sequence[int]) -> None:
        """The next step begins by itself if anybody decodes in it."""
        self._begun = any(left == 0 and request not in leaving for request, left in self._left.items())

    def collect(self, stopped: Callable[[], bool]) -> list[Emitted]:
        """Sleep until then, the last part awake."""
        while (left := self._due_ns - now_ns()) > 0:
            time.sleep(max(0, left - _OVERSLEPT_NS) / 1e9)
        requests = [request for request, left in self._left.items() if left == 0 and request not in self._still]
        tokens = [token(request, self._emitted[request]) for request in requests]
        for request in requests:
            self._emitted[request] += 1
        return [Emitted(now_ns(), requests, tokens)]

    def end(self, requests: Sequence[int]) -> None:
        """These requests leave the device; a step that has begun with nobody else is of no account."""
        for request in requests:
            del self._emitted[request]
            self._left.pop(request, None)
        self._begun = self._begun and 0 in self._left.values()

    def hold(self, request: int, known: Tokens, *, on_host: bool) -> None:
        """It decodes no more until `go_on`."""
        del self._left[request]
        self._begun = self._begun and 0 in self._left.values()

    def go_on(self, request: int) -> None:
        """It decodes again."""
        self._left[request] = 0

    def describe(self) -> Mapping[str, str]:
        """That nothing runs here."""
        return NOWHERE


def token(request: int, position: int) -> int:
    """What a `SleepExecutor` answers at a position of a request: other requests, other tokens."""
    return (request * 7919 + position * 31 + 1) % VOCABULARY
