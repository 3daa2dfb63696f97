"""What preemptive policies share: seats go to the first of a line, whoever has them now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, takewhile
from typing import Literal, NamedTuple, get_args

from simqueue.kv import Reserve
from simqueue.order.ranked import Entry, Ranked
from simqueue.policy.base import PagedView

Keeps = Literal["keep", "swap"]
"""What becomes of the cache of one that loses its seat: it stays where it is, or goes to the host and comes back."""

KEEPS = get_args(Keeps)


class Seating(NamedTuple):
    """Who goes on, who loses the seat, who gets it back, and who starts with how many tokens."""

    on: tuple[int, ...]
    preempt: tuple[int, ...]
    resume: tuple[int, ...]
    prefill: tuple[tuple[int, int], ...]


def reserve(preemption: Keeps) -> Reserve:
    """Caches that stay where they are could fill memory with requests none of which can go on: so each holds from the
    start what it takes at most."""
    return "max_cached" if preemption == "keep" else "computed"


def seat(view: PagedView, line: Iterable[int], rank: Callable[[int], Entry], seats: int, preemption: Keeps) -> Seating:
    """The first ``seats`` of ``line``, which is everybody by ``rank``, for whom there is memory. Behind a prompt for
    which there is none no other one starts, but who has a cache goes on."""
    swaps, running = preemption == "swap", view.seats
    free = view.free_blocks + (sum(view.blocks(i) for i in running) if swaps else 0)
    chosen: set[int] = set()
    resume: list[int] = []
    prefill: list[tuple[int, int]] = []
    rest = iter(line)
    while len(chosen) < seats and (request := next(rest, None)) is not None:
        runs = request in running
        starts = not (runs or view.preempted(request))
        tokens, need = (1, _goes_on(view, request, swaps)) if runs else view.demand(request)
        if need > free:
            if starts:
                rest = _cached_behind(view, request, rank)
            continue
        free -= need
        chosen.add(request)
        if starts:
            prefill.append((request, tokens))
        elif not runs:
            resume.append(request)
    on = tuple(i for i in running if i in chosen)
    preempt = tuple(i for i in running if i not in chosen)
    return Seating(on, preempt, tuple(resume), tuple(prefill))


def _cached_behind(view: PagedView, request: int, rank: Callable[[int], Entry]) -> Iterator[int]:
    """Those who run or have run, and come after a request: far fewer than all who wait."""
    cached = chain(view.seats, takewhile(view.preempted, view.queue()))
    return iter(sorted((i for i in cached if rank(i) > rank(request)), key=rank))


def keep_only(line: Ranked, here: set[int]) -> None:
    """Whoever was refused or went away leaves the line."""
    for request in [i for i in line if i not in here]:
        line.leave(request)


def _goes_on(view: PagedView, request: int, swaps: bool) -> int:
    """Blocks of all that somebody who runs needs to go on running."""
    return view.blocks(request) + view.grows(request) if swaps else 0
