"""The columns that a run reads and fills: one row a request, one row a leap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from io import BytesIO
from struct import Struct
from types import MappingProxyType
from typing import Any, Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.units import INT64_MAX

Column = NDArray[np.int64]
Outcome = Literal["completed", "rejected", "abandoned", "cancelled", "failed"]
"""What became of a request: answered; refused, since it can never fit or by the rule of the server; its client lost
patience; its client went away for another reason; the server failed it."""

# The arrival after the last.
NEVER = 1 << 200


class Requests:
    """What the engine knows of each request, by id in order of arrival, and what it finds out. Ticks and tokens.

    Plain lists, made when first asked for: their items are read from Python twice as fast as those of flat arrays.

    Attributes:
        known: arrival, prompt and output as arrays, as they were given.
        arrival: when it reaches the queue; one more entry than requests, `NEVER`.
        prompt, output: its lengths. ``output`` is for the engine alone; policies never see it.
        max_output, predicted_output: what policies may see of the output instead, where the workload has it.
        scheduled, first_token, finished: written by the engine where they do not follow from the leap that admitted
            the request from the head of the queue (`settle` fills in those that do); -1 until then.
        traits: by name what else a policy may know: ``priority`` (whole numbers, the smaller the more urgent),
            ``client`` (a name), ``ttft_slo`` (ticks).
        hashes: of each request's full units of tokens, each of all tokens up to its end, where a prefix cache wants
            them.
        adopted: whether they come with the cache of their prompts, all but for the last token, which were computed
            elsewhere.
        patience: ticks from its coming to the queue until its client gives up, if it has no first token then; `NEVER`
            if it does not.
        outcome: of those that were not served to their end, why.
        preemptions, recomputed, cached: by request, where it is not 0: how often it lost its seat, prompt or output
            tokens that were computed again for it, and tokens that the prefix cache spared it.
        spells: ``(request, when it lost its seat, when it had one again, when its next token came)``, of those that
            were preempted while they decoded.
    """

    def __init__(
        self,
        arrival: Column,
        prompt: Column,
        output: Column,
        max_output: Sequence[int | None] | None = None,
        predicted_output: Sequence[int | None] | None = None,
        hashes: Sequence[Sequence[int]] | None = None,
        traits: Mapping[str, Sequence[Any]] = MappingProxyType({}),
        patience: Sequence[int] | None = None,
        *,
        adopted: bool = False,
    ) -> None:
        self.count = len(arrival)
        self.known = arrival, prompt, output
        self.max_output = max_output
        self.predicted_output = predicted_output
        self.hashes = hashes
        self.traits = traits
        self.patience = patience
        self.adopted = adopted
        self.scheduled: dict[int, int] = {}
        self.first_token: dict[int, int] = {}
        self.outcome: dict[int, Outcome] = {}
        self.preemptions: Counter[int] = Counter()
        self.recomputed: Counter[int] = Counter()
        self.cached: dict[int, int] = {}
        self.spells: list[tuple[int, int, int, int]] = []

    @cached_property
    def arrival(self) -> list[int]:
        """See above."""
        return [*self.known[0].tolist(), NEVER]

    @cached_property
    def prompt(self) -> list[int]:
        """See above."""
        return list(self.known[1].tolist())

    @cached_property
    def output(self) -> list[int]:
        """See above."""
        return list(self.known[2].tolist())

    @cached_property
    def finished(self) -> list[int]:
        """See above."""
        return [-1] * self.count

    @property
    def columns(self) -> list[list[Any]]:
        """What requests bring with them, by id: a source that finds out their order puts these into it."""
        known = (self.max_output, self.predicted_output, self.hashes, self.patience, *self.traits.values())
        brought = (self.prompt, self.output, *known)
        return [column for column in brought if isinstance(column, list)]


class Known(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a request says of itself beside its prompt, for policies and orders to look at.

    Attributes:
        max_output: the most tokens that it asks for.
        predicted_output: how many it is thought to get.
        priority: the smaller the more urgent.
        client: whose it is.
        ttft_slo: ticks within which its first token is wanted.
    """

    max_output: int | None = None
    predicted_output: int | None = None
    priority: int = 0
    client: str = ""
    ttft_slo: int = INT64_MAX


_NOTHING = Known()


