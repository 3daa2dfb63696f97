"""`simulate`: a workload through a system in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.checks import at_least
from simqueue.cost.base import UNLIMITED, StepCost, Timing
from simqueue.cost.noise import NoisyCost, NoNoise, Spread
from simqueue.cost.profile import Measured
from simqueue.errors import ConfigError, ProfileError
from simqueue.fates import Fates
from simqueue.lag import Lag, on_grid
from simqueue.provenance import provenance
from simqueue.record import NEVER, Column, Leaps, Outcome, Requests, settle
from simqueue.replica import block_bytes, check_order, core, is_paged, longest_context
from simqueue.result import Result
from simqueue.sim.door import Limits
from simqueue.sim.driver import Delays, drive
from simqueue.sim.steps import Durations, spread_of, with_prefill
from simqueue.source import Columns, Sessions, Source, Users
from simqueue.system import System
from simqueue.units import INT64_MAX, Grid, grid_for
from simqueue.workload import Workload
from simqueue.workload.conversations import following

# Random streams, kept apart from those of the workload: children of the seed by purpose and replica.
_NOISE = 1 << 16
# So many requests tell the saturation throughput to about half a percent.
_SATURATING = 20_000


class Bound(NamedTuple):
    """A system on a time grid."""

    system: System
    grid: Grid
    cost: StepCost
    spread: Spread | None
    seed: np.random.SeedSequence


def simulate(
    workload: Workload, system: System, *, seed: int = 0, warmup: int = 0, longest_leap: int = UNLIMITED
) -> Result:
    """Run ``workload`` through ``system`` until every request has finished.

    Args:
        workload: what arrives. Of a closed loop `Result.workload` has the arrivals that came of it, and of sessions
            also the rows in that order.
        system: policy, cost, noise, overheads.
        seed: of the noise (the workload has its own draws).
        warmup: leave the first so many requests by arrival out of every figure.
        longest_leap: at most so many steps an event; 1 steps one by one, with the same result.

    Raises:
        ConfigError: the parts do not go together, or the run does not fit 64-bit time.
        ProfileError: a step is outside what the profile measured.
        WorkloadError: a request does not fit the model's context.
        InvariantError: the policy breaks the contract of the scheduling core.
    """
    workload = fitted(workload, system)
    at_least("run", "warmup", warmup, 0)
    if warmup >= len(workload):
        raise ConfigError(f"run: warmup = {warmup} leaves none of {len(workload)} requests: lower it")
    bound = bind(system, workload, seed)
    arrival = bound.grid.column(workload.arrival_s)
    with _fits(bound.grid):
        requests = _requests(bound, workload, arrival)
        source = _source(bound, workload, requests)
        leaps = _run(bound, workload, requests, source, longest_leap)
        if workload.waits:
            arrival = np.array(requests.arrival[:-1], np.int64) - bound.grid.ticks(system.overheads.request_path_s)
            rows = source.rows if isinstance(source, Sessions) else None
            workload = workload.realised(bound.grid.seconds(arrival), rows)
        return gathered(
            *(bound, workload, arrival, requests, leaps),
            warmup=warmup,
            saturation=cache(lambda: saturation_rps(workload, system)),
            about=provenance(workload, system, seed, bound.grid),
            fates=_fates(system, requests, warmup),
        )


def gathered(
    bound: Bound,
    workload: Workload,
    arrival: Column,
    requests: Requests,
    leaps: Leaps,
    *,
    warmup: int,
    saturation: Callable[[], float],
    about: Mapping[str, Any],
    fates: Fates | None,
) -> Result:
    """The result of a run of one replica, from what its driver filled in. ``arrival``: ticks, at the client."""
    system = bound.system
    with_batch = getattr(system.policy, "release", "request") == "batch"
    columns = leaps.columns()
    scheduled, first_end, end = settle(requests, columns, with_batch=with_batch)
    table = with_prefill(columns, leaps.chunks, workload.prompt_tokens, requests.scheduled)
    if leaps.paused:
        table["paused"] = np.zeros(len(table["start"]), np.int64)
        table["paused"][leaps.paused] = 1
    first_token, finished = first_end, end
    # A replica of a cluster may have run no step.
    if len(table["start"]):
        first_token, finished = (_there(bound, table, at, requests.outcome) for at in (first_end, end))
        # What left the server later is not there earlier.
        finished = np.maximum(first_token, finished)
    return Result(
        workload=workload,
        grid=bound.grid,
        arrival=arrival,
        scheduled=scheduled,
        first_token=first_token,
        finished=finished,
        leaps=table,
        first_delivery=first_token - first_end,
        delivery=finished - end,
        with_batch=with_batch,
        warmup=warmup,
        durations=Durations(table, system.cost, system.noise, bound.grid, bound.seed),
        saturation_rps=saturation,
        provenance=about,
        fates=fates,
    )


def _fates(system: System, requests: Requests, warmup: int) -> Fates | None:
    """Where something else can happen to requests than that they are answered. Raises ConfigError if nobody was."""
    if not is_paged(system) and system.admission is None and requests.patience is None:
        return None
    fates = Fates.of(requests)
    if fates.completed[warmup:].any():
        return fates
    met = {name: count for name, count in fates.counts(warmup).items() if count}
    if system.admission is None and met.keys() == {"rejected"}:
        raise ConfigError(f"memory: none of {met['rejected']} requests ever fits it: give more blocks")
    listed = ", ".join(f"{count} {name}" for name, count in met.items())
    raise ConfigError(f"no request was answered ({listed}), so there are no figures: lower the load or the warm-up")


def saturation_rps(workload: Workload, system: System) -> float:
    """Requests per second that ``system`` finishes when every request waits from the start.

    Taken between the first tenth of the requests and the last admission, so that neither the filling nor the draining
    counts; noise has mean 1 and is left out. At most 20,000 requests of ``workload`` are used.
    """
    workload = fitted(workload, system)
    workload = workload.head(min(len(workload), _SATURATING))
    try:
        return _saturate(workload, system)
    except ProfileError:
        # Unlimited batches leave what was measured; where the capacity lies is then an extrapolation.
        cost = system.cost
        if not isinstance(cost, Measured) or cost.extrapolate:
            raise
        return _saturate(workload, msgspec.structs.replace(system, cost=cost.extrapolated()))


def _saturate(workload: Workload, system: System) -> float:
    quiet = msgspec.structs.replace(system, noise=NoNoise(), admission=None)
    bound = bind(quiet, workload, 0)
    with _fits(bound.grid):
        requests = _requests(bound, workload, np.zeros(len(workload), np.int64))
        requests.patience = None
        leaps = _run(bound, workload, requests, Columns(requests.arrival), UNLIMITED)
        scheduled, _, finished = settle(requests, leaps.columns(), with_batch=True)
    served = np.ones(len(finished), bool)
    served[list(requests.outcome)] = False
    return metrics.saturation_rps(
        scheduled[served],
        finished[served],
        bound.grid,
        whole_batches=not getattr(system.policy, "iteration_level", True),
    )


def bind(system: System, workload: Workload, seed: int) -> Bound:
    """Put a system on the grid that its costs and this workload's length need. Raises ConfigError."""
    check(system)
    last_s = _last_arrival_s(workload)
    grid = grid_for(system.cost.coefficients(), 4 * last_s)
    if grid.horizon_s < last_s:
        raise ConfigError(
            f"the last arrival, at {last_s:.3g} s, is beyond the {grid.horizon_s:.3g} s that 64-bit time holds on a "
            "grid fine enough for this cost: use fewer requests or a higher rate"
        )
    spread = spread_of(system.cost, system.noise)
    noise_seed = np.random.SeedSequence(seed, spawn_key=(_NOISE, 0))
    with _fits(grid):
        return Bound(system, grid, system.cost.on(grid), spread, noise_seed)


