"""Runs without an event loop equal those with one, leap by leap, and are refused or left alone where that must be."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue import (
    Affine,
    Continuous,
    Dynamic,
    LognormalNoise,
    Measured,
    NoBatching,
    Overheads,
    Static,
    System,
    Workload,
    WorkloadSpec,
    make_workload,
    simulate,
)
from simqueue.cost.base import UNLIMITED
from simqueue.errors import ConfigError
from simqueue.policy import BatchingPolicy
from simqueue.workload import FixedThink, Geometric, Lognormal, Poisson, Users

# One less than no limit: never reached, and yet step by step is what the event loop is for.
LOOP = UNLIMITED - 1
SPEC = WorkloadSpec(
    requests=300,
    arrivals=Poisson(rate=1.0),
    prompt_tokens=Lognormal(mean=60, cv=0.66, max=300),
    output_tokens=Geometric(mean=40, max=300),
)
COSTS = (
    Affine(base_s=8e-4, per_row_s=8e-6, per_new_token_s=8e-6, per_context_token_s=2e-9),
    Measured(name="gpt2-h200-bf16-graph"),
    Measured(name="gpt2-h200-bf16-graph", curve=True),
)
POLICIES = (
    *(NoBatching(), Static(batch=1), Static(batch=7), Static(batch=7, release="request")),
    *(Dynamic(), Dynamic(max_batch=16, max_wait_s=0.02, release="request"), Dynamic(max_batch=8, min_batch=3)),
    *(Continuous(max_seqs=1), Continuous(max_seqs=24)),
    *(Continuous(max_seqs=1, max_tokens=1), Continuous(max_seqs=24, max_tokens=24)),
    *(Continuous(max_seqs=24, max_tokens=64), Continuous(max_seqs=200, max_tokens=2048)),
)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every run in turn, whether it went without an event loop."""
    found: list[bool] = []

    def spied(*given: Any) -> Any:
        found.append((leaps := shortcut(*given)) is not None)
        return leaps

    # `simqueue.sim.simulate` is the function, and this its module.
    module = import_module("simqueue.sim.simulate")
    shortcut = module.shortcut
    monkeypatch.setattr(module, "shortcut", spied)
    return found


@pytest.mark.parametrize("cost", COSTS, ids=("affine", "table", "curve"))
@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_leap_by_leap_what_the_event_loop_does(policy: BatchingPolicy, cost: Any, taken: list[bool]) -> None:
    system = System(policy=policy, cost=cost, overheads=Overheads(request_path_s=0.001, response_per_row_s=1e-5))
    for rate in (5.0, 300.0):
        workload = make_workload(SPEC, 3).at_rate(rate)
        short, loop = simulate(workload, system), simulate(workload, system, longest_leap=LOOP)
        for name, column in loop.leaps.items():
            np.testing.assert_array_equal(short.leaps[name], column)
        for name in ("scheduled", "first_token", "finished"):
            np.testing.assert_array_equal(getattr(short, name), getattr(loop, name))
    assert taken == [True, True]


@given(st.data(), st.sampled_from(COSTS), st.sampled_from((0.0, 1e-4)))
def test_whatever_comes(data: st.DataObject, cost: Any, exposed_s: float) -> None:
    """Also where requests come at one instant, and steps take what the host does beside them."""
    rows = st.tuples(st.sampled_from((0.0, 0.001, 0.2)), st.integers(1, 300), st.integers(1, 60))
    gaps, prompt, output = np.array(data.draw(st.lists(rows, min_size=1, max_size=40))).T
    workload = Workload.from_columns(np.cumsum(gaps), prompt, output)
    system = System(policy=data.draw(st.sampled_from(POLICIES)), cost=cost, overheads=Overheads(exposed_s=exposed_s))
    short, loop = simulate(workload, system), simulate(workload, system, longest_leap=LOOP)
    for name, column in loop.leaps.items():
        np.testing.assert_array_equal(short.leaps[name], column)
    for name in ("scheduled", "first_token", "finished"):
        np.testing.assert_array_equal(getattr(short, name), getattr(loop, name))


@pytest.mark.parametrize("outputs", [[2**31 - 1, 5, 7], [1_000_000] * 2200], ids=("one", "many"))
def test_more_decode_steps_than_can_be_counted(outputs: list[int], taken: list[bool]) -> None:
    ones = [1] * len(outputs)
    workload = Workload.from_columns([0.0] * len(outputs), ones, outputs)
    result = simulate(workload, System(policy=Continuous(max_seqs=1), cost=Affine(base_s=1e-6)))
    assert result.grid.seconds(result.finished[-1]) == pytest.approx(1e-6 * sum(outputs))
    assert taken == [False]


def test_seats_and_tokens_without_an_end_and_columns_that_are_no_arrays_of_their_own(taken: list[bool]) -> None:
    workload = Workload.from_columns(np.arange(5.0), np.broadcast_to(5, 5), np.broadcast_to(3, 5))
    for policy in (Continuous(max_seqs=2**70), Continuous(max_seqs=2, max_tokens=2**63)):
        assert (
            simulate(workload, System(policy=policy, cost=Affine(base_s=1e-3))).summary()["response_s"]["p99"] == 0.003
        )
    assert all(taken)


class OneMore(Static, frozen=True):
    """Derived from a policy with a shortcut; it may decide otherwise."""


@pytest.mark.parametrize(
    ("spec", "system"),
    [
        (SPEC, System(policy=OneMore(batch=2), cost=COSTS[0])),
        (SPEC, System(policy=NoBatching(), cost=COSTS[0], noise=LognormalNoise(cv=0.1))),
        (SPEC, System(policy=NoBatching(), cost=COSTS[0], overheads=Overheads(handover_s=0.001))),
        (SPEC, System(policy=Continuous(max_seqs=8), cost=COSTS[0], overheads=Overheads(wake_s=0.001))),
        (
            msgspec.structs.replace(SPEC, arrivals=Users(users=5, think_s=FixedThink(value=1.0))),
            System(policy=NoBatching(), cost=COSTS[0]),
        ),
    ],
    ids=("derived", "noise", "handover", "wake", "users"),
)
def test_all_else_goes_through_the_event_loop(spec: WorkloadSpec, system: System, taken: list[bool]) -> None:
    simulate(make_workload(spec, 1), system)
    assert not any(taken)


@pytest.mark.parametrize("policy", [NoBatching(), Static(batch=2), Continuous(max_seqs=2)], ids=str)
def test_what_leaves_64_bits_is_refused_as_ever(policy: BatchingPolicy) -> None:
    workload = Workload.from_columns([0.0, 1.0, 2.0], [1, 1, 1], [1000, 1000, 1000])
    with pytest.raises(ConfigError, match="64-bit time"):
        simulate(workload, System(policy=policy, cost=Affine(base_s=1e4)))
