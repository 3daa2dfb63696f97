"""Costs to which the host's part of a step is added: leaps are what single steps are, pauses cost by what they stop."""

from __future__ import annotations

from itertools import accumulate

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import measured, serving

from simqueue import Affine, Continuous, Overheads
from simqueue.cost.base import UNLIMITED
from simqueue.cost.exposed import ExposedCost
from simqueue.cost.linear import LinearCost
from simqueue.plan import Shape, Work
from simqueue.policy import FastServe, Sglang, Srpt, Tgi, Vllm
from simqueue.policy.base import launches_ahead
from simqueue.profile import ProfileWarning
from simqueue.units import Grid

GRID = Grid()


@given(
    st.integers(1, 50),
    st.integers(0, 9),
    st.integers(0, 60),
    st.integers(0, 40),
    st.integers(0, 5),
    st.integers(1, 6),
    st.integers(1, 40),
    st.one_of(st.integers(1, 4000), st.just(UNLIMITED)),
)
def test_a_leap_ends_where_single_steps_reach_the_limit(
    base: int, slope: int, floor: int, step: int, row: int, rows: int, steps: int, limit: int
) -> None:
    cost = ExposedCost(LinearCost(base, 1, 0, slope, floor), step, row, 0, 0)
    ends = list(accumulate(cost.series(rows, 7, 3, steps)))
    done = next((n for n, end in enumerate(ends, 1) if end >= limit), steps)
    assert cost.leap(rows, 7, 3, steps, limit) == (done, ends[done - 1])
    context = 7 + rows * np.arange(steps)
    column = cost.column(np.full(steps, rows), context, 3 + np.arange(steps))
    assert np.cumsum(column).tolist() == ends
    first = Shape(decode_rows=rows, context=7, longest=3)
    assert cost.step(first) == ends[0] == LinearCost(base, 1, 0, slope, floor).step(first) + step + row * rows


def test_a_pause_costs_by_those_it_stops_and_a_start_nothing() -> None:
    inner = LinearCost(100, 0, 1, 0)
    cost = ExposedCost(inner, 10, 1, 20, 3)
    start = Work(prefill_rows=2, new_tokens=9, widest=5)
    assert cost.step(start) == inner.step(start)
    assert cost.step(msgspec.structs.replace(start, paused=4)) == inner.step(start) + 20 + 3 * 4
    # Held rows wait for the host as those do that decode.
    assert cost.step(Shape(decode_rows=1, held_rows=2, context=9, longest=3)) == 100 + 3 + 10 + 3


def test_who_launches_ahead() -> None:
    assert launches_ahead(Continuous(4))
    assert launches_ahead(Vllm())
    assert not any(map(launches_ahead, (Tgi(), Sglang(), FastServe(), Srpt(preemption="swap"))))


def test_a_profile_adds_the_host_where_nothing_is_launched_ahead() -> None:
    hidden = ("exposed_s", "exposed_per_row_s", "pause_s", "pause_per_row_s")
    paths = msgspec.structs.replace(serving().paths, **dict.fromkeys(hidden, 1e-5), response_path_s=1e-4)
    cost = measured((1,), (1, 9), [[5, 5]], (1,), [[[5, 5]]], "ceil", 0, 1e-3, serving=serving(paths=paths))
    for policy, found in ((Vllm(), 0.0), (Tgi(), 1e-5)):
        over = Overheads.measured(policy, cost)
        assert [getattr(over, name) for name in hidden] == [found] * 4
        assert over.response_path_s == 1e-4
    unknown = msgspec.structs.replace(paths, exposed_s=None)
    older = measured((1,), (1, 9), [[5, 5]], (1,), [[[5, 5]]], "ceil", 0, 1e-3, serving=serving(paths=unknown))
    Overheads.measured(Vllm(), older)
    with pytest.warns(ProfileWarning, match="profile made-up does not know what steps take .* as under Tgi"):
        assert Overheads.measured(Tgi(), older).exposed_s == 0
    plain = Affine(base_s=1.0).on(GRID)
    assert Overheads().around(plain, GRID) is plain
    assert Overheads(exposed_s=0.5).around(plain, GRID).step(Shape(decode_rows=1)) == GRID.ticks(1.5)


@pytest.mark.parametrize("name", ["exposed_s", "exposed_per_row_s", "pause_s", "pause_per_row_s"])
def test_negative_seconds_are_refused(name: str) -> None:
    with pytest.raises(Exception, match=f"overheads: {name} = -1.0"):
        Overheads(**{name: -1.0})
