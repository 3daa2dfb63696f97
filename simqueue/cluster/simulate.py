"""`simulate_cluster`: a workload through a cluster in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import simpy

from simqueue.checks import at_least
from simqueue.cluster.autoscaling import Scaler
from simqueue.cluster.breakdowns import Breakdowns
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.drive import Control, Dispatcher
from simqueue.cluster.fleet import Asked, Chooser, expected_tokens
from simqueue.cluster.inbox import Inbox
from simqueue.cluster.redraw import RedrawnCost
from simqueue.cluster.replica import Replica, Signals
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.share import Served, part_of, share_of
from simqueue.cost.base import UNLIMITED, Timing
from simqueue.errors import ConfigError
from simqueue.provenance import described, provenance
from simqueue.record import Column, Requests
from simqueue.replica import core
from simqueue.sim.driver import Delays
from simqueue.sim.simulate import Bound, _fits, _lag, _move, _requests, _run, bind, fitted, saturation_rps
from simqueue.source import Columns
from simqueue.units import Grid
from simqueue.workload import Workload

# Random streams of the router and of outages, apart from those of the workload and of the noise of each replica.
_ROUTER = 1 << 17
_OUTAGES = 1 << 18
_HIDDEN = "output_tokens"


def simulate_cluster(
    workload: Workload, cluster: Cluster, *, seed: int = 0, warmup: int = 0, longest_leap: int = UNLIMITED
) -> ClusterResult:
    """Run ``workload`` through ``cluster`` until every request has finished.

    Args:
        workload: what arrives at the router.
        cluster: the replicas, and who gets what.
        seed: of the router and of the noise of every replica, each with a stream of its own.
        warmup: leave the first so many requests by arrival out of every figure.
        longest_leap: at most so many steps an event; 1 steps one by one, with the same result.

    Raises:
        ConfigError, ProfileError, WorkloadError, InvariantError: as `simqueue.simulate` has them; and ConfigError
            where the workload lacks a column that the router needs, or is a closed loop.
    """
    workload = _checked(workload, cluster, warmup)
    bounds = bind_all(cluster, workload, seed)
    grid = bounds[0].grid
    with _fits(grid):
        arrival = grid.column(workload.arrival_s)
        chooser = cluster.router.chooser(_asked(workload, cluster, seed))
        fleet = None
        if cluster.blind:
            served = _apart(bounds, workload, arrival, chooser, longest_leap)
        else:
            fleet = _together(cluster, bounds, workload, arrival, chooser, seed, longest_leap)
            served = _served(fleet)
        about = {id(system): provenance(workload, system, seed, grid) for system in cluster.distinct}
        shares = [
            share_of(
                one, _reborn(bounds[one.replica], one.life), workload, warmup, about[id(cluster.systems[one.replica])]
            )
            for one in served
        ]
    result = ClusterResult.of(
        workload,
        grid,
        len(bounds),
        shares,
        warmup,
        ready=np.array(fleet.ready if fleet else [(0, len(bounds))], np.int64),
        replica_ticks=_replica_ticks(fleet) if fleet else None,
        saturation_rps=cache(lambda: cluster_saturation_rps(workload, cluster)),
        provenance=_provenance(cluster, about),
    )
    if not result.completed[warmup:].any():
        raise ConfigError(
            "cluster: no request was answered, so that there are no figures: let replicas fail less often"
        )
    return result


def cluster_saturation_rps(workload: Workload, cluster: Cluster) -> float:
    """Requests per second that all replicas finish together when each has requests waiting from the start."""
    each = {id(system): saturation_rps(workload, system) for system in cluster.distinct}
    return sum(each[id(system)] for system in cluster.systems)


def bind_all(cluster: Cluster, workload: Workload, seed: int) -> list[Bound]:
    """Every replica's system on one time grid, which is fine enough for all. Raises ConfigError."""
    bound = {id(system): bind(system, workload, seed) for system in cluster.distinct}
    grid = max((one.grid for one in bound.values()), key=lambda grid: grid.ticks_per_s)
    with _fits(grid):
        cost = {id(system): system.cost.on(grid) for system in cluster.distinct}
    first = bound[id(cluster.systems[0])].seed
    return [
        bound[id(system)]._replace(grid=grid, cost=cost[id(system)], seed=_child(first, replica))
        for replica, system in enumerate(cluster.systems)
    ]