class OpenRequests(Requests):
    """Requests that are not known before they come, nor how many: a live run's."""

    def __init__(self) -> None:
        empty = np.zeros(0, np.int64)
        self._known: dict[str, list[Any]] = {name: [] for name in Known.__struct_fields__}
        traits = dict(self._known)
        super().__init__(empty, empty, empty, traits.pop("max_output"), traits.pop("predicted_output"), traits=traits)
        self.count = -1

    def append(self, arrival: int, prompt: int, output: int, known: Known = _NOTHING) -> int:
        """One more has come; returns its id."""
        self.arrival[-1:] = [arrival, NEVER]
        self.prompt.append(prompt)
        self.output.append(output)
        self.finished.append(-1)
        for name, column in self._known.items():
            column.append(getattr(known, name))
        return len(self.prompt) - 1


STEP_FIELDS = ("start", "steps", "first", "total", "admitted", "rows", "context", "longest")

_ROW = Struct(f"{len(STEP_FIELDS)}q")
leap_row = _ROW.pack
"""A leap, by its numbers in the order of `STEP_FIELDS`, as bytes: cheaper to make and keep than a tuple, and NumPy's
columns as they are. Raises struct.error if one of them leaves 64 bits."""


class Leaps:
    """One row a leap: ``steps`` forward passes from ``start``, ``total`` ticks in all.

    ``rows`` decode (or are held), with ``context`` tokens in the cache, ``longest`` in one of them. If the first step
    prefills it lasts ``first`` ticks (0 otherwise), with ``admitted`` requests from the head of the queue; ``chunks``
    maps a leap's number to ``(rows, new tokens, context, widest)`` where the policy named what to prefill; ``paused``
    has the numbers of those in which rows that decode do not go on, and how many.
    """

    def __init__(self) -> None:
        self.chunks: dict[int, tuple[int, int, int, int]] = {}
        self.paused: dict[int, int] = {}
        self._table: Column | None = None
        self._rows = BytesIO()
        # Appends one leap, as `leap_row` has it; a method of its own would cost as much again.
        self.append: Callable[[bytes], object] = self._rows.write

    @classmethod
    def of(cls, table: Column, chunks: dict[int, tuple[int, int, int, int]]) -> Self:
        """Of all rows at once, as int64 ``(len(STEP_FIELDS), leaps)``."""
        leaps = cls()
        leaps.chunks, leaps._table = chunks, table
        return leaps

    def add_pause(self, rows: int) -> None:
        """In the leap that is appended next, so many rows that decode do not go on."""
        self.paused[self._count] = rows

    def add_chunks(self, chunks: tuple[int, int, int, int]) -> None:
        """The first step of the leap that is appended next prefills what the policy named."""
        self.chunks[self._count] = chunks

    @property
    def _count(self) -> int:
        return self._rows.tell() // _ROW.size

    def columns(self) -> dict[str, Column]:
        """The rows as columns. Nothing can be appended while any of these is there."""
        table = self._table
        if table is None:
            table = np.frombuffer(self._rows.getbuffer(), np.int64).reshape(-1, len(STEP_FIELDS)).T
        return dict(zip(STEP_FIELDS, table, strict=True))


def settle(requests: Requests, leaps: dict[str, Column], *, with_batch: bool) -> tuple[Column, Column, Column]:
    """``(scheduled, first_token, finished)`` of every request, in ticks.

    Requests are admitted from the head of the queue in order of id, so that those that the engine wrote nothing about
    follow, in order, from the leaps' ``admitted``. ``with_batch``: answers leave when their batch ends.
    """
    admitted = leaps["admitted"]
    leap = np.repeat(np.arange(len(admitted)), admitted)
    scheduled = _with_written(leaps["start"][leap], requests.scheduled, requests.count)
    first_token = _with_written((leaps["start"] + leaps["first"])[leap], requests.first_token, requests.count)
    finished = np.array(requests.finished, np.int64)
    missing = finished < 0
    if missing.any():
        ends = _with_written(
            (leaps["start"] + leaps["total"])[leap], dict.fromkeys(requests.scheduled, 0), len(finished)
        )
        finished[missing] = ends[missing]
    return scheduled, finished if with_batch else first_token, finished


def _with_written(in_order: Column, written: dict[int, int], count: int) -> Column:
    if not written:
        return in_order
    column = np.empty(count, np.int64)
    known = np.zeros(count, bool)
    ids = np.fromiter(written, np.int64, len(written))
    known[ids] = True
    column[ids] = np.fromiter(written.values(), np.int64, len(written))
    column[~known] = in_order
    return column
