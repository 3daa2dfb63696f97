"""What runs the steps: the one interface between the worker and a device, real or pretended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simqueue.plan import Work
from simqueue.units import Grid

Tokens = NDArray[np.int64]
now_ns: Callable[[], int] = time.monotonic_ns
"""The clock of the testbed: one for all processes of a machine, and it never goes back."""
GRID = Grid()
TICKS_PER_NS = GRID.ticks_per_s // 10**9


class Emitted(NamedTuple):
    """What one step gave: when its tokens were on the host (`now_ns`), and each request's token, in the same order.

    A request whose prompt is not complete yet is not listed.
    """

    end_ns: int
    requests: Sequence[int]
    tokens: Sequence[int]


class Executor(Protocol):
    """Owns the device. Called from one thread; decodes greedily.

    A request is on the device from `begin` to `end`. Every step, each request whose prompt is complete decodes one
    token, unless it is held (`Holding`); it does not know how long its answer will be.
    """

    @property
    def iteration_level(self) -> bool:
        """Whether requests can begin and end between any two steps; if not, only whole batches do."""

    @property
    def streams(self) -> bool:
        """Whether tokens are there as each step ends; if not, all of them when the call that ran a batch returns."""

    @property
    def max_rows(self) -> int:
        """The most requests that can be on the device."""

    @property
    def window(self) -> int:
        """The most tokens, prompt and output together, that a request can have."""

    @property
    def vocabulary(self) -> int:
        """Prompts are token ids from 0 up to this, excluded."""

    def begin(self, request: int, prompt: Tokens) -> None:
        """A request is on the device; nothing of its prompt is computed yet."""

    def launch(self, chunks: Sequence[tuple[int, int]], work: Work) -> None:
        """Start the step, without waiting for it: so many further prompt tokens of these requests, in this order, and
        a token of every other request whose prompt is complete, unless the plan pauses them. ``work`` is the plan; one
        that does not stream runs all its steps."""

    def ahead(self, leaving: Sequence[int]) -> None:
        """Behind the step that was launched, start what the next one decodes, without waiting for either: everybody who
        is on the device then with a whole prompt. Those of ``leaving`` are not, and `end` only says so once more.

        So the device has no pause between two steps; what the next plan adds, prompts, runs behind that. One that gains
        nothing from it does nothing."""

    def collect(self, stopped: Callable[[], bool]) -> list[Emitted]:
        """Wait for the steps that were launched; one entry for each. A call that runs many ends early once
        ``stopped()``. Raises `simqueue.errors.DeviceError` if the device cannot run them."""

    def end(self, requests: Sequence[int]) -> None:
        """These requests leave the device."""

    def describe(self) -> Mapping[str, str]:
        """What runs here, as in a profile's provenance: runner, model, weights, dtype, gpu, driver, cpu, python, torch,
        transformers, attention."""


@runtime_checkable
class Holding(Executor, Protocol):
    """A device on which requests can be left out of steps."""

    def hold(self, request: int, known: Tokens, *, on_host: bool) -> None:
        """It decodes no more until `go_on`. What is computed of it stays: all that is ``known``, prompt and output so
        far, but the last token; in its row, or ``on_host``, where it takes none."""

    def go_on(self, request: int) -> None:
        """It decodes again from the next step on, which has not begun (`Executor.ahead`)."""
