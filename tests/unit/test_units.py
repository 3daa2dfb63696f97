"""The time grid: which one a cost gets, and what rounding to it does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.errors import ConfigError
from simqueue.units import INT64_MAX, PICOSECONDS, Grid, grid_for


def test_picoseconds_unless_something_else_is_needed() -> None:
    assert grid_for([], 1.0) == Grid() == Grid(PICOSECONDS)
    assert grid_for([0.0008, 8e-6, 2e-9, 0.0], 1e5) == Grid()


def test_a_finer_grid_where_picoseconds_would_round_too_much() -> None:
    # 8.1234567 ns: 8123.4567 ps are rounded by 6e-5 of themselves, 812345.67 units of 10 fs by 4e-7.
    assert grid_for([0.001, 8.1234567e-9], 1.0) == Grid(10**14)


def test_a_coarser_grid_for_long_runs_where_the_coefficients_allow_it() -> None:
    assert grid_for([2.0, 0.2], 1e9) == Grid(10**9)
    assert grid_for([2.0, 8e-9], 1e9) == Grid(10**9)
    assert grid_for([2.0, 8.5e-9], 1e9).horizon_s < 1e9


def test_picoseconds_reach_106_days() -> None:
    assert Grid().horizon_s == pytest.approx(106.75 * 86400, rel=1e-3)


@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=4), st.floats(0, 1e12))
def test_rounding_moves_no_coefficient_by_more_than_a_millionth(coefficients: list[float], wished_s: float) -> None:
    grid = grid_for(coefficients, wished_s)
    for c in coefficients:
        assert abs(grid.ticks(c) / grid.ticks_per_s - c) <= 1.001e-6 * c


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=20))
def test_columns_convert_as_single_values_do(seconds: list[float]) -> None:
    grid = Grid()
    assert grid.column(seconds).tolist() == [grid.ticks(s) for s in seconds]
    assert np.abs(grid.seconds(grid.column(seconds)) - seconds).max() <= 1e-12 + 1e-15 * max(seconds)


def test_a_cost_that_no_grid_can_count_is_refused() -> None:
    for coefficient in (1e300, INT64_MAX * 1e-6 * 2, 1e-25):
        with pytest.raises(ConfigError, match="beyond what 64-bit time can count"):
            grid_for([coefficient], 1.0)
