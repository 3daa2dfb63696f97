"""What one replica of a cluster did, as a `Result` of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.fates import Fates
from simqueue.record import Column, Leaps, Requests
from simqueue.replica import may_turn_away
from simqueue.result import Result
from simqueue.sim.given import Bound
from simqueue.sim.simulate import gathered, saturation_rps
from simqueue.system import System
from simqueue.workload import Workload


class Served(NamedTuple):
    """What a driver of one replica filled in: the rows of the cluster's workload that it was sent, by its own ids; and
    how often the replica had failed before."""

    replica: int
    rows: Column
    requests: Requests
    leaps: Leaps
    life: int


@dataclass(frozen=True)
class Share:
    """The requests that one replica served.

    Attributes:
        replica: its number.
        rows: int64 ``(its requests,)``: their rows in the cluster's workload, in order of its own arrivals.
        result: the same requests as a run of their own; a request's id is its place in ``rows``.
    """

    replica: int
    rows: Column
    result: Result

    def cut(self, warmup: int, until: int | None) -> Share:
        """With figures of the rows from ``warmup`` on and before ``until``."""
        end = None if until is None else _first_from(self.rows, until)
        return replace(self, result=self.result.cut(_first_from(self.rows, warmup), end))


def _first_from(rows: Column, row: int) -> int:
    """How many requests come before the first of this row or a later one."""
    return int(np.argmax(np.append(rows, row) >= row))


def share_of(served: Served, bound: Bound, workload: Workload, warmup: int, about: Mapping[str, Any]) -> Share:
    """From what a driver filled in. ``warmup``: the first so many rows of the cluster's workload count nowhere.
    ``about``: the provenance of the system."""
    rows, requests, leaps = served.rows, served.requests, served.leaps
    system, grid = bound.system, bound.grid
    arrival = np.array(requests.arrival[:-1], np.int64) - grid.ticks(system.overheads.request_path_s)
    columns = {name: column[rows] for name, column in workload.columns.items()}
    if (arrival != grid.column(columns["arrival_s"])).any():
        # Some come from replicas that failed: later, and perhaps with other lengths.
        columns["arrival_s"] = grid.seconds(arrival)
        columns["prompt_tokens"], columns["output_tokens"] = np.array(requests.prompt), np.array(requests.output)
    mine = part_of(workload, columns)
    result = gathered(
        *(bound, mine, arrival, requests, leaps),
        warmup=_first_from(rows, warmup),
        saturation=lambda: saturation_rps(workload, system),
        about=about,
        fates=Fates.of(requests) if _may_fail(system, requests) else None,
    )
    return Share(served.replica, rows, result)


def part_of(workload: Workload, columns: Mapping[str, NDArray[Any]]) -> Workload:
    """Some of the rows, as they came, whose rate is that at their own span."""
    meta = {**workload.meta, "requests": len(columns["arrival_s"]), "rate": None, "users": None, "sessions": False}
    return Workload.of(dict(columns), meta)


def _may_fail(system: System, requests: Requests) -> bool:
    """Whether something else can happen to requests than that they are answered."""
    return may_turn_away(system) or requests.patience is not None or bool(requests.outcome)
