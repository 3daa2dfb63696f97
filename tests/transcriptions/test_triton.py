"""`triton` makes the batches of Triton's own rule, and rejects whom that rejects, each at the same instant."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from triton import Config, Policy, Request, Server

from simqueue.cost.linear import LinearCost
from simqueue.engine import Engine
from simqueue.policy import Triton
from simqueue.policy.triton_queue import QueuePolicy
from simqueue.record import Requests, settle
from simqueue.sim.driver import drive
from simqueue.source import Columns
from simqueue.units import INT64_MAX, Grid

EXAMPLES = settings().max_examples
MS = 1000
GRID = Grid(10**6)
_DELAYS = st.sampled_from([0, 5, 20, 60]).map(lambda ms: ms * MS)
_TIMEOUTS = st.one_of(st.integers(1, 30), st.sampled_from([50, 300, 700, 1700])).map(lambda ms: ms * MS)
_POLICIES = st.builds(
    Policy,
    delay=st.booleans(),
    timeout=st.just(0) | _TIMEOUTS,
    override=st.booleans(),
    size=st.just(0) | st.integers(1, 6),
)


@st.composite
def plain(draw: st.DrawFn) -> Config:
    most = draw(st.integers(1, 8))
    preferred = draw(st.frozensets(st.integers(1, most), max_size=3))
    return Config(most, preferred or frozenset({most}), draw(_DELAYS))


@st.composite
def with_policies(draw: st.DrawFn) -> Config:
    one, levels = draw(plain()), draw(st.sampled_from([0, 0, 1, 2, 3]))
    policies = draw(st.dictionaries(st.integers(1, levels), _POLICIES)) if levels else {}
    default_level = draw(st.integers(1, levels)) if levels else 0
    return Config(one.max_batch, one.preferred, one.delay, levels, default_level, draw(_POLICIES), policies)


@st.composite
def loads(draw: st.DrawFn, least: int) -> list[Request]:
    """A load is more than a server takes in, about as much, or less."""
    widest, count = draw(st.sampled_from([2, 6, 20, 100])), draw(st.integers(1, 30))
    rows = st.tuples(st.integers(least, widest), st.integers(0, 4), st.just(0) | _TIMEOUTS)
    gaps, priorities, timeouts = zip(*draw(st.lists(rows, min_size=count, max_size=count)), strict=True)
    starts = (np.cumsum(gaps) * MS).tolist()
    return [Request(*row) for row in zip(range(count), starts, priorities, timeouts, strict=True)]


def policy_of(config: Config) -> Triton:
    return Triton(
        config.max_batch,
        tuple(config.preferred),
        config.delay,
        race_probability=0.0,
        priority_levels=config.levels,
        default_priority_level=config.default_level,
        default_queue_policy=queue_policy(config.default),
        priority_queue_policy={level: queue_policy(policy) for level, policy in config.policies.items()},
    )


def queue_policy(policy: Policy) -> QueuePolicy:
    return QueuePolicy("DELAY" if policy.delay else "REJECT", policy.timeout, policy.override, policy.size)


def made(config: Config, load: list[Request], base: int, per_row: int) -> Server:
    """What Triton does."""
    server = Server(config, lambda size: base + per_row * size)
    server.run(load)
    return server


def simulated(
    config: Config, load: list[Request], base: int, per_row: int
) -> tuple[list[tuple[int, list[int]]], dict[int, int]]:
    """The batches, and who was rejected when."""
    ones = np.ones(len(load), np.int64)
    traits = {
        "priority": [request.priority for request in load],
        "ttft_slo": [request.timeout or INT64_MAX for request in load],
    }
    requests = Requests(np.array([request.start for request in load]), ones, ones, traits=traits)
    engine = Engine(policy_of(config), requests, GRID, track_extremes=False)
    leaps = drive(engine, requests, Columns(requests.arrival), LinearCost(base, per_row, 0, 0)).columns()
    scheduled, _, finished = settle(requests, leaps, with_batch=True)
    assert set(requests.outcome.values()) <= {"rejected"}
    batches = defaultdict(list)
    for i, start in enumerate(scheduled.tolist()):
        if i not in requests.outcome:
            batches[start].append(i)
            assert finished[i] > start
    return sorted(batches.items()), {i: int(finished[i]) for i in requests.outcome}


def check(config: Config, load: list[Request], base: int, per_row: int) -> None:
    server = made(config, load, base, per_row)
    expected = [(start, sorted(ids)) for start, ids in server.batches], server.rejected
    assert simulated(config, load, base, per_row) == expected


@settings(max_examples=EXAMPLES)
@given(plain(), loads(1), st.integers(1, 30), st.integers(0, 5))
def test_batches_are_formed_ahead_as_triton_forms_them(
    config: Config, load: list[Request], base: int, per_row: int
) -> None:
    check(config, load, base * MS, per_row * MS)


@settings(max_examples=3 * EXAMPLES)
@given(with_policies(), loads(0), st.sampled_from([1, 10, 25, 60, 600, 1300]), st.integers(0, 5))
def test_queue_policies_are_tritons(config: Config, load: list[Request], base: int, per_row: int) -> None:
    check(config, load, base * MS, per_row * MS)
