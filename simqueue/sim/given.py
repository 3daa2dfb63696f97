"""What a driver is given: a system on a time grid, and what its core, its door and its clients are to know."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.cost.base import StepCost
from simqueue.cost.noise import Spread
from simqueue.errors import ConfigError
from simqueue.lag import Lag, on_grid
from simqueue.record import NEVER, Column, Requests
from simqueue.replica import block_bytes
from simqueue.sim.door import Limits
from simqueue.sim.driver import Delays
from simqueue.source import Columns, Sessions, Source, Users
from simqueue.system import System
from simqueue.units import INT64_MAX, Grid
from simqueue.workload import Workload
from simqueue.workload.conversations import following


class Bound(NamedTuple):
    """A system on a time grid."""

    system: System
    grid: Grid
    cost: StepCost
    spread: Spread | None
    seed: np.random.SeedSequence


# What to do with what was given in place of something else.
_REMEDIES = {
    ("WorkloadSpec", "Workload"): "draw its requests with make_workload(spec, seed)",
    ("Cluster", "System"): "use simulate_cluster",
    ("Disaggregation", "System"): "use simulate_disaggregated",
    ("System", "Cluster"): "use simulate",
    ("Disaggregation", "Cluster"): "use simulate_disaggregated",
    ("System", "Disaggregation"): "use simulate",
    ("Cluster", "Disaggregation"): "use simulate_cluster",
}


def expect(given: object, wanted: type) -> None:
    """Refuse an argument of another type. Raises ConfigError, which says what would do."""
    if not isinstance(given, wanted):
        name, kind = type(given).__name__, wanted.__name__
        remedy = _REMEDIES.get((name, kind), f"make one with simqueue.{kind}")
        raise ConfigError(f"run: a {name} is given where a {kind} is needed: {remedy}")


@contextmanager
def fits(grid: Grid) -> Iterator[None]:
    """Refuse a run that leaves 64-bit time. Raises ConfigError."""
    try:
        yield
    except (OverflowError, struct.error):
        raise ConfigError(
            f"the run lasts longer than the {grid.horizon_s:.3g} s that 64-bit time holds on the grid of this cost: "
            "use fewer requests, or smaller costs and overheads"
        ) from None


def requests_of(bound: Bound, workload: Workload, arrival: Column) -> Requests:
    """What a core may know of each request; ``arrival``: ticks, at the client. Raises ConfigError."""
    extra = workload.extra
    return Requests(
        later(arrival, bound.grid.ticks(bound.system.overheads.request_path_s)),
        workload.prompt_tokens,
        workload.output_tokens,
        _tokens(extra.get("max_output_tokens")),
        _tokens(extra.get("predicted_output_tokens")),
        _hashes(bound, extra),
        _traits(bound, extra),
        _patience(bound, extra),
        adopted=workload.meta["adopted"],
    )


def source_of(workload: Workload, grid: Grid, requests: Requests, there: int = 0, back: int = 0) -> Source:
    """When requests come; ``there``, ``back``: ticks from a client to the queue, and from the server to it.

    Where arrivals depend on answers it fills in ``requests.arrival``; sessions put all columns in their order.
    """
    if not workload.waits:
        return Columns(requests.arrival)
    extra = workload.extra
    think: list[int] = grid.column(extra["think_s"]).tolist()
    if workload.closed_loop:
        return Users(requests.arrival, think, workload.meta["users"], there, back)
    return Sessions(requests, following(extra["session"], extra["turn"]).tolist(), think, there, back)


def delays_of(bound: Bound) -> Delays:
    """The overheads that a driver spends itself. Raises ConfigError where a policy swaps and has no bandwidth."""
    ticks, over = bound.grid.ticks, bound.system.overheads
    return Delays(
        handover=ticks(over.handover_s),
        handover_per_request=ticks(over.handover_per_request_s),
        timer_late=ticks(over.timer_late_s),
        response_per_row=ticks(over.response_per_row_s),
        wake=_lag(over.wake_s, bound.grid),
        start=_lag(over.start_s, bound.grid),
        move=_move(bound),
    )


def limits_of(bound: Bound) -> Limits:
    """Whom the server turns away."""
    admission, ticks = bound.system.admission, bound.grid.ticks
    if admission is None:
        return Limits()
    longest_s = admission.max_predicted_ttft_s
    return Limits(admission.max_queue, None if longest_s is None else ticks(longest_s))


def later(column: Column, ticks: int | Column) -> Column:
    """So many ticks later. NumPy wraps around without a word; raises OverflowError in its place."""
    if int(column.max()) + int(np.max(ticks)) > INT64_MAX:
        raise OverflowError
    return column + ticks


def _move(bound: Bound) -> int:
    """Ticks that a block takes to the host or back."""
    memory = bound.system.memory
    if getattr(bound.system.policy, "preemption", "recompute") != "swap" or memory is None:
        return 0
    if memory.swap_gib_per_s is None:
        raise ConfigError("memory: the policy swaps, and swap_gib_per_s is missing: give the bandwidth to the host")
    return bound.grid.ticks(block_bytes(bound.system) / (memory.swap_gib_per_s * 2**30))


def _lag(lag: Lag, grid: Grid) -> Callable[[int], int] | None:
    return on_grid(lag, grid) if lag else None


def _hashes(bound: Bound, extra: Mapping[str, Any]) -> list[list[int]] | None:
    """Numbers of blocks, where somebody looks at them."""
    if bound.system.memory is None or not bound.system.memory.prefix_caching:
        return None
    if "hash_ids" not in extra:
        raise ConfigError(
            "memory: prefix_caching = true, but the workload has no hash_ids, which say what prompts share: take "
            "sessions or a trace that has them, or leave prefix_caching out"
        )
    return [[int(number) for number in ids.split()] for ids in extra["hash_ids"].tolist()]


def _patience(bound: Bound, extra: Mapping[str, Any]) -> list[int] | None:
    """Counted at the queue: nobody is seen to give up before the request is there."""
    if "patience_s" not in extra:
        return None
    endless = extra["patience_s"] >= bound.grid.horizon_s
    ticks = bound.grid.column(np.where(endless, 0, extra["patience_s"]))
    left = np.maximum(0, ticks - bound.grid.ticks(bound.system.overheads.request_path_s))
    return [NEVER if never else at for never, at in zip(endless.tolist(), left.tolist(), strict=True)]


def _traits(bound: Bound, extra: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    traits: dict[str, Sequence[Any]] = {name: extra[name].tolist() for name in ("priority", "client") if name in extra}
    if "ttft_slo_s" in extra:
        endless = np.isinf(extra["ttft_slo_s"])
        ticks = bound.grid.column(np.where(endless, 0, extra["ttft_slo_s"]))
        traits["ttft_slo"] = np.where(endless, INT64_MAX, ticks).tolist()
    return traits


def _tokens(column: NDArray[np.int64] | None) -> Sequence[int] | None:
    return None if column is None else column.tolist()
