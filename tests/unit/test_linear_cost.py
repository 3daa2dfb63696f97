"""Linear costs: the sums of leaps in closed form against adding up steps, floor and huge numbers included."""

from __future__ import annotations

from itertools import accumulate, islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue import Affine
from simqueue.cost.base import UNLIMITED
from simqueue.cost.linear import LinearCost
from simqueue.errors import ConfigError
from simqueue.plan import Shape
from simqueue.units import Grid

SMALL = st.integers(0, 9)
COSTS = st.builds(LinearCost, SMALL, SMALL, SMALL, SMALL, st.one_of(st.just(0), st.integers(0, 300)))


def one_by_one(cost: LinearCost, rows: int, context: int, steps: int) -> list[int]:
    """Each step's price by the formula alone."""
    return [cost.step(Shape(decode_rows=rows, context=context + rows * age)) for age in range(steps)]


@settings(max_examples=1000)
@given(COSTS, st.integers(1, 9), st.integers(0, 60), st.integers(1, 50), st.integers(1, 4000) | st.just(UNLIMITED))
def test_a_leap_is_the_sum_of_its_steps(cost: LinearCost, rows: int, context: int, steps: int, limit: int) -> None:
    durations = one_by_one(cost, rows, context, steps)
    ends = list(accumulate(durations))
    j = next((j for j, end in enumerate(ends, 1) if end >= limit), steps)
    assert cost.leap(rows, context, 7, steps, limit) == (j, ends[j - 1])
    assert list(islice(cost.series(rows, context, 7, steps), steps)) == durations
    ages = np.arange(steps)
    column = cost.column(np.full(steps, rows), context + rows * ages, 7 + ages)
    assert column.tolist() == durations


@settings(max_examples=300)
@given(
    st.integers(1, 10**15),
    st.integers(0, 10**9),
    st.integers(1, 1024),
    st.integers(0, 10**6),
    st.integers(1, 10**9),
    st.data(),
)
def test_huge_leaps_stop_at_the_very_step(
    base: int, slope: int, rows: int, context: int, steps: int, data: st.DataObject
) -> None:
    cost = LinearCost(base, 0, 0, slope)

    def total(n: int) -> int:
        return n * (base + slope * context) + slope * rows * (n * (n - 1) // 2)

    limit = data.draw(st.integers(1, total(steps)))
    j, duration = cost.leap(rows, context, 0, steps, limit)
    assert duration == total(j)
    assert total(j - 1) < limit <= total(j)
    exact = data.draw(st.integers(1, steps))
    assert cost.leap(rows, context, 0, steps, total(exact)) == (exact, total(exact))


def test_affine_by_hand() -> None:
    """base + per_row * rows (held too) + per_new_token * computed (1 a decoding or held row) + per_context * cached."""
    cost = Affine(1e-3, 1e-4, 1e-5, 1e-6).on(Grid(10**6))
    shape = Shape(
        decode_rows=2, held_rows=3, context=50, longest=15, prefill_rows=4, new_tokens=50, prefill_context=7, widest=20
    )
    assert shape.rows == 9
    assert cost.step(shape) == 1000 + 100 * 9 + 10 * (2 + 3 + 50) + 1 * 57


def test_a_step_lasts_at_least_one_tick() -> None:
    cost = LinearCost(0, 0, 0, 3)
    assert cost.step(Shape(decode_rows=1)) == 1
    assert cost.leap(1, 0, 0, 3, UNLIMITED) == (3, 1 + 3 + 6)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "every coefficient is 0"),
        ({"base_s": -1.0}, "base_s = -1.0 must be a finite number of seconds, 0 or more"),
        ({"base_s": 1.0, "per_row_s": float("nan")}, "per_row_s = nan"),
        ({"per_new_token_s": float("inf")}, "per_new_token_s = inf"),
        ({"base_s": True}, "base_s = True is not a number of seconds"),
    ],
)
def test_affine_refuses(fields: dict[str, float], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Affine(**fields)