def _last_arrival_s(workload: Workload) -> float:
    """When the last request arrives; in a closed loop about when it would if every answer came at once."""
    if workload.closed_loop:
        think_s = workload.extra["think_s"]
        return float(max(think_s.sum() / workload.meta["users"], think_s.max()))
    return float(workload.arrival_s[-1])


def _requests(bound: Bound, workload: Workload, arrival: Column) -> Requests:
    extra = workload.extra
    return Requests(
        _later(arrival, bound.grid.ticks(bound.system.overheads.request_path_s)),
        workload.prompt_tokens,
        workload.output_tokens,
        _tokens(extra.get("max_output_tokens")),
        _tokens(extra.get("predicted_output_tokens")),
        _hashes(bound, extra),
        _traits(bound, extra),
        _patience(bound, extra),
        adopted=workload.meta["adopted"],
    )


def _source(bound: Bound, workload: Workload, requests: Requests) -> Source:
    """Where arrivals depend on answers it fills in ``requests.arrival``; sessions put all columns in their order."""
    if not workload.waits:
        return Columns(requests.arrival)
    ticks, over, extra = bound.grid.ticks, bound.system.overheads, workload.extra
    think: list[int] = bound.grid.column(extra["think_s"]).tolist()
    paths = ticks(over.request_path_s), ticks(over.response_path_s)
    if workload.closed_loop:
        return Users(requests.arrival, think, workload.meta["users"], *paths)
    return Sessions(requests, following(extra["session"], extra["turn"]).tolist(), think, *paths)


