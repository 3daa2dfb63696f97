"""`simulate_cluster`: a workload through a cluster in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np

from simqueue.checks import at_least
from simqueue.cluster.autoscaling import Scaler
from simqueue.cluster.breakdowns import Breakdowns
from simqueue.cluster.callers import Callers
from simqueue.cluster.clock import Clock
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.dealing import chooser_of, dealt
from simqueue.cluster.drive import Control, Dispatcher
from simqueue.cluster.fleet import Chooser, expected_tokens
from simqueue.cluster.inbox import Inbox
from simqueue.cluster.redraw import RedrawnCost
from simqueue.cluster.replica import Replica, Terms
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.saturation import cluster_saturation_rps
from simqueue.cluster.share import Served, part_of, share_of
from simqueue.cluster.signals import Signals
from simqueue.cost.base import UNLIMITED, Timing
from simqueue.errors import ConfigError
from simqueue.fates import outcome_counts
from simqueue.order.vtc import Vtc
from simqueue.provenance import described, provenance
from simqueue.record import Column, Requests
from simqueue.replica import core, is_paged, turns_away
from simqueue.sim.given import Bound, delays_of, expect, fits, limits_of, requests_of, source_of
from simqueue.sim.simulate import bind, fitted, last_arrival_s, run, unanswered
from simqueue.system import System
from simqueue.units import Grid
from simqueue.workload import Workload

# The random stream of outages, apart from those of the workload, of the router and of the noise of each replica.
_OUTAGES = 1 << 18


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
            where the workload lacks a column that the router needs.
    """
    workload = _checked(workload, cluster, warmup)
    bounds = bind_all(cluster, workload, seed)
    grid = bounds[0].grid
    with fits(grid):
        arrival = grid.column(workload.arrival_s)
        chooser = chooser_of(workload, cluster, seed)
        fleet = None
        if cluster.blind and not workload.waits:
            served = _apart(bounds, workload, arrival, chooser, longest_leap)
        else:
            together = _Together(cluster, bounds, workload, arrival, longest_leap)
            fleet = together.dispatched(chooser, seed)
            served = _served(fleet, together.ids)
            workload, arrival = together.realised
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
        arrival,
        len(bounds),
        shares,
        warmup,
        ready=np.array(fleet.ready if fleet else [(0, len(bounds))], np.int64),
        replica_ticks=_replica_ticks(fleet) if fleet else None,
        saturation_rps=cache(lambda: cluster_saturation_rps(workload, cluster)),
        provenance=_provenance(cluster, about),
    )
    if not result.completed[warmup:].any():
        asked = requests_of(bounds[0], workload, arrival)
        raise ConfigError(_unanswered(outcome_counts(result.outcome[warmup:]), cluster.systems[0], asked))
    return result


def _unanswered(outcomes: Mapping[str, int], system: System, requests: Requests) -> str:
    """Why there are no figures, told of the first replica."""
    often = ", or let replicas fail less often" if outcomes["failed"] else ""
    return f"cluster: {unanswered(outcomes, system, requests)}{often}"


def bind_all(cluster: Cluster, workload: Workload, seed: int) -> list[Bound]:
    """Every replica's system on one time grid, which is fine enough for all. Raises ConfigError."""
    bound = {id(system): bind(system, workload, seed) for system in cluster.distinct}
    grid = max((one.grid for one in bound.values()), key=lambda grid: grid.ticks_per_s)
    with fits(grid):
        cost = {id(system): system.overheads.around(system.cost.on(grid), grid) for system in cluster.distinct}
    first = bound[id(cluster.systems[0])].seed
    return [
        bound[id(system)]._replace(grid=grid, cost=cost[id(system)], seed=_child(first, replica))
        for replica, system in enumerate(cluster.systems)
    ]