def _child(seed: np.random.SeedSequence, replica: int) -> np.random.SeedSequence:
    """The noise of a replica: the stream that `simulate` uses for its only one, with another number."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key[:-1], replica))


def _checked(workload: Workload, cluster: Cluster, warmup: int) -> Workload:
    if workload.waits:
        raise ConfigError(
            "cluster: users who wait for their answers cannot be dealt to several replicas yet: use arrivals that come "
            "by themselves"
        )
    turns_away = any(system.admission is not None for system in cluster.systems) or "patience_s" in workload.extra
    if turns_away and not cluster.blind:
        raise ConfigError(
            "cluster: who gives up, or is turned away, is not known where replicas are looked at yet: use the router "
            "round-robin or random, or leave admission and patience_s out"
        )
    for system in cluster.distinct:
        workload = fitted(workload, system)
    at_least("run", "warmup", warmup, 0)
    if warmup >= len(workload):
        raise ConfigError(f"run: warmup = {warmup} leaves none of {len(workload)} requests: lower it")
    return workload


def _asked(workload: Workload, cluster: Cluster, seed: int) -> Asked:
    columns = {name: column for name, column in workload.columns.items() if name != _HIDDEN}
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ROUTER,)))
    return Asked(len(cluster.systems), columns, rng)


def _apart(
    bounds: Sequence[Bound], workload: Workload, arrival: Column, chooser: Chooser, longest_leap: int
) -> Iterator[Served]:
    """A router that looks at nothing has dealt before anything runs: each replica runs alone, on its own column."""
    signals = Signals(len(bounds))
    replica = np.array([chooser.choose(row, signals) for row in range(len(workload))])
    for number, bound in enumerate(bounds):
        rows = np.flatnonzero(replica == number)
        if len(rows):
            mine = part_of(workload, {name: column[rows] for name, column in workload.columns.items()})
            requests = _requests(bound, mine, arrival[rows])
            leaps = _run(bound, mine, requests, Columns(requests.arrival), longest_leap)
            yield Served(number, rows, requests, leaps, 0)


def _together(
    cluster: Cluster,
    bounds: Sequence[Bound],
    workload: Workload,
    arrival: Column,
    chooser: Chooser,
    seed: int,
    longest_leap: int,
) -> Dispatcher:
    """Replicas on one clock, and a router that looks at them."""
    env, signals = simpy.Environment(initial_time=0), Signals(len(bounds))
    expected: list[int] = expected_tokens(workload.columns).tolist()
    planned = {id(bound.system): _requests(bound, workload, arrival) for bound in bounds}
    lives = Counter[int]()

    def start(number: int, begin: int) -> Replica:
        bound = _reborn(bounds[number], lives[number])
        lives[number] += 1
        requests = planned[id(bound.system)]
        return _replica(env, number, signals, bound, workload, requests, expected, longest_leap, begin)

    age = bounds[0].grid.ticks(cluster.router.signal_age_s)
    if cluster.autoscaling:
        signals.ready = range(cluster.autoscaling.min_replicas)
    dispatcher = Dispatcher(env, start, signals, chooser, age, _control(cluster, bounds[0].grid, seed))
    dispatcher.run(arrival.tolist())
    return dispatcher


def _served(dispatcher: Dispatcher) -> Iterator[Served]:
    """Of all replicas that were sent anything."""
    lives = Counter[int]()
    for replica, _ in dispatcher.lives:
        life, lives[replica.number] = lives[replica.number], lives[replica.number] + 1
        replica.requests.count = len(replica.rows)
        if replica.rows:
            rows = np.array(replica.rows, np.int64)
            yield Served(replica.number, rows, replica.requests, replica.leaps, life)


def _replica_ticks(dispatcher: Dispatcher) -> int:
    """For how long replicas were there, all together: each to its last answer if it was drained, else to the end."""
    end = max(replica.last for replica, _ in dispatcher.lives)
    drained = dispatcher.drained
    return sum(
        (max(replica.last, drained[replica]) if replica in drained else end) - since
        for replica, since in dispatcher.lives
    )


def _reborn(bound: Bound, life: int) -> Bound:
    """With a noise of its own for every life of a replica but the first, which has what `simulate` would have."""
    if not life:
        return bound
    seed = np.random.SeedSequence(bound.seed.entropy, spawn_key=(*bound.seed.spawn_key, life))
    return bound._replace(seed=seed)


def _control(cluster: Cluster, grid: Grid, seed: int) -> Control | None:
    """What changes the fleet."""
    replicas, failures, rule = len(cluster.systems), cluster.failures, cluster.autoscaling
    if rule is not None:
        return Scaler(rule, replicas, max(1, grid.ticks(rule.every_s)), grid.ticks(rule.start_s))
    if failures is None:
        return None
    seeds = (np.random.SeedSequence(seed, spawn_key=(_OUTAGES, number)) for number in range(replicas))
    rngs = map(np.random.default_rng, seeds)
    return Breakdowns([failures.spans(number, grid, rng) for number, rng in enumerate(rngs)], failures.then)


def _replica(
    env: simpy.Environment,
    number: int,
    signals: Signals,
    bound: Bound,
    workload: Workload,
    planned: Requests,
    expected: Sequence[int],
    longest_leap: int,
    begin: int,
) -> Replica:
    inbox = Inbox(planned)
    cost: Timing = bound.cost if bound.spread is None else RedrawnCost(bound.cost, bound.spread, bound.seed)
    hash_tokens = workload.meta["hash_block_tokens"]
    engine = core(bound.system, inbox, bound.grid, hash_tokens=hash_tokens, track_extremes=cost.needs_longest)
    there = bound.grid.ticks(bound.system.overheads.request_path_s)
    with_batch = getattr(bound.system.policy, "release", "request") == "batch"
    return Replica(
        env, number, signals, engine, inbox, with_batch, cost, _delays(bound), there, expected, longest_leap, begin
    )


def _delays(bound: Bound) -> Delays:
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


def _provenance(cluster: Cluster, about: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """As that of a run of one replica, with the cluster in place of its system."""
    systems = [about[id(system)]["system"] for system in cluster.systems]
    shared = {key: value for key, value in about[id(cluster.systems[0])].items() if key != "system"}
    return {**shared, "cluster": {"router": described(cluster.router), "systems": systems}}
