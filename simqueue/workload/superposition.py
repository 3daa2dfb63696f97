"""Several classes of clients in one workload: their requests by time, each class drawn from streams of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simqueue.workload.clients import ClientClass, Drawn
from simqueue.workload.columns import Column
from simqueue.workload.streams import Streams, streams

_SHARES = ("prompt_clipped_share", "output_clipped_share")


def superposed(classes: Sequence[ClientClass], requests: int, seed: int) -> Drawn:
    """The first ``requests`` requests of all classes together; at one instant in the order of the classes."""
    arrival_s, place = _first_arrivals(classes, requests, seed)
    counts = np.bincount(place, minlength=len(classes))
    pairs = [(each, int(count)) for each, count in zip(classes, counts, strict=True) if count]
    parts = [_part(each, count, streams(seed, each.name)) for each, count in pairs]
    names = dict.fromkeys(name for part in parts for name in part.columns)
    by_class = np.argsort(place, kind="stable")
    columns = {name: _scattered(name, [part.columns for part in parts], by_class) for name in names}
    weights = [count / requests for _, count in pairs]
    shares = {name: sum(w * part.meta[name] for w, part in zip(weights, parts, strict=True)) for name in _SHARES}
    return Drawn({"arrival_s": arrival_s, **columns}, shares)


def rescaled(
    classes: Sequence[ClientClass], columns: Mapping[str, Column], factor: float, seed: int
) -> NDArray[np.float64]:
    """When each request would come at ``factor`` times the rate of its class, in seconds; any subset, in any order."""
    arrival_s = np.array(columns["arrival_s"])
    for each in classes:
        own = columns["client"] == each.name
        if own.any():
            arrival_s[own] = each.open.rescale(arrival_s[own], factor, streams(seed, each.name))
    return arrival_s


def _first_arrivals(
    classes: Sequence[ClientClass], requests: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The first arrivals of all, in seconds, sorted, and the place of each one's class among ``classes``.

    Each class is drawn as far as its share of the rate suggests; the one that is drawn the least far twice as far,
    until enough is known of all.
    """

    def times(place: int) -> NDArray[np.float64]:
        each = classes[place]
        return each.open.times(counts[place], streams(seed, each.name))

    rates = np.array([each.open.mean_rate for each in classes])
    counts: list[int] = np.ceil(1.05 * requests * rates / rates.sum() + 16).astype(np.int64).tolist()
    drawn = [times(place) for place in range(len(classes))]
    while sum(int(np.searchsorted(each, min(last[-1] for last in drawn))) for each in drawn) < requests:
        short = min(range(len(classes)), key=lambda place: drawn[place][-1])
        counts[short] *= 2
        drawn[short] = times(short)
    arrival_s = np.concatenate(drawn)
    place = np.repeat(np.arange(len(classes)), counts)
    order = np.argsort(arrival_s, kind="stable")[:requests]
    return arrival_s[order], place[order]


def _part(clients: ClientClass, requests: int, rng: Streams) -> Drawn:
    """The columns of one class but for the arrivals, and the shares that limits changed."""
    lengths = clients.drawn_lengths(requests, rng)
    said = {
        "client": np.full(requests, clients.name, object),
        "priority": np.full(requests, clients.priority),
        "ttft_slo_s": np.full(requests, math.inf),
        "tpot_slo_s": np.full(requests, math.inf),
    }
    known = clients.known(lengths.columns["output_tokens"], rng)
    return Drawn({**lengths.columns, **said, **known}, lengths.meta)


def _scattered(name: str, parts: Sequence[Mapping[str, Column]], rows: NDArray[np.intp]) -> Column:
    """One column of all, whose classes one after the other are at ``rows``. Only patience may be missing in some: they
    never give up."""
    made = [part.get(name, np.full(len(part["client"]), math.inf)) for part in parts]
    column = np.empty(len(rows), made[0].dtype)
    column[rows] = np.concatenate(made)
    return column
