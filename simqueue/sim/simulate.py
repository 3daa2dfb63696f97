"""`simulate`: a workload through a system in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec
import numpy as np

from simqueue import metrics
from simqueue.checks import at_least
from simqueue.cost.base import UNLIMITED, Timing
from simqueue.cost.noise import NoisyCost, NoNoise
from simqueue.cost.profile import Measured
from simqueue.errors import ConfigError, ProfileError
from simqueue.fates import Fates
from simqueue.provenance import provenance
from simqueue.record import Column, Leaps, Outcome, Requests, settle
from simqueue.replica import check_order, core, is_paged, longest_context, may_turn_away, memory_remedy, turns_away
from simqueue.result import Result
from simqueue.sim.driver import drive
from simqueue.sim.given import Bound, delays_of, expect, fits, later, limits_of, requests_of, source_of
from simqueue.sim.shortcut import shortcut
from simqueue.sim.steps import Durations, spread_of, with_prefill
from simqueue.source import Columns, Sessions, Source
from simqueue.system import System
from simqueue.units import grid_for
from simqueue.workload import Workload

# Random streams, kept apart from those of the workload: children of the seed by purpose and replica.
_NOISE = 1 << 16
# So many requests tell the saturation throughput to about half a percent.
SATURATING = 20_000


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
    with fits(bound.grid):
        requests = requests_of(bound, workload, arrival)
        ticks, over = bound.grid.ticks, system.overheads
        paths = ticks(over.request_path_s), ticks(over.response_path_s)
        source = source_of(workload, bound.grid, requests, *paths) if workload.waits else None
        leaps = run(bound, workload, requests, source, longest_leap)
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
        table["paused"][list(leaps.paused)] = list(leaps.paused.values())
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
        durations=Durations(table, system.cost, system.noise, system.overheads, bound.grid, bound.seed),
        saturation_rps=saturation,
        provenance=about,
        fates=fates,
    )


def _fates(system: System, requests: Requests, warmup: int) -> Fates | None:
    """Where something else can happen to requests than that they are answered. Raises ConfigError if nobody was."""
    if not may_turn_away(system) and requests.patience is None:
        return None
    fates = Fates.of(requests)
    if fates.completed[warmup:].any():
        return fates
    raise ConfigError(unanswered(fates.counts(warmup), system, requests))


def unanswered(outcomes: Mapping[str, int], system: System, requests: Requests) -> str:
    """Why there are no figures, and what would help: of ``system`` and what it was sent, of which nothing was answered.
    ``outcomes``: how many met with which."""
    met = {name: count for name, count in outcomes.items() if count}
    if is_paged(system) and system.admission is None and met.keys() == {"rejected"}:
        return f"memory: none of {met['rejected']} requests ever fits it: {memory_remedy(system, requests)}"
    listed = ", ".join(f"{count} {name}" for name, count in met.items())
    return f"no request was answered ({listed}), so there are no figures: lower the load or the warm-up"


def saturation_rps(workload: Workload, system: System) -> float:
    """Requests per second that ``system`` finishes when every request waits from the start.

    Taken between the first tenth of the requests and the last admission, so that neither the filling nor the draining
    counts; noise has mean 1 and is left out. At most 20,000 requests of ``workload`` are used. That is what a queue
    that grows is served at, but for policies that work otherwise when many wait (docs/design.md, "Unstable").
    """
    workload = fitted(workload, system)
    workload = workload.head(min(len(workload), SATURATING))
    try:
        return _saturate(workload, system)
    except ProfileError:
        # Unlimited batches leave what was measured; where the capacity lies is then an extrapolation.
        cost = system.cost
        if not isinstance(cost, Measured) or cost.extrapolate:
            raise
        return _saturate(workload, msgspec.structs.replace(system, cost=cost.extrapolated()))


def _saturate(workload: Workload, system: System) -> float:
    policy = system.policy.lenient if turns_away(system.policy) else system.policy  # type: ignore[attr-defined]
    quiet = msgspec.structs.replace(system, policy=policy, noise=NoNoise(), admission=None)
    bound = bind(quiet, workload, 0)
    with fits(bound.grid):
        requests = requests_of(bound, workload, np.zeros(len(workload), np.int64))
        requests.patience = None
        leaps = run(bound, workload, requests, None, UNLIMITED)
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
    last_s = last_arrival_s(workload)
    grid = grid_for(system.cost.coefficients(), 4 * last_s)
    if grid.horizon_s < last_s:
        raise ConfigError(
            f"the last arrival, at {last_s:.3g} s, is beyond the {grid.horizon_s:.3g} s that 64-bit time holds on a "
            "grid fine enough for this cost: use fewer requests or a higher rate"
        )
    spread = spread_of(system.cost, system.noise)
    noise_seed = np.random.SeedSequence(seed, spawn_key=(_NOISE, 0))
    with fits(grid):
        return Bound(system, grid, system.overheads.around(system.cost.on(grid), grid), spread, noise_seed)


def last_arrival_s(workload: Workload) -> float:
    """When the last request arrives; in a closed loop about when it would if every answer came at once."""
    if workload.closed_loop:
        think_s = workload.extra["think_s"]
        return float(max(think_s.sum() / workload.meta["users"], think_s.max()))
    return float(workload.arrival_s[-1])


def run(bound: Bound, workload: Workload, requests: Requests, source: Source | None, longest_leap: int) -> Leaps:
    """Drive one replica until every request has finished; fills in ``requests``. ``source``: who waits for answers;
    None if nobody does, and arrivals are known."""
    if source is None:
        if longest_leap >= UNLIMITED and (leaps := shortcut(bound, requests)):
            return leaps
        source = Columns(requests.arrival)
    cost: Timing = bound.cost if bound.spread is None else NoisyCost(bound.cost, bound.spread, bound.seed)
    hash_tokens = workload.meta["hash_block_tokens"]
    engine = core(bound.system, requests, bound.grid, hash_tokens=hash_tokens, track_extremes=cost.needs_longest)
    delays, limits = delays_of(bound), limits_of(bound)
    return drive(engine, requests, source, cost, delays, limits=limits, longest_leap=longest_leap)


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
    return later(ends, late)


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
    """The workload cut to the model's context by its own rule.

    Raises:
        ConfigError: one of them is something else.
        WorkloadError: the rule refuses.
    """
    expect(workload, Workload)
    expect(system, System)
    limit = longest_context(system)
    if limit is None:
        return workload
    return workload.fit_context(limit, workload.overlong)
