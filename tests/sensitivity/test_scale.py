"""Profiles whose steps take longer or shorter: every kind of step by its own factor, exactly."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiles import cost_of, flat_curve, measured, profile, serving

from simqueue.cost.profile import Measured
from simqueue.cost.scale import Scale, kinds_of, scaled
from simqueue.errors import ConfigError
from simqueue.plan import Shape
from simqueue.profile import Curves, Paths
from simqueue.tables import convert
from simqueue.units import Grid

GRID = Grid()
DECODE = Shape(decode_rows=3, longest=40)
START = Shape(prefill_rows=2, new_tokens=20, widest=12)
BOTH = Shape(decode_rows=3, longest=40, prefill_rows=2, new_tokens=20, widest=12)
FACTORS = st.floats(0.5, 2.0)
TERMS = {
    "decode_factor": 1.09,
    "prefill_factor": 0.97,
    "per_step_s": -5e-5,
    "per_row_s": 1e-6,
    "per_prefill_s": 2e-5,
    "per_prefill_row_s": 3e-6,
    "per_start_row_s": 4e-6,
}


def table(**changes: Any) -> Measured:
    """Two sizes a side, in units of 0.1 ms."""
    sizes = ((1, 4), (1, 64), ((8, 9), (10, 12)), (1, 16), (((20, 25), (30, 35)), ((40, 45), (60, 70))))
    return measured(*sizes, "ceil", -3, 1e-4, **changes)


def seconds(cost: Measured, shape: Shape) -> float:
    return float(GRID.seconds(cost.on(GRID).step(shape)))


def under(cost: Measured, **factors: float) -> Measured:
    return cost_of(scaled(cost.profile, Scale(**factors)))


@given(FACTORS, FACTORS)
def test_without_a_serving_run(decode: float, prefill: float) -> None:
    plain = table()
    moved = under(plain, decode=decode, prefill=prefill)
    assert seconds(moved, DECODE) == pytest.approx(decode * seconds(plain, DECODE), abs=1e-11)
    assert seconds(moved, START) == pytest.approx(prefill * seconds(plain, START), abs=1e-11)
    added = seconds(plain, BOTH) - seconds(plain, DECODE)
    assert seconds(moved, BOTH) - seconds(moved, DECODE) == pytest.approx(prefill * added, abs=1e-11)


@given(FACTORS, FACTORS, FACTORS)
def test_with_a_serving_run(decode: float, prefill: float, start: float) -> None:
    plain = table(serving=serving(**TERMS))
    moved = under(plain, decode=decode, prefill=prefill, start=start)
    assert seconds(moved, DECODE) == pytest.approx(decode * seconds(plain, DECODE), abs=1e-11)
    assert seconds(moved, START) == pytest.approx(start * seconds(plain, START), abs=1e-11)
    added = seconds(plain, BOTH) - seconds(plain, DECODE)
    assert seconds(moved, BOTH) - seconds(moved, DECODE) == pytest.approx(prefill * added, abs=1e-11)


def test_the_paths_of_a_serving_run() -> None:
    before = Paths(**dict.fromkeys(Paths.__struct_fields__, 1.0) | {"start_s": ((0.0, 1.0), (1.0, 2.0)), "wake_s": 1.0})
    moved = scaled(table(serving=serving(paths=before)).profile, Scale(decode=1.5, start=2.0)).serving
    assert moved is not None
    of_start = {"start_s": ((0.0, 2.0), (1.0, 4.0)), "pause_s": 2.0, "pause_per_row_s": 2.0}
    expected = msgspec.structs.replace(before, exposed_s=1.5, exposed_per_row_s=1.5, **of_start)
    assert moved.paths == expected


def test_sums_of_steps() -> None:
    sums = profile(None, None, runner="samples", noise=None, curves=Curves(totals=flat_curve(base_s=(0.25,))))
    assert kinds_of(sums) == ("total",)
    assert seconds(cost_of(scaled(sums, Scale(total=1.5))), DECODE) == pytest.approx(0.375)
    with pytest.raises(ConfigError, match="does not tell decode apart: give total"):
        scaled(sums, Scale(decode=1.5))


def test_as_a_scenario_writes_it() -> None:
    name = "gpt2-h200-bf16-graph-128"
    written = convert(Measured, {"name": name, "scale": {"decode": 1.1}}, "system.cost")
    assert written.extrapolated().scale == Scale(decode=1.1)
    assert seconds(written, DECODE) == pytest.approx(1.1 * seconds(Measured(name=name), DECODE), rel=1e-9)
    with pytest.raises(ConfigError, match=r"does not tell start apart: give decode or prefill"):
        scaled(table().profile, Scale(start=1.1))
    with pytest.raises(ConfigError, match="scale: decode = -1"):
        convert(Measured, {"name": name, "scale": {"decode": -1.0}}, "system.cost")
    with pytest.raises(ConfigError, match=r"system\.cost\.scale"):
        convert(Measured, {"name": name, "scale": {"decod": 1.0}}, "system.cost")