def _run(bound: Bound, workload: Workload, requests: Requests, source: Source, longest_leap: int) -> Leaps:
    ticks, over = bound.grid.ticks, bound.system.overheads
    cost: Timing = bound.cost if bound.spread is None else NoisyCost(bound.cost, bound.spread, bound.seed)
    hash_tokens = workload.meta["hash_block_tokens"]
    engine = core(bound.system, requests, bound.grid, hash_tokens=hash_tokens, track_extremes=cost.needs_longest)
    delays = Delays(
        handover=ticks(over.handover_s),
        handover_per_request=ticks(over.handover_per_request_s),
        timer_late=ticks(over.timer_late_s),
        response_per_row=ticks(over.response_per_row_s),
        wake=_lag(over.wake_s, bound.grid),
        start=_lag(over.start_s, bound.grid),
        move=_move(bound),
    )
    return drive(engine, requests, source, cost, delays, limits=_limits(bound), longest_leap=longest_leap)


def _limits(bound: Bound) -> Limits:
    admission, ticks = bound.system.admission, bound.grid.ticks
    if admission is None:
        return Limits()
    longest_s = admission.max_predicted_ttft_s
    return Limits(admission.max_queue, None if longest_s is None else ticks(longest_s))


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


def _there(bound: Bound, leaps: Mapping[str, Column], ends: Column, outcome: Mapping[int, Outcome]) -> Column:
    """When what left the server at these step ends is at the client, who knows at once of having given up."""
    ticks, over = bound.grid.ticks, bound.system.overheads
    delivery = ticks(over.response_path_s)
    late = np.full(len(ends), delivery)
    if per_row := ticks(over.response_per_row_s):
        # Who was refused after the last step got no token.
        leap = np.minimum(np.searchsorted(leaps["start"] + leaps["total"], ends), len(leaps["start"]) - 1)
        late += per_row * (leaps["rows"] + leaps["prefill_rows"])[leap]
    for request, fate in outcome.items():
        late[request] = 0 if fate == "abandoned" else delivery
    return _later(ends, late)


@contextmanager
def _fits(grid: Grid) -> Iterator[None]:
    """Refuse a run that leaves 64-bit time. Raises ConfigError."""
    try:
        yield
    except OverflowError:
        raise ConfigError(
            f"the run lasts longer than the {grid.horizon_s:.3g} s that 64-bit time holds on the grid of this cost: "
            "use fewer requests, or smaller costs and overheads"
        ) from None


def _later(column: Column, ticks: int | Column) -> Column:
    """NumPy wraps around without a word; raises OverflowError in its place."""
    if int(column.max()) + int(np.max(ticks)) > INT64_MAX:
        raise OverflowError
    return column + ticks


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


def check(system: System) -> None:
    """Refuse parts that do not go together. Raises ConfigError, or ProfileError if the profile cannot be used."""
    spread_of(system.cost, system.noise)
    is_paged(system)
    check_order(system)
    joins = getattr(system.policy, "iteration_level", True)
    if not joins:
        return
    if isinstance(system.cost, Measured) and not system.cost.profile.iteration_level:
        raise ConfigError(
            f"profile {system.cost.profile.name} was measured with the {system.cost.profile.runner} runner, whose "
            "requests cannot join or leave between steps: use a graph profile, or a run-to-completion policy"
        )
    over = system.overheads
    if over.handover_s or over.handover_per_request_s:
        raise ConfigError(
            "overheads: handover_s and handover_per_request_s stand between run-to-completion batches; a policy that "
            "works step by step has none: put the time between its steps into the cost"
        )


def fitted(workload: Workload, system: System) -> Workload:
    """The workload cut to the model's context by its own rule. Raises WorkloadError if that refuses."""
    limit = longest_context(system)
    if limit is None:
        return workload
    return workload.fit_context(limit, workload.overlong)
