"""What the engine was told and what it answered in a live run, and the proof that it is the simulator's engine.

`replay` makes the same calls on a fresh engine: no plan may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import zip_longest

import msgspec

from simqueue.plan import Wait, Work
from simqueue.policy.base import BatchingPolicy
from simqueue.record import Known, OpenRequests, Requests
from simqueue.replica import Core, unlimited
from simqueue.units import Grid


class Submitted(msgspec.Struct, frozen=True, tag=True, gc=False):
    """A request came, in ticks and tokens, and what it says of itself."""

    arrival: int
    prompt: int
    output: int
    known: Known


class Rejected(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The one that has just come is turned away."""

    request: int


class Cancelled(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Its client went away."""

    request: int
    now: int


class Closed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """No request comes any more, or none before an answer is whole."""


class Opened(msgspec.Struct, frozen=True, tag=True, gc=False):
    """An answer is whole, and its user may come again."""


class Planned(msgspec.Struct, frozen=True, tag=True, gc=False):
    """What the engine answered, and which prompt tokens that computes."""

    now: int
    answer: Work | Wait
    prefill: Sequence[tuple[int, int]]


class Completed(msgspec.Struct, frozen=True, tag=True, gc=False):
    """The work ran, its steps ending then."""

    ends: Sequence[int]


Told = Submitted | Rejected | Cancelled | Closed | Opened | Completed
Entry = Told | Planned


def replay(
    journal: Sequence[Entry], policy: BatchingPolicy, grid: Grid, core: Callable[[Requests], Core] | None = None
) -> list[tuple[Planned, Planned | None]]:
    """The plans that a fresh engine makes otherwise: what was planned live, and what is planned now. ``core``
    makes that engine, where its memory is limited.

    After another plan the calls may make no sense any more: then it makes none of those that are left, each None.
    """
    live = (entry for entry in journal if isinstance(entry, Planned))
    again: list[Planned] = []
    # Whatever the engine, or a policy of anybody's, says to calls that make no sense.
    with suppress(Exception):
        for planned in _made_again(journal, core or partial(unlimited, policy, grid=grid)):
            again.append(planned)  # noqa: PERF402 - what was made before it failed counts
    return [(before, now) for before, now in zip_longest(live, again) if before != now]


def _made_again(journal: Iterable[Entry], core: Callable[[Requests], Core]) -> Iterator[Planned]:
    """The plans of a fresh engine to which the same is told."""
    requests = OpenRequests()
    engine = core(requests)
    for entry in journal:
        if isinstance(entry, Planned):
            yield plan(engine, entry.now)
        else:
            tell(engine, requests, entry)


def plan(engine: Core, now: int) -> Planned:
    """Ask the engine, and note its answer."""
    answer = engine.plan(now)
    return Planned(now, answer, tuple(engine.prefill) if isinstance(answer, Work) else ())


def tell(engine: Core, requests: OpenRequests, entry: Told) -> None:
    """Make the call that an entry is the record of."""
    match entry:
        case Submitted():
            engine.submit(requests.append(entry.arrival, entry.prompt, entry.output, entry.known) + 1)
        case Rejected():
            engine.refuse(entry.request)
        case Cancelled():
            engine.cancel(entry.request, entry.now)
        case Closed():
            engine.close()
        case Opened():
            engine.submit(len(requests.prompt))
        case Completed():
            ends = entry.ends
            engine.complete(len(ends), ends[0], ends[-1], ends)
            for request in engine.left:
                # What follows from the leap that admitted a request the engine does not write down.
                if requests.finished[request] < 0:
                    requests.finished[request] = ends[-1]