def _child(seed: np.random.SeedSequence, replica: int) -> np.random.SeedSequence:
    """The noise of a replica: the stream that `simulate` uses for its only one, with another number."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key[:-1], replica))


def _checked(workload: Workload, cluster: Cluster, warmup: int) -> Workload:
    expect(workload, Workload)
    expect(cluster, Cluster)
    if cluster.failures and "patience_s" in workload.extra:
        raise ConfigError(
            "cluster: whose client gives up while replicas fail is not known: leave failures or patience_s out"
        )
    looked_at = not cluster.blind or workload.waits
    if looked_at and any(turns_away(system.policy) for system in cluster.distinct):
        raise ConfigError(
            "cluster: whom a policy turns away while its replica is busy is not known where replicas are looked at or "
            "clients wait for answers: use the router round-robin or random and arrivals that come by themselves, or "
            "leave the policy's max_queue_size and timeouts out"
        )
    if cluster.router.counts == "kv_use" and any(system.memory is None for system in cluster.systems):
        raise ConfigError(
            "cluster: the router least-kv-use looks at memory, and a replica has no limit of it: give memory to all of "
            "them, or take another router"
        )
    for system in cluster.distinct:
        workload = fitted(workload, system)
    at_least("run", "warmup", warmup, 0)
    if warmup >= len(workload):
        raise ConfigError(f"run: warmup = {warmup} leaves none of {len(workload)} requests: lower it")
    span_s = last_arrival_s(workload)
    if cluster.failures:
        cluster.failures.refuse_endless(len(cluster.systems), span_s)
    if cluster.autoscaling:
        cluster.autoscaling.refuse_endless(len(workload), span_s)
    return workload


def _apart(
    bounds: Sequence[Bound], workload: Workload, arrival: Column, chooser: Chooser, longest_leap: int
) -> Iterator[Served]:
    """A router that looks at nothing has dealt before anything runs: each replica runs alone, on its own column."""
    replica = dealt(chooser, workload, len(bounds))
    for number, bound in enumerate(bounds):
        rows = np.flatnonzero(replica == number)
        if len(rows):
            mine = part_of(workload, {name: column[rows] for name, column in workload.columns.items()})
            requests = requests_of(bound, mine, arrival[rows])
            leaps = run(bound, mine, requests, None, longest_leap)
            yield Served(number, rows, requests, leaps, 0)


class _Together:
    """Replicas on one clock, and a router that looks at them or whose clients wait for answers.

    Attributes:
        ids: by row of ``workload``, its place in the order of coming.
    """

    def __init__(
        self, cluster: Cluster, bounds: Sequence[Bound], workload: Workload, arrival: Column, longest_leap: int
    ) -> None:
        self._cluster, self._bounds, self._workload, self._longest_leap = cluster, bounds, workload, longest_leap
        self._arrival, self._clock, self._signals = arrival, Clock(), Signals(len(bounds))
        distinct = {id(bound.system): bound for bound in bounds}
        self._planned = {key: requests_of(bound, workload, arrival) for key, bound in distinct.items()}
        self._expected = expected_tokens(workload.columns).tolist() if cluster.router.counts == "tokens" else None
        self._lives = Counter[int]()
        self._asked = Requests(arrival, workload.prompt_tokens, workload.output_tokens)
        self._callers: Callers | None = None
        if workload.waits:
            source = source_of(workload, bounds[0].grid, self._asked)
            self._callers = Callers(source, len(workload), self._signals)

    def dispatched(self, chooser: Chooser, seed: int) -> Dispatcher:
        """Run until every request has been answered."""
        cluster, grid = self._cluster, self._bounds[0].grid
        if cluster.autoscaling:
            self._signals.ready = range(cluster.autoscaling.min_replicas)
        age = grid.ticks(cluster.router.signal_age_s)
        control = _control(cluster, grid, seed, len(self._workload), self._callers)
        dispatcher = Dispatcher(self._clock, self._start, self._signals, chooser, age, control)
        if self._callers is None:
            dispatcher.run(self._arrival.tolist())
        else:
            dispatcher.serve(self._callers)
        return dispatcher

    @property
    def ids(self) -> Column:
        """int64 ``(requests,)``: by row, its place in the order of coming."""
        return np.arange(len(self._workload)) if self._callers is None else np.array(self._callers.ids, np.int64)

    @property
    def realised(self) -> tuple[Workload, Column]:
        """What came, in order, and when."""
        if self._callers is None:
            return self._workload, self._arrival
        arrival = np.array(self._asked.arrival[:-1], np.int64)
        rows = np.argsort(self.ids) if self._workload.sessions else None
        return self._workload.realised(self._bounds[0].grid.seconds(arrival), rows), arrival

    def _start(self, serial: int, number: int, begin: int) -> Replica:
        """A fresh replica, empty at ``begin``."""
        bound = _reborn(self._bounds[number], self._lives[number])
        self._lives[number] += 1
        inbox = Inbox(self._planned[id(bound.system)])
        cost: Timing = bound.cost if bound.spread is None else RedrawnCost(bound.cost, bound.spread, bound.seed)
        hash_tokens = self._workload.meta["hash_block_tokens"]
        engine = core(bound.system, inbox, bound.grid, hash_tokens=hash_tokens, track_extremes=cost.needs_longest)
        signals, terms = self._signals, self._terms(bound)
        return Replica(self._clock, serial, number, signals, engine, inbox, cost, terms, begin)

    def _terms(self, bound: Bound) -> Terms:
        ticks, over, callers = bound.grid.ticks, bound.system.overheads, self._callers
        return Terms(
            delays_of(bound),
            there=ticks(over.request_path_s),
            back=ticks(over.response_path_s),
            with_batch=getattr(bound.system.policy, "release", "request") == "batch",
            expected=self._expected,
            longest_leap=self._longest_leap,
            fails=self._cluster.failures is not None,
            limits=limits_of(bound) if _has_door(bound.system, self._workload) else None,
            hear=callers.hear if callers else None,
            shows_use=self._cluster.router.counts == "kv_use",
        )


def _has_door(system: System, workload: Workload) -> bool:
    """Whether it matters at which instant somebody is turned away or gives up. Raises ConfigError."""
    refuses_waiting = workload.waits and is_paged(system)
    has = system.admission is not None or "patience_s" in workload.extra or refuses_waiting
    if has and isinstance(system.order, Vtc):
        raise ConfigError(
            'cluster: the order "vtc" counts what has been served at the instant of each arrival, which is not known '
            "where others are turned away, give up or wait for answers: use another order"
        )
    return has


def _served(dispatcher: Dispatcher, ids: Column) -> Iterator[Served]:
    """Of all replicas that were sent anything."""
    lives = Counter[int]()
    for replica, _ in dispatcher.lives:
        life, lives[replica.number] = lives[replica.number], lives[replica.number] + 1
        rows = ids[replica.requests.rows]
        replica.requests.count = len(rows)
        if len(rows):
            yield Served(replica.number, rows, replica.requests, replica.leaps, life)


def _replica_ticks(dispatcher: Dispatcher) -> int:
    """For how long replicas were there or starting, all together: each to its end, or to its last answer if it was
    drained, else to the end of all."""
    end = max(replica.last for replica, _ in dispatcher.lives)
    until = {replica: min(end, max(replica.last, at)) for replica, at in dispatcher.ended.items()}
    return dispatcher.given_up + sum(until.get(replica, end) - since for replica, since in dispatcher.lives)


def _reborn(bound: Bound, life: int) -> Bound:
    """With a noise of its own for every life of a replica but the first, which has what `simulate` would have."""
    if not life:
        return bound
    seed = np.random.SeedSequence(bound.seed.entropy, spawn_key=(*bound.seed.spawn_key, life))
    return bound._replace(seed=seed)


def _control(cluster: Cluster, grid: Grid, seed: int, requests: int, callers: Callers | None) -> Control | None:
    """What changes the fleet."""
    replicas, failures, rule = len(cluster.systems), cluster.failures, cluster.autoscaling
    if rule is not None:
        return Scaler(rule, requests, replicas, max(1, grid.ticks(rule.every_s)), grid.ticks(rule.start_s))
    if failures is None:
        return None
    seeds = (np.random.SeedSequence(seed, spawn_key=(_OUTAGES, number)) for number in range(replicas))
    rngs = map(np.random.default_rng, seeds)
    spans = [failures.spans(number, grid, rng) for number, rng in enumerate(rngs)]
    return Breakdowns(requests, spans, failures.then, callers)


def _provenance(cluster: Cluster, about: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """As that of a run of one replica, with the cluster in place of its system."""
    systems = [about[id(system)]["system"] for system in cluster.systems]
    shared = {key: value for key, value in about[id(cluster.systems[0])].items() if key != "system"}
    router = {"router": described(cluster.router), "systems": systems}
    changes = {name: msgspec.to_builtins(getattr(cluster, name)) for name in ("failures", "autoscaling")}
    return {**shared, "cluster": {**router, **changes}}
